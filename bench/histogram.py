"""How values are distributed: an HDR histogram, which keeps three digits of each from a nanosecond to an hour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from hdrh.histogram import HdrHistogram

_HIGHEST_NS: Final = 3_600_000_000_000
_DIGITS: Final = 3
_MIN_ABOVE: Final = 10
CURVE: Final = (0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Where a set of values lies, in microseconds; `histogram` is all of it, in HdrHistogram's own coding."""

    count: int
    p50: float
    p90: float
    p99: float
    highest: float
    histogram: str


def spread(values_ns: Iterable[int]) -> Spread:
    """Where the values lie; there must be at least one. What is below a nanosecond counts as one."""
    histogram = HdrHistogram(1, _HIGHEST_NS, _DIGITS)
    for value in values_ns:
        histogram.record_value(max(1, value))
    p50, p90, p99 = (histogram.get_value_at_percentile(share) / 1000 for share in (50, 90, 99))
    return Spread(
        count=histogram.get_total_count(),
        p50=p50,
        p90=p90,
        p99=p99,
        highest=histogram.get_max_value() / 1000,
        histogram=histogram.encode().decode(),
    )


def merged(coded: Iterable[str]) -> str:
    """One histogram of many, coded like them."""
    whole = HdrHistogram(1, _HIGHEST_NS, _DIGITS)
    for one in coded:
        whole.decode_and_add(one.encode())
    text: str = whole.encode().decode()
    return text


def tail(coded: str, share: float) -> float | None:
    """The value in microseconds below which this share lies, in percent; None where fewer than ten values lie above it."""
    histogram = HdrHistogram.decode(coded.encode())
    if not _is_known(histogram, share):
        return None
    value: float = histogram.get_value_at_percentile(share) / 1000
    return value


def curve(coded: str) -> list[float]:
    """The values in microseconds at each of the shares of CURVE, as far as at least ten values lie above them."""
    histogram = HdrHistogram.decode(coded.encode())
    return [histogram.get_value_at_percentile(share) / 1000 for share in CURVE if _is_known(histogram, share)]


def _is_known(histogram: HdrHistogram, share: float) -> bool:
    above: int = round(histogram.get_total_count() * (100 - share))
    return above >= 100 * _MIN_ABOVE
