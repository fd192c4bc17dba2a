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
byte read to its first byte written, and the same for the answer's first piece. From outside, a system adds that and one more
connection: two more hops through the kernel, each with a process to wake, which is what the direct connection consists of.
So the own count must be less than what is added, and own count and direct time together must come within half of it."""


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
    """`kept` or `missed`; `failed` where the gateway has no value, a dash where there is nothing to compare with."""
    if not row_values(run, row, "gateway"):
        return "failed"
    own = ratio(run, row, limit.of) if limit.of is not None else row_interval(run, row, "gateway")
    if own is None:
        return "–"
    return "kept" if own.middle <= limit.at_most else "missed"


class CrossCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's own count of its overhead beside what was measured from outside; medians, in microseconds."""

    title: str
    own: float
    added: float
    direct: float

    @property
    def verdict(self) -> str:
        """Whether the two can both be true."""
        if self.own >= self.added:
            return "disagree: the gateway counts more than there was"
        explained = self.own + self.direct
        return "agree" if abs(self.added - explained) <= _AGREES_WITHIN * self.added else "disagree"


def cross_check(measured: Measured) -> CrossCheck | None:
    """The check at a point; None where the gateway's own count was not read there."""
    own = values(measured, "gateway", "overhead_p50_us")
    added = values(measured, "gateway", "added_first_byte_p50_us")
    direct = values(measured, "direct", "first_byte_p50_us")
    if not (own and added and direct):
        return None
    own_us, added_us, direct_us = map(statistics.median, (own, added, direct))
    return CrossCheck(title=measured.point.title, own=own_us, added=added_us, direct=direct_us)
