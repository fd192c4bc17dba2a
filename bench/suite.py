"""The command: measures what a gateway costs, beside its peers, and judges it by the budget.

    python -m bench.suite [--plan quick|bench|all] [--only SCENARIO …] [--systems NAME …] [--no-pin] [--out FILE]

The report goes to standard output, progress to standard error, and everything to a JSON file, from which `bench.report`
makes the report again. It ends with 0 where the gateway could be measured everywhere, 1 where it has failed, 130 where it
was interrupted; what was measured until then is kept.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from bench import report
from bench.bench import Bench, roles
from bench.histogram import merged
from bench.processes import ROOT
from bench.results import Measured, Run, Taken
from bench.run import Watch, begin
from bench.scenario import Point, Scenarios, read
from bench.systems.contract import System
from bench.systems.field import FIELD
from bench.taking import Sample, take

RESULTS: Final = ROOT / "bench" / "results"
_SYSTEMS: Final = {"quick": ("gateway", "nginx", "envoy"), "bench": ("gateway", "nginx"), "all": tuple(FIELD)}
_FAILURES_TOLD: Final = 200


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = _parser()
    options = parser.parse_args()
    scenarios = read(options.plan)
    if options.only:
        try:
            scenarios = scenarios.only(options.only)
        except KeyError as error:
            parser.error(f"there is no scenario {error.args[0]} in the plan {options.plan}; there are: {scenarios.names()}")
    names = options.systems or _SYSTEMS[options.plan]
    run = measure(options.plan, scenarios, {name: FIELD[name] for name in names}, options.out, pin=options.pin)
    sys.stdout.write(report.markdown(run) + "\n")
    if run.interrupted:
        return 130
    return int(any("gateway" in one.taken and one.taken["gateway"].failed for one in run.measured))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.suite", description=__doc__.partition("\n")[0])
    parser.add_argument("--plan", choices=tuple(_SYSTEMS), default="bench", help="how much is measured (default: bench)")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help="scenarios, or points of one: short stream@100")
    parser.add_argument("--systems", nargs="+", choices=tuple(FIELD), help="which ones (default: the plan's)")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let the kernel choose the cores")
    parser.add_argument("--out", type=Path, default=RESULTS / "run.json", help="where the JSON goes")
    return parser


def measure(plan: str, scenarios: Scenarios, systems: Mapping[str, System], out: Path, *, pin: bool) -> Run:
    """Measure everything; what was measured is in the file and in the answer, also where Ctrl-C cut it short."""
    cores = roles(pin=pin)
    run = begin(plan, cores, systems, scenarios.budget)

    def interrupt(number: int, frame: FrameType | None) -> None:
        run.interrupted = True  # what is raised within a destructor is lost
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    for name, how in run.absent.items():
        say(f"{systems[name].title} is absent. {how}")
    watch = Watch()
    try:
        with Bench(systems, cores, scenarios.points) as bench:
            _measure_all(bench, run, scenarios, [name for name in systems if name not in run.absent], out)
    except KeyboardInterrupt:
        say("interrupted: what was measured until now is kept")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        run.seconds, run.others_cores = round(watch.seconds(), 1), round(watch.others_cores(), 2)
        run.keep(out)
        say(f"{run.seconds:.0f} s; written to {out}")
    return run


def _measure_all(bench: Bench, run: Run, scenarios: Scenarios, systems: Sequence[str], out: Path) -> None:
    watch = Watch()
    names = list(dict.fromkeys(point.scenario for point in scenarios.points))
    for at, name in enumerate(names, 1):
        measured = [Measured(point=point) for point in scenarios.points if point.scenario == name]
        run.measured += measured
        rounds = max(one.point.rounds for one in measured)
        for number in range(rounds):
            say(f"{watch.seconds():.0f} s: {at} of {len(names)}, {name}, round {number + 1} of {rounds}")
            turn = [(one, system) for one in measured for system in ("direct", *systems)]
            for one, system in turn if number % 2 == 0 else reversed(turn):  # what comes first must not be so always
                if run.interrupted:
                    raise KeyboardInterrupt
                if one.point.takes(system) and number < scenarios.rounds_for(one.point, system):
                    _take(bench, scenarios, one, system)
        bench.retire(scenarios.slow)
        run.keep(out)


def _take(bench: Bench, scenarios: Scenarios, measured: Measured, name: str) -> None:
    """Take one round of one system. One that fails once has failed."""
    taken = measured.taken.setdefault(name, Taken())
    if taken.failed is not None:
        return
    point = measured.point
    try:
        sample = take(bench, point, name, scenarios.load_for(point, name))
    except (RuntimeError, OSError, msgspec.MsgspecError) as error:
        measured.taken[name] = Taken(failed=str(error)[:_FAILURES_TOLD])
        say(f"  {point.name} {name} failed: {error}")
        return
    for metric, value in sample.values.items():
        taken.values.setdefault(metric, []).append(value)
    for kind, coded in sample.histograms.items():
        taken.histograms[kind] = merged((taken.histograms[kind], coded)) if kind in taken.histograms else coded
    say(f"  {point.name} {name}: {_told(point, sample)}".replace("   ", "  "))


def _told(point: Point, sample: Sample) -> str:
    metrics = (metric.removeprefix("added_") for metric in point.report)
    return ", ".join(f"{metric} {sample.values[metric]:,.1f}" for metric in metrics if metric in sample.values)


def say(line: str) -> None:
    """A line of progress."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
