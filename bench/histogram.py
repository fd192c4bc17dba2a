"""Latency histograms (HDR): three significant digits, from a nanosecond to an hour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from hdrh.histogram import HdrHistogram

_MAX_NS: Final = 3_600_000_000_000
_DIGITS: Final = 3
_MIN_VALUES_ABOVE: Final = 10
PERCENTILES: Final = (0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)


class LatencySummary(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles in microseconds; `histogram` is the whole distribution in HdrHistogram's own encoding."""

    count: int
    p50: float
    p90: float
    p99: float
    maximum: float
    histogram: str


def summarize(values_ns: Iterable[int]) -> LatencySummary:
    """Returns the summary of one or more values. A value below one nanosecond counts as one."""
    histogram = HdrHistogram(1, _MAX_NS, _DIGITS)
    for value in values_ns:
        histogram.record_value(max(1, value))
    p50, p90, p99 = (histogram.get_value_at_percentile(percent) / 1000 for percent in (50, 90, 99))
    return LatencySummary(
        count=histogram.get_total_count(),
        p50=p50,
        p90=p90,
        p99=p99,
        maximum=histogram.get_max_value() / 1000,
        histogram=histogram.encode().decode(),
    )


def merge(encoded: Iterable[str]) -> str:
    """Returns the sum of encoded histograms, encoded."""
    total = HdrHistogram(1, _MAX_NS, _DIGITS)
    for one in encoded:
        total.decode_and_add(one.encode())
    text: str = total.encode().decode()
    return text


def percentile(encoded: str, percent: float) -> float | None:
    """Returns a percentile in microseconds, or None if fewer than ten values lie above it."""
    histogram = HdrHistogram.decode(encoded.encode())
    if not _has_tail(histogram, percent):
        return None
    value: float = histogram.get_value_at_percentile(percent) / 1000
    return value


def percentiles(encoded: str) -> list[float]:
    """Returns the values in microseconds at PERCENTILES, without those above which fewer than ten values lie."""
    histogram = HdrHistogram.decode(encoded.encode())
    return [histogram.get_value_at_percentile(percent) / 1000 for percent in PERCENTILES if _has_tail(histogram, percent)]


def _has_tail(histogram: HdrHistogram, percent: float) -> bool:
    above: int = round(histogram.get_total_count() * (100 - percent))
    return above >= 100 * _MIN_VALUES_ABOVE
