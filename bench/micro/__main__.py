"""The command of the microbenchmarks: measures the pure parts of the request path.

    python -m bench.micro [--part NAME …] [--build installed|source | --both] [--times] [--json FILE]

valgrind counts instructions. Without it, and with --times, the time of each operation is given as a multiple of a reference
operation, which is measured in alternation with it. The table goes to standard output, progress to standard error. The exit
code is 0 if every case was measured, 1 if one failed, and 2 if there is no such case.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.machine import current_commit
from bench.micro import builds, report, runner
from bench.micro.cases import Case, select_cases
from bench.micro.report import INSTRUCTIONS, TIMES, Build, Figure, Row, Run
from bench.processes import ROOT

_RESULTS: Final = ROOT / "bench" / "results" / "micro.json"


def main() -> int:
    """Measure; returns the exit code."""
    parser = _parser()
    options = parser.parse_args()
    try:
        cases = select_cases(options.part)
    except ValueError as error:
        parser.error(str(error))
    counts = not options.times and shutil.which("valgrind") is not None
    if not counts and not options.times:
        _log_progress("valgrind is not installed, so times are measured; to count instructions, `apt-get install valgrind`")
    measured, rows = _measure(builds.NAMES if options.both else (options.build,), cases, counts=counts)
    run = Run(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=current_commit(),
        python=platform.python_version(),
        machine=platform.platform(),
        unit=INSTRUCTIONS if counts else TIMES,
        builds=measured,
        rows=rows,
    )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1))
    sys.stdout.write(report.table(run) + "\n")
    _log_progress(f"written to {options.json}")
    return int(run.has_failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=__doc__.partition("\n")[0])
    parser.add_argument("--part", nargs="+", default=[], metavar="NAME", help="cases, or parts of the table (default: all)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--build", choices=builds.NAMES, default=builds.NAMES[0], help="the build that is measured (default: installed)"
    )
    which.add_argument("--both", action="store_true", help="both builds and their ratio")
    parser.add_argument("--times", action="store_true", help="times, as multiples of a reference, instead of instructions")
    parser.add_argument("--json", type=Path, default=_RESULTS, help="where the JSON goes")
    return parser


def _measure(names: Sequence[str], cases: Sequence[Case], *, counts: bool) -> tuple[list[Build], list[Row]]:
    """Measure the cases in one build after the other."""
    measured = []
    rows = [Row(name=case.name, title=case.title, figures={}) for case in cases]
    by_name = {row.name: row for row in rows}
    with tempfile.TemporaryDirectory(prefix="bench-micro-") as home:
        for name in names:
            environment = builds.prepare_environment(name, Path(home) / name)
            build = builds.inspect_build(name, environment)
            measured.append(build)
            if build.failed is not None:
                _log_progress(f"{name} failed: {build.failed}")
                continue
            for case, figure in runner.measure_cases([*by_name], environment, counts=counts):
                by_name[case].figures[name] = figure
                _log_progress(f"{name}, {case}: {_text(figure)}")
    return measured, rows


def _text(figure: Figure) -> str:
    return f"failed: {figure.failed}" if figure.value is None else f"{figure.value:,.2f}"


def _log_progress(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
