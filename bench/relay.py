"""The command: measures what relaying costs, beside nginx and Envoy, and judges it by the budget.

    python -m bench.relay [--quick | --full] [--no-pin] [--systems gateway,nginx] [--out FILE]

The table goes to standard output, progress to standard error, and everything to a JSON file. It ends with 0 where all
rows could be measured, 1 where one has failed, 130 where it was interrupted; what was measured until then is kept.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from bench import report
from bench.bench import Bench, Roles, roles
from bench.measures import Measure, measures, scripts
from bench.report import Measured
from bench.rows import FULL, NORMAL, QUICK, Plan
from bench.systems import HOW_TO_GET, ROOT, installed, version

_PROXIES: Final = ("gateway", "nginx", "envoy")
_PACKAGES: Final = ("uvloop", "httptools", "aiohttp", "msgspec")


class Run(msgspec.Struct, kw_only=True):
    """What is written to the file: enough to make the table again, and to know what it is of."""

    at: str
    commit: str
    machine: dict[str, str | int | float]
    versions: dict[str, str]
    plan: Plan
    cores: Roles
    absent: dict[str, str]
    interrupted: bool = False
    seconds: float = 0.0
    rows: list[Measured] = []

    def keep(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        draft.replace(path)


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    plan = QUICK if options.quick else FULL if options.full else NORMAL
    wanted = ("direct", *options.systems.split(","))
    run = _about(plan, roles(pin=options.pin), [name for name in wanted if name in _PROXIES])
    started_s = time.monotonic()
    try:
        _measure(run, [name for name in wanted if name not in run.absent], options.out)
    except KeyboardInterrupt:
        run.interrupted = True
        _say("interrupted: what was measured until now is kept")
    run.seconds = round(time.monotonic() - started_s, 1)
    run.keep(options.out)
    sys.stdout.write(_text(run) + "\n")
    _say(f"{run.seconds:.0f} s; written to {options.out}")
    return 130 if run.interrupted else int(any(measured.failures for measured in run.rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__.partition("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a first impression within a minute")
    size.add_argument("--full", action="store_true", help="more rounds, and 5,000 streams")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let the kernel choose the cores")
    parser.add_argument("--systems", default=",".join(_PROXIES), help="which ones, with commas (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "relay.json", help="where the JSON goes")
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(run: Run, systems: list[str], out: Path) -> None:
    """Take all measures; the run holds what was taken, whenever it is interrupted."""
    with Bench(run.plan, run.cores, scripts(run.plan)) as bench:
        for measure in measures(run.plan):
            _take(bench, run, measure, [name for name in systems if name in measure.systems])
            run.keep(out)


def _take(bench: Bench, run: Run, measure: Measure, systems: list[str]) -> None:
    """Take one measure of all systems, round by round. A system that fails once has failed."""
    taken = [Measured(row=row) for row in measure.rows]
    run.rows += taken
    failed: set[str] = set()
    for number in range(measure.rounds):
        for name in systems:
            if name in failed:
                continue
            try:
                found = measure.take(bench, name)
            except RuntimeError as error:
                failed.add(name)
                for measured in taken:
                    measured.failures[name] = str(error)
                _say(f"{measure.rows[0].title}: {name} failed: {error}")
                continue
            for measured, value in zip(taken, found, strict=True):
                measured.rounds.setdefault(name, []).append(value)
            told = ", ".join(f"{value:.2f}{row.unit and ' ' + row.unit}" for row, value in zip(measure.rows, found, strict=True))
            _say(f"{measure.rows[-1].title}, round {number + 1} of {measure.rounds}: {name} {told}")


def _about(plan: Plan, cores: Roles, names: list[str]) -> Run:
    present = [name for name in names if installed(name)]
    return Run(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        machine=_machine(),
        versions={name: version(name) for name in present}
        | {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        plan=plan,
        cores=cores,
        absent={name: HOW_TO_GET.get(name, "") for name in names if name not in present},
    )


def _commit() -> str:
    """The commit, marked where files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return said.stdout.strip() or "unknown"


def _machine() -> dict[str, str | int | float]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
    }


def _text(run: Run) -> str:
    """The report: of what, the table, and what is missing."""
    pinned = f"system on core {run.cores.system}, provider on {run.cores.provider}, load on {run.cores.load}"
    head = (
        f"kyma-proxy {run.commit}, {run.at}, plan {run.plan.name}; {run.machine['cores']} cores, {run.machine['processor']}; "
        f"{pinned if run.cores.system is not None else 'no core is pinned'}.\n"
        "Median over the rounds (lowest–highest); ratios are medians of each round's ratio.\n"
        "Rows that say `added` are over the direct connection, whose own value stands in its column."
    )
    parts = [head, report.table(run.rows)]
    if run.absent:
        parts.append(report.absent(run.absent))
    if run.interrupted:
        parts.append("Interrupted: the table is not complete.")
    return "\n\n".join(parts)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
