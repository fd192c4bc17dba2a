"""The command: measures what the pure parts of the path cost.

    python -m bench.micro [--part NAME …] [--build installed|source | --both] [--times] [--json FILE]

Instructions are counted by valgrind; where it is absent, and with --times, the time of each operation is given, over that of
a reference operation measured in turns with it. The table goes to standard output, progress to standard error. It ends with 0
where every case could be measured, 1 where one has failed, 2 where there is no such part.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.micro import builds, measuring, report
from bench.micro.builds import ROOT
from bench.micro.cases import Case, chosen
from bench.micro.report import INSTRUCTIONS, TIMES, Build, Figure, Row, Run

_RESULTS: Final = ROOT / "bench" / "results" / "micro.json"


def main() -> int:
    """Measure; returns the exit code."""
    parser = _parser()
    options = parser.parse_args()
    try:
        cases = chosen(options.part)
    except ValueError as error:
        parser.error(str(error))
    counts = not options.times and shutil.which("valgrind") is not None
    if not counts and not options.times:
        _say("valgrind is not installed, so times are measured; `apt-get install valgrind` gives instructions")
    measured, rows = _measured(builds.NAMES if options.both else (options.build,), cases, counts=counts)
    run = Run(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        python=platform.python_version(),
        machine=platform.platform(),
        unit=INSTRUCTIONS if counts else TIMES,
        builds=measured,
        rows=rows,
    )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1))
    sys.stdout.write(report.table(run) + "\n")
    _say(f"written to {options.json}")
    return int(run.has_failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=__doc__.partition("\n")[0])
    parser.add_argument("--part", nargs="+", default=[], metavar="NAME", help="cases or parts of the table (default: all)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--build", choices=builds.NAMES, default=builds.NAMES[0], help="which one (default: installed)")
    which.add_argument("--both", action="store_true", help="both builds and their ratio")
    parser.add_argument("--times", action="store_true", help="times over a reference's instead of instructions")
    parser.add_argument("--json", type=Path, default=_RESULTS, help="where the JSON goes")
    return parser


def _measured(names: Sequence[str], cases: Sequence[Case], *, counts: bool) -> tuple[list[Build], list[Row]]:
    """Measure the cases in each build, one build after the other."""
    measured = []
    rows = [Row(name=case.name, title=case.title, figures={}) for case in cases]
    by_name = {row.name: row for row in rows}
    with tempfile.TemporaryDirectory(prefix="bench-micro-") as home:
        for name in names:
            environment = builds.stage(name, Path(home) / name)
            build = builds.look(name, environment)
            measured.append(build)
            if build.failed is not None:
                _say(f"{name} failed: {build.failed}")
                continue
            for case, figure in measuring.measure([*by_name], environment, counts=counts):
                by_name[case].figures[name] = figure
                _say(f"{name}, {case}: {_found(figure)}")
    return measured, rows


def _found(figure: Figure) -> str:
    return f"failed: {figure.failed}" if figure.value is None else f"{figure.value:,.2f}"


def _commit() -> str:
    """The commit, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip() or "unknown"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
