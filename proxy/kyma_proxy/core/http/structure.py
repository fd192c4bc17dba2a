"""Counts the values of a JSON body: its commas and opening brackets outside of strings.

What a translation costs depends on them, and hardly on the length of the strings between. The count goes from quote to quote,
so that a long string costs a search for one byte. It is done in bounded steps, and stops at a limit.
"""

from __future__ import annotations

from typing import Final

_WINDOW_BYTES: Final = 65_536
_STEP_COST: Final = 4_096
"""The cost of a step; to go from one quote to the next costs 1, a third of a microsecond."""
_STRUCTURE_BYTES: Final = 64
_STRING_BYTES: Final = 16_384
_BACKSLASHES: Final = 32
_BACKSLASH: Final = 0x5C


class ValueCounter:
    """Counts the values of one body, which is known to be JSON. The count may pass the limit by a window's bytes."""

    __slots__ = ("_at", "_body", "_is_within", "_limit", "is_done", "quotes", "values")

    def __init__(self, body: bytes, limit: int) -> None:
        self._body = body
        self._limit = limit
        self._at = 0
        self._is_within = False  # within a string
        self.values = 0
        self.quotes = 0
        self.is_done = not body

    def step(self) -> None:
        """Count on for about a millisecond. `is_done` is True at the end of the body, and beyond the limit."""
        body, at, is_within, values = self._body, self._at, self._is_within, self.values
        size, limit = len(body), self._limit
        cost = 0
        while cost < _STEP_COST and at < size and values <= limit:
            stop = min(size, at + _WINDOW_BYTES)
            quote = body.find(b'"', at, stop)
            end = quote if quote >= 0 else stop
            if is_within:
                backslashes = _backslashes_before(body, at, end)
                cost += 1 + (end - at) // _STRING_BYTES + backslashes // _BACKSLASHES
                is_within = quote < 0 or backslashes & 1 == 1
                if quote < 0 and backslashes & 1 == 1:
                    end += 1  # the character that the last of them escapes
                elif quote >= 0:
                    end += 1
            else:
                cost += 1 + (end - at) // _STRUCTURE_BYTES
                values += _values_in(body, at, end)
                if quote >= 0:
                    is_within = True
                    end += 1
            self.quotes += 1
            at = end
        self._at, self._is_within, self.values = at, is_within, values
        self.is_done = at >= size or values > limit


def count_values(body: bytes, limit: int) -> int:
    """Count the values of a body at once; a number above the limit if there are more."""
    counter = ValueCounter(body, limit)
    while not counter.is_done:
        counter.step()
    return counter.values


def _values_in(body: bytes, start: int, end: int) -> int:
    if end - start > 8:
        return body.count(b",", start, end) + body.count(b"{", start, end) + body.count(b"[", start, end)
    values = 0
    for at in range(start, end):
        byte = body[at]
        if byte == 0x2C or byte == 0x7B or byte == 0x5B:  # noqa: PLR1714  (a tuple would be searched)
            values += 1
    return values


def _backslashes_before(body: bytes, start: int, end: int) -> int:
    """The number of backslashes that stand directly before `end`, back to `start` at most."""
    at = end
    while at > start and body[at - 1] == _BACKSLASH:
        at -= 1
    return end - at
