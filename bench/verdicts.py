"""What the figures mean: what is added, ratios pair by pair, the budget's verdicts, and the cross-check. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

from bench.results import Measured, Run
from bench.scenario import Limit, Row
from bench.statistics import Interval, interval, ratios

_ADDED: Final = "added_"
_AGREES_WITHIN: Final = 0.5
WHAT_IS_CHECKED: Final = """\
The gateway counts the time that it takes itself (`overhead_us` in the log, a histogram in `/metrics`): from a request's last
byte read to its first byte written, and the same for the answer's first piece. From outside, a system adds that and two more
hops through the kernel, each with a process to wake on another core. nginx makes the same hops and does next to nothing between
them. So the own count must be less than what the gateway adds, and what is left of that must be what nginx adds, give or
take half of it; otherwise one of the two clocks is wrong."""


def find(run: Run, key: str) -> Measured | None:
    """What was measured at a point; None where the run did not have it."""
    return next((measured for measured in run.measured if measured.point.key == key), None)


def values(measured: Measured, system: str, metric: str) -> list[float]:
    """The system's value of each round; none where it has failed. What is added is over the direct connection's."""
    taken = measured.taken.get(system)
    if taken is None or taken.failed is not None:
        return []
    own = taken.values.get(metric.removeprefix(_ADDED), [])
    if not metric.startswith(_ADDED) or system == "direct":
        return own
    return [value - control for value, control in zip(own, values(measured, "direct", metric), strict=False)]


def median_interval(seen: Sequence[float]) -> Interval | None:
    """The median and its interval; None where there is no value."""
    return interval(seen) if seen else None


def row_values(run: Run, row: Row, system: str) -> list[float]:
    """A row's value of each round: the metric, or what it has become over another point, pair by pair."""
    measured = find(run, row.of)
    if measured is None:
        return []
    own = values(measured, system, row.metric)
    if row.over is None:
        return own
    other = find(run, row.over)
    return [] if other is None else ratios(own, values(other, system, row.metric))


def row_interval(run: Run, row: Row, system: str) -> Interval | None:
    """A row's median and interval; None where the system has no value."""
    return median_interval(row_values(run, row, system))


def ratio(run: Run, row: Row, other: str) -> Interval | None:
    """What the gateway costs for each unit of the other's, pair by pair."""
    return median_interval(ratios(row_values(run, row, "gateway"), row_values(run, row, other)))


def verdict(run: Run, row: Row, limit: Limit) -> str:
    """`kept` or `missed`, by the median, and whether the interval is sure of it.

    `failed` where the gateway has no value, a dash where there is nothing to compare with.
    """
    if not row_values(run, row, "gateway"):
        return "failed"
    own = ratio(run, row, limit.of) if limit.of is not None else row_interval(run, row, "gateway")
    if own is None:
        return "–"
    word = "kept" if own.middle <= limit.at_most else "missed"
    return word if own.excludes(limit.at_most) else f"{word}, not surely"


class CrossCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's own count of its overhead beside what was measured from outside; medians, in microseconds."""

    title: str
    own: float
    added: float
    hops: float

    @property
    def verdict(self) -> str:
        """Whether both can be true."""
        left = self.added - self.own
        if left <= 0:
            return "disagree: the gateway counts more than there was"
        return "agree" if abs(left - self.hops) <= _AGREES_WITHIN * self.hops else "disagree"


def cross_check(measured: Measured) -> CrossCheck | None:
    """The check at a point; None where the gateway's own count or nginx was not measured there."""
    own = values(measured, "gateway", "overhead_p50_us")
    added = values(measured, "gateway", "added_first_byte_p50_us")
    hops = values(measured, "nginx", "added_first_byte_p50_us")
    if not (own and added and hops):
        return None
    own_us, added_us, hops_us = map(statistics.median, (own, added, hops))
    return CrossCheck(title=measured.point.title, own=own_us, added=added_us, hops=hops_us)
