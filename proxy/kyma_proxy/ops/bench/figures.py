"""Compares the two ways: percentiles, and the differences of pairs with an interval. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kyma_proxy.ops.bench.asking import Asked

DIRECT: Final = "direct"
GATEWAY: Final = "through the gateway"
_CONFIDENCE: Final = 0.95
_MIN_ABOVE: Final = 5
"""A percentile is told if so many values lie above it."""


class Row(NamedTuple):
    """One line of the table: a figure of both ways, and the difference of their pairs; None where too little is known."""

    title: str
    direct: float | None
    gateway: float | None
    difference: tuple[float, float, float] | None = None


class _Metric(NamedTuple):
    title: str
    values: Callable[[Asked], Sequence[float]]
    shares: tuple[float, ...]


def _first_text_ms(one: Asked) -> Sequence[float]:
    return () if one.first_text_s is None else (one.first_text_s * 1000,)


def _tokens_per_s(one: Asked) -> Sequence[float]:
    return () if one.tokens_per_s is None else (one.tokens_per_s,)


_METRICS: Final = (
    _Metric("time to the first event, ms", lambda one: (one.first_s * 1000,), (0.5, 0.9, 0.99)),
    _Metric("time to the first text, ms", _first_text_ms, (0.5, 0.9, 0.99)),
    _Metric("time between two events, ms", lambda one: [gap * 1000 for gap in one.gaps], (0.5, 0.9, 0.99, 0.999)),
    _Metric("tokens a second", _tokens_per_s, (0.5,)),
)


def rows(asked: Sequence[Asked]) -> list[Row]:
    """All lines of the table."""
    good = [one for one in asked if one.failure is None]
    ways = [[one for one in good if one.way == way] for way in (DIRECT, GATEWAY)]
    found = []
    for metric in _METRICS:
        values = [sorted(value for one in way for value in metric.values(one)) for way in ways]
        for share in metric.shares:
            figures = [_quantile(ordered, share) for ordered in values]
            if None not in figures:
                title = metric.title if share == 0.5 else f"{metric.title}, {share * 100:g}th percentile"
                difference = interval(_differences(ways[0], ways[1], metric)) if share == 0.5 else None
                found.append(Row(title, figures[0], figures[1], difference))
    return found


def all_values(asked: Sequence[Asked]) -> list[tuple[str, list[list[float]]]]:
    """Per figure that is drawn: its title, and the ordered values of both ways."""
    good = [one for one in asked if one.failure is None]
    return [
        (metric.title, [sorted(v for one in good if one.way == way for v in metric.values(one)) for way in (DIRECT, GATEWAY)])
        for metric in _METRICS[1:3]
    ]


def _differences(direct: Sequence[Asked], gateway: Sequence[Asked], metric: _Metric) -> list[float]:
    """The differences of the pairs' medians; a pair are the two requests that were due one after the other."""
    by_number = {one.number: one for one in direct}
    pairs = [(by_number[one.number], one) for one in gateway if one.number in by_number]
    both = [(metric.values(one), metric.values(other)) for one, other in pairs]
    return [statistics.median(other) - statistics.median(one) for one, other in both if one and other]


def interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Lower end, median and upper end of the median's 95 % confidence interval, by the sign test; None for too few values."""
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    for k in range(count // 2):
        outside += 2 * math.comb(count, k) / 2**count
        if outside > 1 - _CONFIDENCE:
            break
        rank = k + 1
    return (ordered[rank - 1], statistics.median(ordered), ordered[count - rank]) if rank else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    if not ordered or (share > 0.5 and len(ordered) * (1 - share) < _MIN_ABOVE):
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
