"""Shows the results of two machines, or of two days, side by side.

    python -m bench.beside ONE/run.json OTHER/run.json [--systems gateway nginx]

The ratios to other systems come first: they say more about another machine than the figures. No verdict is given, as rounds of
two runs are no pairs; `bench.compare` compares two commits on one machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import analysis, results
from bench.figures import NONE, cell, in_full, label, machine, number, span
from bench.results import Measurement, Run

_REFERENCES: Final = ("nginx", "envoy")
_QUIET_CORES: Final = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Show both; returns the exit code, 2 if a file is not that of a run."""
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="the JSON file of a run")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="systems to show (default: all that are in both)")
    options = parser.parse_args(arguments)
    runs = []
    for path in options.runs:
        try:
            runs.append(results.read(path))
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else f"it is not the file of a run: {error}"
            sys.stderr.write(f"{path}: {reason}\n")
            return 2
    sys.stdout.write(side_by_side(runs[0], runs[1], options.systems) + "\n")
    return 0


def side_by_side(one: Run, other: Run, systems: Sequence[str] | None = None) -> str:
    """Both runs as Markdown."""
    shared = systems or [name for name in one.titles if name in other.titles]
    parts = [
        "# Two runs side by side",
        _origins(one, other),
        "## Ratios to other systems",
        _table(["", "to", "first", "second"], list(_ratios(one, other))),
        "## Figures",
        "*÷* is the second median over the first.",
        _table(["", "system", "first", "second", "÷"], list(_figures(one, other, shared))),
    ]
    return "\n\n".join(parts)


def _origins(one: Run, other: Run) -> str:
    rows = [
        ["machine", *(machine(run) for run in (one, other))],
        ["kernel", *(str(run.machine["kernel"]) for run in (one, other))],
        ["gateway", *(run.versions.get(run.titles.get("gateway", ""), NONE) for run in (one, other))],
        ["commit", *(run.commit for run in (one, other))],
        ["measured", *(run.at for run in (one, other))],
        ["plan", *(run.plan + (", interrupted" if run.interrupted else "") for run in (one, other))],
        ["cores that others kept busy", *(_others(run) for run in (one, other))],
    ]
    return _table(["", "first", "second"], rows)


def _others(run: Run) -> str:
    return f"{run.others_cores:g}" + (": **not quiet**" if run.others_cores > _QUIET_CORES else "")


def _ratios(one: Run, other: Run) -> Iterator[list[str]]:
    known = {row.row: row for row in other.budget}
    for row in one.budget:
        for name in _REFERENCES:
            if row.row not in known:
                continue
            both = analysis.ratio_to(one, row, name), analysis.ratio_to(other, known[row.row], name)
            if all(ratio is not None for ratio in both):
                cells = [f"{number(ratio.median)} × ({span(ratio)})" for ratio in both if ratio is not None]
                yield [in_full(row.row), one.titles[name], *cells]


def _figures(one: Run, other: Run, systems: Sequence[str]) -> Iterator[list[str]]:
    for measurement in one.measurements:
        twin = analysis.find_measurement(other, measurement.point.key)
        if twin is None:
            continue
        for metric in measurement.point.report:
            for name in systems:
                cells = cell(measurement, name, metric), cell(twin, name, metric)
                if cells != (NONE, NONE):
                    title = f"{in_full(measurement.point.title)}, {label(metric)}"
                    yield [title, one.titles.get(name, name), *cells, _change(measurement, twin, name, metric)]


def _change(measurement: Measurement, twin: Measurement, name: str, metric: str) -> str:
    medians = [analysis.median_interval(analysis.values(one, name, metric)) for one in (measurement, twin)]
    before, after = medians
    return NONE if before is None or after is None or before.median <= 0 else f"{after.median / before.median:.2f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return "Nothing is in both."
    rule = ["---", *("---" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


if __name__ == "__main__":
    sys.exit(main())
