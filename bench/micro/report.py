"""The file of a run of microbenchmarks, and its table. Pure: the table can be made again from the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

INSTRUCTIONS: Final = "instructions"
TIMES: Final = "times the reference"


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A build: the suffix of `kyma_proxy.gateway`'s file, and the number of its files that differ from the tree."""

    name: str
    suffix: str = ""
    differing: int = 0
    failed: str | None = None


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a case in one build, or the reason why there is none; `reference_ns` belongs to times."""

    value: float | None = None
    reference_ns: float | None = None
    failed: str | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A case and its figures by build."""

    name: str
    title: str
    figures: dict[str, Figure]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `unit` is INSTRUCTIONS or TIMES, per operation."""

    at: str
    commit: str
    python: str
    machine: str
    unit: str
    builds: list[Build]
    rows: list[Row]

    @property
    def has_failed(self) -> bool:
        """True if any build or case has failed."""
        figures = (figure for row in self.rows for figure in row.figures.values())
        return any(build.failed for build in self.builds) or any(figure.failed for figure in figures)


def table(run: Run) -> str:
    """The builds, the rows as a Markdown table, and the reasons of the failures."""
    names = [build.name for build in run.builds]
    ratio = [f"{names[0]} ÷ {names[1]}"] if len(names) == 2 else []
    head = ["case", "", *(f"{name}, {run.unit}" for name in names), *ratio]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)], *(_cells(row, names) for row in run.rows)]
    parts = [_heading(run), "\n".join("| " + " | ".join(line) + " |" for line in lines)]
    failures = [f"- {build.name}: {build.failed}" for build in run.builds if build.failed]
    failures += [
        f"- {row.name}, {name}: {figure.failed}" for row in run.rows for name, figure in row.figures.items() if figure.failed
    ]
    return "\n\n".join([*parts, "Failed:\n\n" + "\n".join(failures)] if failures else parts)


def _heading(run: Run) -> str:
    lines = [f"kyma-proxy {run.commit}, {run.at}, Python {run.python}, {run.machine}; {run.unit} per operation."]
    for build in run.builds:
        if build.failed is None:
            differing = f"; {build.differing} of its files differ from the tree" if build.differing else ""
            lines.append(f"{build.name}: kyma_proxy.gateway is a {build.suffix} file{differing}.")
    return "\n".join(lines)


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    figures = [row.figures.get(name, Figure()) for name in names]
    cells = [row.name, row.title, *map(_cell, figures)]
    if len(figures) == 2:
        own, other = (figure.value for figure in figures)
        cells.append(f"{own / other:.2f}" if own is not None and other else "–")
    return cells


def _cell(figure: Figure) -> str:
    if figure.failed is not None:
        return "failed"
    if figure.value is None:
        return "–"
    return f"{figure.value:,.0f}" if figure.reference_ns is None else f"{figure.value:.2f}"
