"""The command: measures what relaying costs, beside nginx and Envoy, and judges it by the budget.

    python -m bench.relay [--quick | --full] [--no-pin] [--systems gateway nginx] [--out FILE]

The table goes to standard output, progress to standard error, and everything to a JSON file. It ends with 0 where all
rows could be measured, 1 where one has failed, 130 where it was interrupted; what was measured until then is kept.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

from bench import report
from bench.bench import Bench, roles
from bench.measures import Measure, measures, scripts
from bench.processes import ROOT
from bench.report import Measured
from bench.rows import FULL, NORMAL, QUICK
from bench.run import PROXIES, Run, Watch, begin

_RESULTS: Final = ROOT / "bench" / "results" / "relay.json"


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    plan = QUICK if options.quick else FULL if options.full else NORMAL
    run = begin(plan, roles(pin=options.pin), options.systems)
    watch = Watch()
    try:
        _measure(run, ["direct", *(name for name in options.systems if name not in run.absent)], options.out)
    except KeyboardInterrupt:
        run.interrupted = True
        _say("interrupted: what was measured until now is kept")
    run.seconds, run.others_cores = round(watch.seconds(), 1), round(watch.others_cores(), 2)
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
    parser.add_argument("--systems", nargs="+", choices=PROXIES, default=PROXIES, help="which ones (default: all)")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="where the JSON goes")
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(run: Run, systems: list[str], out: Path) -> None:
    """Take all measures; the run holds what was taken, whenever it is interrupted."""
    with Bench(run.plan, run.cores, scripts(run.plan)) as bench:
        for measure in measures(run.plan):
            taken = [Measured(row=row) for row in measure.rows]
            run.rows += taken
            for number in range(measure.rounds):
                for name in systems:
                    if name in measure.systems and name not in taken[0].failures:
                        _take(bench, measure, name, taken)
                        _say(f"{number + 1} of {measure.rounds}: {_told(taken, name)}")
            run.keep(out)


def _take(bench: Bench, measure: Measure, name: str, taken: list[Measured]) -> None:
    """Take one measure of one system. One that fails once has failed."""
    try:
        found = measure.take(bench, name)
    except RuntimeError as error:
        for measured in taken:
            measured.failures[name] = str(error)
        return
    for measured, value in zip(taken, found, strict=True):
        measured.rounds.setdefault(name, []).append(value)


def _told(taken: list[Measured], name: str) -> str:
    if name in taken[0].failures:
        return f"{name} failed: {taken[0].failures[name]}"
    told = (f"{measured.row.title} {measured.rounds[name][-1]:.2f} {measured.row.unit}".strip() for measured in taken)
    return f"{name}: {', '.join(told)}"


def _text(run: Run) -> str:
    """The report: of what, the table, and what is missing."""
    cores, machine = run.cores, run.machine
    pinned = f"system on core {cores.system}, provider on {cores.provider}, load on {cores.load}"
    head = (
        f"kyma-proxy {run.commit}, {run.at}, plan {run.plan.name}. {machine['cores']} cores, {machine['processor']}; "
        f"{pinned if cores.system is not None else 'no core is pinned'}; others kept {run.others_cores:g} cores busy.\n"
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
