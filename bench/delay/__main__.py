"""Shows the delay of each event over a minute beside nginx's, and what the gateway did when one was late.

    python -m bench.delay [--streams 100 1000] [--seconds 60] [--short-rate 100] [--mixed] [--late-ms 5] [--out DIRECTORY]

The gateway has every feature on: accounts, charges, a log. It notes its collector's runs, its sweeper's ticks, the log's writes
and the ledger's statements, through a wrapper that only this command uses. The exit code is 1 if something failed, or if the
99.9th percentile is more than 0.5 ms above nginx's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.delay.arrivals import MIXED_MODELS, Arrivals, Task, read
from bench.delay.causes import Late, Mark, late_events, own_holds
from bench.harness import Harness, assign_cores, generate_load
from bench.machine import BackgroundLoad
from bench.processes import ROOT, preexec
from bench.results import Cores
from bench.scenario import Load, Point
from bench.script import Script, parse
from bench.statistics import quantile
from bench.systems.gateway import Gateway
from bench.systems.nginx import Nginx
from bench.systems.target import Target

_WRAPPER: Final = ROOT / "bench" / "delay" / "marked_gateway.py"
_ACCOUNTS: Final = 1000
_EVENTS_PER_S: Final = 2000
_SPARE_S: Final = 5
_GRACE_S: Final = 30.0
_MAX_ADDED_MS: Final = 0.5
_SHOWN: Final = 12
_SHARES: Final = (0.5, 0.99, 0.999, 1.0)


class MarkedGateway(Gateway, frozen=True, kw_only=True):
    """The gateway within the wrapper that notes its moments in `marks`."""

    marks: Path
    start_timeout_s: float = 60.0

    def command(self) -> Sequence[str] | None:
        """The wrapper's command, in the place of the package's."""
        if Gateway.command(self) is None:
            return None
        return (sys.executable, "-P", str(_WRAPPER), str(self.marks), "serve", "--config")


class Seen(msgspec.Struct, frozen=True):
    """The events of one system's streams, and the moments that it noted."""

    arrivals: Arrivals
    marks: tuple[Mark, ...] = ()

    @property
    def figures_ms(self) -> list[float]:
        """Median, 99th and 99.9th percentile, and the longest delay."""
        ordered = sorted(self.arrivals.delay_ns)
        return [quantile(ordered, share) / 1e6 for share in _SHARES]


def main() -> int:
    """Measure, print and draw; returns the exit code."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    is_within = True
    for streams in options.streams:
        background = BackgroundLoad()
        try:
            seen = _measure(options, streams)
        except RuntimeError as error:
            sys.stderr.write(f"{streams} streams: {error}\n")
            return 1
        print(report(streams, seen, options.late_ms), flush=True)
        print(f"\nother processes kept {background.others_cores():.1f} cores busy\n", flush=True)
        is_within = is_within and _added_tail_ms(seen) <= _MAX_ADDED_MS
        _draw(options.out / f"streams-{streams}.svg", streams, seen)
    return int(not is_within)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.delay", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", nargs="+", type=int, default=[100, 1000], metavar="N", help="streams at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each system is watched (default: 60)")
    parser.add_argument("--short-rate", type=float, default=100.0, help="short requests a second beside the streams")
    parser.add_argument("--mixed", action="store_true", help="large prompts, translations and callers who leave as well")
    parser.add_argument("--late-ms", type=float, default=5.0, help="from which delay on an event is explained (default: 5)")
    parser.add_argument("--path", type=Path, help="a directory with a built kyma_proxy, in the place of the installed one")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let the kernel choose the cores")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "delay", help="where plots and data go")
    return parser.parse_args()


def _measure(options: argparse.Namespace, streams: int) -> dict[str, Seen]:
    gap_ms = max(20, streams * 1000 // _EVENTS_PER_S)
    events = int((options.seconds + _SPARE_S) * 1000 / gap_ms) + 1
    script = Script(events=events, gap_ms=gap_ms, tick_ms=1)
    point = Point(
        scenario="delay", title="", name="", provider=script, tls=False, load=Load(shape="streams", connections=streams),
        gateway={}, more_models=0, accounts=_ACCOUNTS, fresh=True, report=(), systems=(), rounds=1,
    )  # fmt: skip
    cores = assign_cores(pin=options.pin)
    marks = options.out / "marks.json"
    marks.unlink(missing_ok=True)
    systems = {"nginx": Nginx(), "gateway": MarkedGateway(path=options.path, marks=marks)}
    seen = {}
    models = [msgspec.structs.replace(point, provider=parse(model) or script) for model in MIXED_MODELS]
    with Harness(systems, cores, (point, *models), generate_load) as harness:
        for name in ("direct", *systems):
            target = harness.start_target(name, point)
            try:
                arrivals = _watch(target, options, streams, script.model, cores)
            finally:
                target.stop()
            seen[name] = Seen(arrivals)
    noted = msgspec.json.decode(marks.read_bytes(), type=tuple[Mark, ...]) if marks.exists() else ()
    seen["gateway"] = Seen(seen["gateway"].arrivals, noted)
    return seen


def _watch(target: Target, options: argparse.Namespace, streams: int, model: str, cores: Cores) -> Arrivals:
    out = options.out / f"{target.name}-{streams}.bin"
    task = Task(
        port=target.port, model=model, streams=streams, seconds=options.seconds, out=str(out), headers=target.headers,
        short_rate_per_s=options.short_rate, is_mixed=options.mixed,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench.delay.arrivals", msgspec.json.encode(task).decode()],
        capture_output=True, text=True, timeout=options.seconds + _GRACE_S, cwd=ROOT, preexec_fn=preexec(cores.load),
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{target.name}: {done.stderr.strip()[-300:]}")
    return read(out)


def report(streams: int, seen: dict[str, Seen], late_ms: float) -> str:
    """The percentiles of all systems, and what the gateway did when events were late."""
    lines = [
        f"## {streams:,} streams",
        "",
        "| | events | median (ms) | 99th percentile | 99.9th | longest |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in seen.items():
        figures = " | ".join(f"{figure:.2f}" for figure in one.figures_ms)
        lines.append(f"| {name} | {len(one.arrivals.delay_ns):,} | {figures} |")
    lines += ["", f"99.9th percentile: {_added_tail_ms(seen):+.2f} ms beside nginx (limit: +{_MAX_ADDED_MS} ms)"]
    gateway = seen["gateway"]
    late = late_events(gateway.arrivals.came_ns, gateway.arrivals.delay_ns, gateway.marks, int(late_ms * 1e6))
    start_ns = gateway.arrivals.came_ns[0]
    holds = own_holds([one for one in gateway.marks if one.start_ns >= start_ns], int(late_ms * 1e6))
    return "\n".join([*lines, "", *_late_lines(late, start_ns, late_ms), "", *_held(holds, start_ns, late_ms)])


def _late_lines(late: Sequence[Late], start_ns: int, late_ms: float) -> list[str]:
    if not late:
        return [f"No event was late by {late_ms:g} ms."]
    worst = sorted(late, key=lambda one: -one.worst_ns)[:_SHOWN]
    lines = [f"{sum(one.count for one in late)} events were late by {late_ms:g} ms, at {len(late)} moments; the worst:", ""]
    for one in worst:
        at_s = (one.at_ns - start_ns) / 1e9
        lines.append(f"- {at_s:.3f} s, {one.count} events, up to {one.worst_ns / 1e6:.1f} ms: {one.cause}")
    return lines


def _held(holds: Sequence[Mark], start_ns: int, late_ms: float) -> list[str]:
    """The moments that are the gateway's own, whatever else ran on the machine."""
    if not holds:
        return [f"The gateway itself never held up its loop for {late_ms:g} ms."]
    lines = [f"The gateway itself held up its loop for {late_ms:g} ms or more {len(holds)} times; the longest:", ""]
    for one in holds[:_SHOWN]:
        detail = one.detail.replace("\n", "\n    ")
        lines.append(f"- {(one.start_ns - start_ns) / 1e9:.3f} s, {one.own_ns / 1e6:.1f} ms of its own: {detail}")
    return lines


def _added_tail_ms(seen: dict[str, Seen]) -> float:
    return seen["gateway"].figures_ms[2] - seen["nginx"].figures_ms[2]


def _draw(path: Path, streams: int, seen: dict[str, Seen]) -> None:
    from bench.delay.plot import write_plot  # noqa: PLC0415  (a table needs no plotting library)

    shown = {name: seen[name].arrivals for name in ("gateway", "nginx")}
    title = f"Added delay of each event, {streams:,} streams, every feature on"
    write_plot(path, title, shown, seen["gateway"].marks, seen["direct"].figures_ms[0] * 1e6)


if __name__ == "__main__":
    sys.exit(main())
