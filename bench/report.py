"""Statistics, ratios, verdicts, and the table: pure, so that a report can be made again from its JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

SYSTEMS: Final = ("gateway", "nginx", "envoy", "direct")
_TITLES: Final = {"gateway": "gateway", "nginx": "nginx", "envoy": "Envoy", "direct": "direct"}
_NONE: Final = "–"


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Where a set of values lies."""

    count: int
    p50: float
    p90: float
    p99: float
    highest: float


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """`at_most` times another system's value in the same run, or `at_most` itself, in the row's unit."""

    at_most: float
    of: Literal["nginx", "envoy"] | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `added` means: over the direct connection's value in the same round."""

    key: str
    title: str
    unit: str
    must: Limit | None = None
    aim: Limit | None = None
    added: bool = False


class Measured(msgspec.Struct, kw_only=True):
    """A row, its values by system and round, and why a system has none."""

    row: Row
    rounds: dict[str, list[float]] = {}
    failures: dict[str, str] = {}


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the ordered values lies, between two neighbours by straight line."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Sequence[float]) -> Spread:
    """Where the values lie; there must be at least one."""
    ordered = sorted(values)
    p50, p90, p99 = (quantile(ordered, share) for share in (0.5, 0.9, 0.99))
    return Spread(count=len(ordered), p50=p50, p90=p90, p99=p99, highest=ordered[-1])


def values(measured: Measured, system: str) -> list[float]:
    """The system's value of each round; none where it has failed."""
    if system in measured.failures:
        return []
    own = measured.rounds.get(system, [])
    if not measured.row.added or system == "direct":
        return own
    return [value - control for value, control in zip(own, values(measured, "direct"), strict=False)]


def median(measured: Measured, system: str) -> float | None:
    """The median over the rounds."""
    own = values(measured, system)
    return statistics.median(own) if own else None


def ratio(measured: Measured, other: str, system: str = "gateway") -> float | None:
    """The median over the rounds of what the system costs for each unit of the other's, pair by pair."""
    pairs = list(zip(values(measured, system), values(measured, other), strict=False))
    if not pairs or any(reference <= 0 for _, reference in pairs):
        return None
    return statistics.median(own / reference for own, reference in pairs)


def verdict(measured: Measured, limit: Limit | None) -> str:
    """`pass` or `fail`; `failed` where the gateway was not measured, a dash where there is nothing to compare with."""
    if limit is None:
        return _NONE
    if "gateway" in measured.failures:
        return "failed"
    own = ratio(measured, limit.of) if limit.of else median(measured, "gateway")
    if own is None:
        return _NONE
    return "pass" if own <= limit.at_most else "fail"


def table(rows: Sequence[Measured]) -> str:
    """The rows as a Markdown table, and below it the reasons of what failed."""
    head = ("", *(_TITLES[system] for system in SYSTEMS), "÷ nginx", "÷ Envoy", "must", "aim")
    lines = [head, ("---",) + ("---:",) * (len(head) - 3) + ("---",) * 2, *map(_line, rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    reasons = [
        f"- {measured.row.title}, {_TITLES[system]}: {reason}"
        for measured in rows
        for system, reason in measured.failures.items()
    ]
    return text + ("\n\nFailed:\n\n" + "\n".join(reasons) if reasons else "")


def _line(measured: Measured) -> tuple[str, ...]:
    row = measured.row
    return (
        f"{row.title} ({row.unit})" if row.unit else row.title,
        *(_cell(measured, system) for system in SYSTEMS),
        *(_number(ratio(measured, other), "×") for other in ("nginx", "envoy")),
        *(_judged(measured, limit) for limit in (row.must, row.aim)),
    )


def _cell(measured: Measured, system: str) -> str:
    if system in measured.failures:
        return "failed"
    own = values(measured, system)
    if not own:
        return _NONE
    middle = _number(statistics.median(own))
    return f"{middle} ({_number(min(own))}–{_number(max(own))})" if len(own) > 1 else middle


def _judged(measured: Measured, limit: Limit | None) -> str:
    if limit is None:
        return _NONE
    bound = f"≤ {limit.at_most:g}" + (f" × {_TITLES[limit.of]}" if limit.of else "")
    return f"{bound}: {verdict(measured, limit)}"


def _number(value: float | None, suffix: str = "") -> str:
    if value is None:
        return _NONE
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{suffix}"


def absent(reasons: Mapping[str, str]) -> str:
    """What was not measured because it is not installed, and how to get it."""
    return "\n".join(f"Absent: {_TITLES[system]}. {reason}" for system, reason in reasons.items())
