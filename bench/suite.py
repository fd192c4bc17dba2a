"""The benchmark command: measures the gateway and its peers, and compares the gateway with its budget.

    python -m bench.suite [--plan quick|bench|all] [--only SCENARIO …] [--systems NAME …] [--no-pin] [--out FILE]
    python -m bench.suite --scenarios mine.yaml         # scenarios of your own, in the form of bench/scenarios.yaml

The report goes to standard output, progress to standard error, and everything to a JSON file, from which `bench.report`
makes the report again. The exit code is 0 if the gateway was measured at every point, 1 if it failed at one, and 130 after an
interrupt; the samples taken until then are kept. It is 2 if the scenarios can't be read; each mistake is told with its line.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from bench import forecast, report
from bench.figures import label
from bench.forecast import Forecast
from bench.harness import GenerateLoad, Harness, assign_cores, generate_load
from bench.histogram import merge
from bench.machine import BackgroundLoad, new_run, tree_version
from bench.processes import ROOT
from bench.results import Measurement, Run, Samples
from bench.sampling import Sample, take_sample
from bench.scenario import PlanName, Point, Scenarios
from bench.scenario_file import FILE, read
from bench.systems.contract import System
from bench.systems.registry import SYSTEMS
from bench.yaml_lines import FileError

RESULTS: Final = ROOT / "bench" / "results"
_SYSTEMS_OF_PLAN: Final[dict[PlanName, tuple[str, ...]]] = {
    "quick": ("gateway", "nginx", "envoy"),
    "bench": ("gateway", "nginx"),
    "all": tuple(SYSTEMS),
}
_MAX_REASON_CHARS: Final = 200


def main(
    arguments: Sequence[str] | None = None,
    *,
    systems: Mapping[str, System] = SYSTEMS,
    read_plan: Callable[[PlanName, Path], Scenarios] = read,
) -> int:
    """Run the benchmark; returns the exit code. `arguments` are the command line's by default."""
    parser = _parser(systems)
    options = parser.parse_args(arguments)
    try:
        scenarios = read_plan(options.plan, options.scenarios)
    except (FileError, OSError) as error:
        text = f"{options.scenarios}: {(error.strerror or '').lower()}" if isinstance(error, OSError) else str(error)
        log_progress(text)
        return 2
    if not scenarios.points:
        parser.error(f"{options.scenarios} has no scenario in the plan {options.plan}")
    if options.only:
        try:
            scenarios = scenarios.only(options.only)
        except KeyError as error:
            known = scenarios.scenario_names()
            parser.error(f"there is no scenario {error.args[0]} in the plan {options.plan}; there are: {known}")
    names = options.systems or _SYSTEMS_OF_PLAN[options.plan]
    run = measure(options.plan, scenarios, {name: systems[name] for name in names}, options.out, pin=options.pin)
    sys.stdout.write(report.markdown(run) + "\n")
    if run.interrupted:
        return 130
    return int(any("gateway" in one.samples and one.samples["gateway"].failed for one in run.measurements))


def _parser(systems: Mapping[str, System]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.suite", description=__doc__.partition("\n")[0])
    parser.add_argument("--plan", choices=tuple(_SYSTEMS_OF_PLAN), default="bench", help="what is measured (default: bench)")
    parser.add_argument(
        "--scenarios",
        type=Path,
        default=FILE,
        metavar="FILE",
        help="scenarios of your own, in the form of bench/scenarios.yaml",
    )
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help="scenarios, or points of one: short stream@100")
    parser.add_argument("--systems", nargs="+", choices=tuple(systems), help="which systems (default: the plan's)")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let the kernel choose the cores")
    parser.add_argument("--out", type=Path, default=RESULTS / "run.json", help="where the JSON goes")
    return parser


def measure(
    plan: str,
    scenarios: Scenarios,
    systems: Mapping[str, System],
    out: Path,
    *,
    pin: bool,
    generate: GenerateLoad = generate_load,
) -> Run:
    """Measure everything. The samples are in the file and in the returned run, also after an interrupt."""
    cores = assign_cores(pin=pin)
    run = new_run(plan, cores, systems, scenarios.budget)

    def interrupt(number: int, frame: FrameType | None) -> None:
        run.interrupted = True  # an exception that is raised within a destructor is lost
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    for name, hint in run.absent.items():
        log_progress(f"{systems[name].title} is not installed: {hint}")
    installed = run.versions.get(run.titles.get("gateway", ""), "")
    if installed and f" {tree_version()} " not in f"{installed} ":
        log_progress(f"{installed} is measured, which is installed; this tree is {tree_version()}: make setup installs it")
    background = BackgroundLoad()
    try:
        with Harness(systems, cores, scenarios.points, generate) as harness:
            _measure_all(harness, run, scenarios, [name for name in systems if name not in run.absent], out)
    except KeyboardInterrupt:
        log_progress("interrupted: the samples taken until now are kept")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        run.seconds, run.others_cores = round(background.seconds(), 1), round(background.others_cores(), 2)
        run.save(out)
        log_progress(f"{run.seconds:.0f} s; written to {out}")
    return run


class _Round(msgspec.Struct, frozen=True):
    """One round of a scenario: its points, and the samples in their order."""

    title: str
    measurements: list[Measurement]
    samples: list[tuple[Measurement, str]]
    is_first: bool
    is_last: bool


def _rounds(scenarios: Scenarios, systems: Sequence[str]) -> Iterator[_Round]:
    names = list(dict.fromkeys(point.scenario for point in scenarios.points))
    for at, name in enumerate(names, 1):
        measurements = [Measurement(point=point) for point in scenarios.points if point.scenario == name]
        count = max(one.point.rounds for one in measurements)
        for number in range(count):
            order = [(one, system) for one in measurements for system in ("direct", *systems)]
            samples = [
                (one, system)
                for one, system in (order if number % 2 == 0 else reversed(order))  # so that no system is always the first
                if one.point.includes(system) and number < scenarios.rounds_for(one.point, system)
            ]
            title = f"{at} of {len(names)}, {name}, round {number + 1} of {count}"
            yield _Round(title, measurements, samples, is_first=number == 0, is_last=number + 1 == count)


def _measure_all(harness: Harness, run: Run, scenarios: Scenarios, systems: Sequence[str], out: Path) -> None:
    start_s = time.monotonic()
    timing = Forecast()
    todo = {
        (point.key, system): scenarios.rounds_for(point, system)
        for point in scenarios.points
        for system in ("direct", *systems)
        if point.includes(system)
    }
    for one in _rounds(scenarios, systems):
        if one.is_first:
            run.measurements += one.measurements
        left = forecast.in_words(timing.seconds_left(todo))
        log_progress(f"{time.monotonic() - start_s:.0f} s: {one.title}{left}")
        for measurement, system in one.samples:
            if run.interrupted:
                raise KeyboardInterrupt
            began_s, task = time.monotonic(), (measurement.point.key, system)
            _add_sample(harness, scenarios, measurement, system)
            timing.note(task, time.monotonic() - began_s)
            todo[task] = 0 if measurement.samples[system].failed is not None else todo[task] - 1
        if one.is_last:
            harness.stop_targets(scenarios.slow)
            run.save(out)


def _add_sample(harness: Harness, scenarios: Scenarios, measurement: Measurement, name: str) -> None:
    """Take one sample of one system. A system that fails once has failed at this point."""
    samples = measurement.samples.setdefault(name, Samples())
    if samples.failed is not None:
        return
    point = measurement.point
    try:
        sample = take_sample(harness, point, name, scenarios.load_for(point, name))
    except (RuntimeError, OSError, msgspec.MsgspecError) as error:
        measurement.samples[name] = Samples(failed=str(error)[:_MAX_REASON_CHARS])
        log_progress(f"  {point.name} {name} failed: {error}")
        return
    for metric, value in sample.values.items():
        samples.values.setdefault(metric, []).append(value)
    for kind, encoded in sample.histograms.items():
        samples.histograms[kind] = merge((samples.histograms[kind], encoded)) if kind in samples.histograms else encoded
    log_progress(f"  {point.name} {name}: {_figures(point, sample)}".replace("   ", "  "))


def _figures(point: Point, sample: Sample) -> str:
    metrics = (metric.removeprefix("added_") for metric in point.report)
    return ", ".join(f"{label(metric)} {sample.values[metric]:,.1f}" for metric in metrics if metric in sample.values)


def log_progress(line: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
