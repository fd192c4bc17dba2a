"""Derives figures from samples: added over the direct connection, paired ratios, budget verdicts and the cross-check. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

from bench.results import Measurement, Run
from bench.scenario import BudgetRow, Limit
from bench.statistics import Interval, interval, ratios

_ADDED: Final = "added_"
_TOLERANCE: Final = 0.5
CROSS_CHECK_NOTE: Final = """\
The gateway measures its own overhead (`overhead_us` in the log, a histogram in `/metrics`): the time from the last byte of
the request read to its first byte written, plus the same for the first piece of the answer. Measured from outside, a system
adds its own overhead and two more hops through the kernel, each of which wakes a process on another core. nginx makes the
same two hops and does next to nothing between them. So the gateway's own count must be less than the time that it adds, and
the remainder must equal what nginx adds, within 50 %. Otherwise one of the two clocks is wrong."""


def find_measurement(run: Run, key: str) -> Measurement | None:
    """The measurement of a point, or None if the run did not include it."""
    return next((measurement for measurement in run.measurements if measurement.point.key == key), None)


def values(measurement: Measurement, system: str, metric: str) -> list[float]:
    """The system's value in each round; empty if it failed. An `added_` metric is over the direct connection's value."""
    samples = measurement.samples.get(system)
    if samples is None or samples.failed is not None:
        return []
    own = samples.values.get(metric.removeprefix(_ADDED), [])
    if not metric.startswith(_ADDED) or system == "direct":
        return own
    return [value - control for value, control in zip(own, values(measurement, "direct", metric), strict=False)]


def median_interval(samples: Sequence[float]) -> Interval | None:
    """The median and its interval, or None without a value."""
    return interval(samples) if samples else None


def budget_values(run: Run, row: BudgetRow, system: str) -> list[float]:
    """The value of a budget row in each round: the metric, or its ratio to the same metric at another point, pair by pair."""
    measurement = find_measurement(run, row.of)
    if measurement is None:
        return []
    own = values(measurement, system, row.metric)
    if row.over is None:
        return own
    other = find_measurement(run, row.over)
    return [] if other is None else ratios(own, values(other, system, row.metric))


def budget_interval(run: Run, row: BudgetRow, system: str) -> Interval | None:
    """The median of a budget row and its interval, or None if the system has no value."""
    return median_interval(budget_values(run, row, system))


def ratio_to(run: Run, row: BudgetRow, other: str) -> Interval | None:
    """The gateway's value over the other system's, pair by pair."""
    return median_interval(ratios(budget_values(run, row, "gateway"), budget_values(run, row, other)))


def ratio_of_medians(run: Run, row: BudgetRow, other: str) -> float | None:
    """The gateway's median over the other system's, which a change of the machine's speed between rounds moves."""
    own, reference = budget_values(run, row, "gateway"), budget_values(run, row, other)
    if not own or not reference or statistics.median(reference) <= 0:
        return None
    return statistics.median(own) / statistics.median(reference)


def budget_verdict(run: Run, row: BudgetRow, limit: Limit) -> str:
    """`kept` or `missed`, by the median, with `inconclusive` if the interval includes the limit.

    `failed` if the gateway has no value; a dash if there is nothing to compare with.
    """
    if not budget_values(run, row, "gateway"):
        return "failed"
    own = ratio_to(run, row, limit.of) if limit.of is not None else budget_interval(run, row, "gateway")
    if own is None:
        return "–"
    word = "kept" if own.median <= limit.at_most else "missed"
    return word if own.excludes(limit.at_most) else f"{word}, inconclusive"


class CrossCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's own count of its overhead beside the measurement from outside; medians in microseconds."""

    title: str
    own: float
    added: float
    hops: float

    @property
    def verdict(self) -> str:
        """`agree` if both can be true, otherwise `disagree`."""
        remainder = self.added - self.own
        if remainder <= 0:
            return "disagree: the gateway counts more than it adds"
        return "agree" if abs(remainder - self.hops) <= _TOLERANCE * self.hops else "disagree"


def cross_check(measurement: Measurement) -> CrossCheck | None:
    """The check at a point, or None if the gateway's own count or nginx was not measured there."""
    own = values(measurement, "gateway", "overhead_p50_us")
    added = values(measurement, "gateway", "added_first_byte_p50_us")
    hops = values(measurement, "nginx", "added_first_byte_p50_us")
    if not (own and added and hops):
        return None
    own_us, added_us, hops_us = map(statistics.median, (own, added, hops))
    return CrossCheck(title=measurement.point.title, own=own_us, added=added_us, hops=hops_us)
