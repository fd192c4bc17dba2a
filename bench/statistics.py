"""Statistics of few rounds: medians, paired ratios, and distribution-free confidence intervals. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

_CONFIDENCE: Final = 0.95
MIN_CONCLUSIVE_ROUNDS: Final = 6
"""Fewer rounds have no interval of the sign test at 95 %."""


class Interval(msgspec.Struct, frozen=True):
    """The median and its 95 % confidence interval. With too few rounds it is the range of all values, and not conclusive."""

    low: float
    median: float
    high: float
    is_conclusive: bool

    def excludes(self, value: float) -> bool:
        """True if the interval is conclusive and the value lies outside it."""
        return self.is_conclusive and not self.low <= value <= self.high


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ordered values, by linear interpolation between neighbours."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def interval(values: Sequence[float]) -> Interval:
    """The interval of the sign test for the median: from the k-th lowest to the k-th highest of one or more values."""
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    for k in range(count // 2):
        outside += 2 * math.comb(count, k) / 2**count
        if outside > 1 - _CONFIDENCE:
            break
        rank = k + 1
    is_conclusive = rank > 0
    rank = max(rank, 1)
    return Interval(ordered[rank - 1], statistics.median(ordered), ordered[count - rank], is_conclusive)


def ratios(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """The ratios pair by pair; empty if a denominator is not positive, as such a sample says nothing about its system."""
    pairs = list(zip(own, other, strict=False))
    return [] if any(reference <= 0 for _, reference in pairs) else [value / reference for value, reference in pairs]
