"""Decides whether a body that arrives in pieces arrives fast enough: no long silence, and a least rate. (Contract §5, 408.)

As nginx does it, the time between two pieces is bounded, whatever the size of the body. A caller who sends a byte now and then
would pass that, so over a sliding window of the same length a least rate counts as well.
"""

from __future__ import annotations


class BodyPace:
    """The arrival of one body. Times are seconds of one clock; `silence_s` bounds the time between two pieces.

    The window begins at a mark, a moment and how much had come by then. It slides by half of its length: a second mark, half a
    window later, becomes its beginning.
    """

    __slots__ = (
        "_began", "_began_total", "_last", "_least_bytes_per_s", "_next", "_next_total", "_silence_s", "_total",
    )  # fmt: skip

    def __init__(self, now: float, total: int, silence_s: float, least_bytes_per_s: int) -> None:
        """The body has `total` bytes at `now`."""
        self._silence_s = silence_s
        self._least_bytes_per_s = least_bytes_per_s
        self._last = self._began = self._next = now
        self._total = self._began_total = self._next_total = total

    def add(self, now: float, total: int) -> None:
        """A piece has come; the body has `total` bytes now."""
        self._last = now
        self._total = total
        self._slide(now)

    def is_late(self, now: float) -> bool:
        """True if the caller has been silent for too long, or too slow over the last window."""
        if now - self._last >= self._silence_s or self._is_slow(now):
            return True
        self._slide(now)
        return False

    def due(self, now: float) -> float:
        """The next moment at which the body may be late."""
        return min(self._last + self._silence_s, now + self._silence_s / 8)

    def _is_slow(self, now: float) -> bool:
        seconds = now - self._began
        return seconds >= self._silence_s and self._total - self._began_total < seconds * self._least_bytes_per_s

    def _slide(self, now: float) -> None:
        """Begin the window later, unless it would be shorter than half of its length or was slow so far."""
        if now - self._next >= self._silence_s / 2 and not self._is_slow(now):
            self._began, self._began_total = self._next, self._next_total
            self._next, self._next_total = now, self._total
