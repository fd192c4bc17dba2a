"""Statistics of few rounds: medians, pairs, and intervals that assume nothing of how values are distributed. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

_CONFIDENCE: Final = 0.95


class Interval(msgspec.Struct, frozen=True):
    """Where the median of what was measured lies with 95 % confidence, or all that was seen where rounds are too few."""

    low: float
    middle: float
    high: float
    is_sure: bool

    def excludes(self, value: float) -> bool:
        """Whether the value is outside, and the rounds were enough to say so."""
        return self.is_sure and not self.low <= value <= self.high


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the ordered values lies, between two neighbours by straight line."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def interval(values: Sequence[float]) -> Interval:
    """The sign test's interval for the median: between the k-th lowest and the k-th highest value. At least one value."""
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    for k in range(count // 2):
        outside += 2 * math.comb(count, k) / 2**count
        if outside > 1 - _CONFIDENCE:
            break
        rank = k + 1
    is_sure = rank > 0
    rank = max(rank, 1)
    return Interval(ordered[rank - 1], statistics.median(ordered), ordered[count - rank], is_sure)


def ratios(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Pair by pair; none where one of the others is nothing, as that says nothing about the others."""
    pairs = list(zip(own, other, strict=False))
    return [] if any(reference <= 0 for _, reference in pairs) else [value / reference for value, reference in pairs]
