"""Decides whether a body that arrives in pieces arrives fast enough: no long silence, and a least rate. (Contract §5, 408.)

As nginx does it, the time between two pieces is bounded, whatever the size of the body. A caller who sends a byte now and then
would pass that, so over a sliding window of the same length a least rate counts as well.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_MARKS: Final = 8
"""The window slides in steps of this part of its length."""


class BodyPace:
    """The arrival of one body. Times are seconds of one clock; `silence_s` bounds the time between two pieces."""

    __slots__ = ("_last", "_least_bytes_per_s", "_marks", "_silence_s", "_total")

    def __init__(self, now: float, total: int, *, silence_s: float, least_bytes_per_s: int) -> None:
        """The body has `total` bytes at `now`."""
        self._silence_s = silence_s
        self._least_bytes_per_s = least_bytes_per_s
        self._last = now
        self._total = total
        self._marks: deque[tuple[float, int]] = deque([(now, total)])

    def add(self, now: float, total: int) -> None:
        """A piece has come; the body has `total` bytes now."""
        self._last = now
        self._total = total
        self._mark(now)

    def is_late(self, now: float) -> bool:
        """True if the caller has been silent for too long, or too slow over the last window."""
        if now - self._last >= self._silence_s:
            return True
        self._mark(now)
        began, total = self._marks[0]
        seconds = now - began
        return seconds >= self._silence_s and self._total - total < seconds * self._least_bytes_per_s

    def due(self, now: float) -> float:
        """The next moment at which the body may be late."""
        return min(self._last + self._silence_s, now + self._silence_s / _MARKS)

    def _mark(self, now: float) -> None:
        """Note how much has come, and forget what is further back than the window."""
        marks = self._marks
        if now - marks[-1][0] >= self._silence_s / _MARKS:
            marks.append((now, self._total))
        while len(marks) > 1 and now - marks[1][0] >= self._silence_s:
            marks.popleft()
