"""Lays out charts, which the templates draw as SVG: so a page needs no script for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

WIDTH: Final = 600
HEIGHT: Final = 120
_GAP: Final = 4


class Bar(NamedTuple):
    """A bar of a chart, in the chart's own units."""

    label: int
    value: int
    x: float
    y: float
    width: float
    height: float


def bars(values: Sequence[tuple[int, int]]) -> list[Bar]:
    """The bars for labels and their values; the highest is as high as the chart, and one that is not 0 can be seen."""
    most = max((value for _, value in values), default=0)
    step = WIDTH / max(len(values), 1)
    placed = []
    for at, (label, value) in enumerate(values):
        height = max(2.0, round(HEIGHT * value / most, 2)) if value > 0 else 0.0
        placed.append(Bar(label, value, round(at * step, 2), HEIGHT - height, round(step - _GAP, 2), height))
    return placed
