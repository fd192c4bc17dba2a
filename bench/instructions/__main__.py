"""Counts the instructions of a request, an event and a large prompt: of the gateway in its uses, and of nginx.

    python -m bench.instructions [--rows ROW …] [--loads LOAD …] [--compare BASE] [--where]

The exit code is 1 if the budget (bench/budget.yaml) is exceeded or something failed, and 2 if a program is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.compare import build, commit_of
from bench.instructions.counting import Count, Row, count, missing_program
from bench.instructions.lockstep import Busy
from bench.instructions.report import LOADS, Budget, difference, exceeded, table, where
from bench.machine import current_commit
from bench.processes import ROOT
from bench.systems.contract import System
from bench.systems.gateway import Gateway
from bench.systems.nginx import Nginx

_BUDGET: Final = ROOT / "bench" / "budget.yaml"


def rows(gateway: System) -> tuple[Row, ...]:
    """All rows; those of the gateway are of this build of it."""
    return (
        Row("plain", gateway),
        Row("metered", gateway, accounts=1),
        Row("OpenAI to Anthropic", gateway, suffix="-in-anthropic"),
        Row("Anthropic to OpenAI", gateway, endpoint="messages"),
        Row("Responses", gateway, endpoint="responses", suffix="-in-responses"),
        Row("nginx", Nginx(has_master=False)),
    )


def main() -> int:
    """Count and print; returns the exit code."""
    options = _options()
    if (missing := missing_program()) is not None:
        _log(f"{missing} is not installed: apt-get install valgrind")
        return 2
    budget = msgspec.yaml.decode(_BUDGET.read_bytes(), type=Budget)
    _log(f"{current_commit()}: {Gateway().version()}")
    counts, has_failed = _count_all(rows(Gateway()), options.rows, options.loads)
    print(table(counts))
    if options.where:
        for row, by_load in counts.items():
            for load, one in by_load.items():
                print("\n" + where(row, load, one))
    if options.compare is not None:
        try:
            base = Gateway(name="base", title=options.compare, path=build(commit_of(options.compare)))
        except subprocess.CalledProcessError as error:
            _log(f"{options.compare} can't be built: {error}")
            return 2
        of_base = [row for row in rows(base) if row.system is base]
        base_counts, base_failed = _count_all(of_base, options.rows, options.loads)
        print("\n" + difference(base_counts, counts))
        has_failed = has_failed or base_failed
    over = exceeded(counts, budget)
    print("\n" + ("\n".join(over) if over else f"within the budget ({_BUDGET.relative_to(ROOT)}) where it has a figure"))
    return int(bool(over) or has_failed)


def _options() -> argparse.Namespace:
    names = [row.name for row in rows(Gateway())]
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW", help=f"of {', '.join(names)}")
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=LOADS, metavar="LOAD", help=f"of {', '.join(LOADS)}")
    parser.add_argument("--compare", metavar="BASE", help="a commit: show what has changed since, function by function")
    parser.add_argument("--where", action="store_true", help="show the most expensive functions of each row")
    return parser.parse_args()


def _count_all(all_rows: Sequence[Row], names: Sequence[str], loads: Sequence[str]) -> tuple[dict[str, dict[str, Count]], bool]:
    counts = {}
    has_failed = False
    with tempfile.TemporaryDirectory(prefix="bench-bytecode-") as bytecode:
        for row in all_rows:
            if row.name not in names:
                continue
            started = time.monotonic()
            try:
                counts[row.name] = asyncio.run(count(row, loads, Path(bytecode)))
            except (Busy, OSError, ValueError, EOFError) as error:
                _log(f"{row.name}: {error}")
                has_failed = True
            else:
                _log(f"{row.name}: {time.monotonic() - started:.0f} s")
    return counts, has_failed


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
