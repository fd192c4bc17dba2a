"""Finds what the gateway did while an event was late. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec

KINDS: Final = ("collector", "sweeper", "timer", "log", "ledger", "held")
_APART_NS: Final = 5_000_000
_MIN_MARK_NS: Final = 500_000
_MAX_MARK_NS: Final = 2_000_000_000
NOT_HELD: Final = "nothing was noted: the gateway was not held up, so the provider or the load generator was late"


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A moment that the gateway noted; the kinds are explained in `marked_gateway`."""

    kind: str
    start_ns: int
    end_ns: int
    own_ns: int
    detail: str

    @property
    def in_words(self) -> str:
        """It in words; only the first line of its detail."""
        return f"{self.kind} {(self.end_ns - self.start_ns) / 1e6:.1f} ms ({self.detail.partition(chr(10))[0]})"


class Late(msgspec.Struct, frozen=True):
    """Events that came late together: when the first came, how many they are, the worst delay, and the marks meanwhile."""

    at_ns: int
    count: int
    worst_ns: int
    marks: tuple[Mark, ...]

    @property
    def cause(self) -> str:
        """The marks in words, the longest first."""
        ordered = sorted(self.marks, key=lambda one: one.start_ns - one.end_ns)
        return "; ".join(one.in_words for one in ordered) or NOT_HELD


def late_events(came_ns: array[int], delay_ns: array[int], marks: Sequence[Mark], threshold_ns: int) -> list[Late]:
    """The events with a delay above the threshold, in groups that came together, with the marks of that time."""
    ordered = sorted(marks, key=lambda one: one.start_ns)
    groups: list[list[tuple[int, int]]] = []
    for came, delay in zip(came_ns, delay_ns, strict=True):
        if delay < threshold_ns:
            continue
        if groups and came - groups[-1][-1][0] < _APART_NS:
            groups[-1].append((came, delay))
        else:
            groups.append([(came, delay)])
    return [_late(group, ordered) for group in groups]


def own_holds(marks: Sequence[Mark], threshold_ns: int) -> list[Mark]:
    """The moments at which the loop was held for so long by more than the lack of a processor, the longest first."""
    return sorted((one for one in marks if one.kind == "held" and one.own_ns >= threshold_ns), key=lambda one: -one.own_ns)


def _late(group: Sequence[tuple[int, int]], marks: Sequence[Mark]) -> Late:
    sent = min(came - delay for came, delay in group)
    last = max(came for came, _ in group)
    first = bisect_left(marks, sent - _MAX_MARK_NS, key=lambda one: one.start_ns)
    after = bisect_left(marks, last, key=lambda one: one.start_ns)
    meanwhile = [one for one in marks[first:after] if one.end_ns > sent and one.end_ns - one.start_ns >= _MIN_MARK_NS]
    return Late(group[0][0], len(group), max(delay for _, delay in group), tuple(meanwhile))
