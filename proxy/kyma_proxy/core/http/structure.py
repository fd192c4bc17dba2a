"""Counts the values of a JSON body: its commas, colons and opening brackets outside of strings.

What it costs to read or to translate a body depends on them, and hardly on the length of the strings between. Escapes are
removed, then everything but quotes and marks; what then stands between the quotes is in or outside of a string by turns. Each
of these passes runs at a gigabyte a second or so. The count is done in bounded steps, and stops at a limit.
"""

from __future__ import annotations

from typing import Final

_PIECE_BYTES: Final = 65_536
_STEP_BYTES: Final = 2**21
_STEP_MARKS: Final = 16_384
"""To step over a quote or an escape costs some 30 ns more than over another byte."""
_UNMARKED: Final = bytes(sorted(set(range(256)).difference(b'",:{[')))


class ValueCounter:
    """Counts the values of one body, which is known to be JSON. The count may pass the limit by a piece's bytes."""

    __slots__ = ("_at", "_body", "_is_within", "_limit", "colons", "is_done", "values")

    def __init__(self, body: bytes, limit: int) -> None:
        self._body = body
        self._limit = limit
        self._at = 0
        self._is_within = False  # within a string
        self.values = 0
        """The commas and opening brackets: as many as there are values, or more by the brackets of empty ones."""
        self.colons = 0
        """The members of all objects."""
        self.is_done = not body

    def step(self) -> None:
        """Count on for about a millisecond. `is_done` is True at the end of the body, and beyond the limit."""
        body, size, limit = self._body, len(self._body), self._limit
        stop = self._at + _STEP_BYTES
        marks = 0
        while self._at < size and self._at < stop and marks < _STEP_MARKS and self.values <= limit:
            piece = body[self._at : self._at + _PIECE_BYTES]
            self._at += len(piece)
            if piece.endswith(b"\\") and (len(piece) - len(piece.rstrip(b"\\"))) & 1 and self._at < size:
                piece = body[self._at - len(piece) : self._at + 1]  # with the character that the last of them escapes
                self._at += 1
            marks += self._count(piece)
        self.is_done = self._at >= size or self.values > limit

    def _count(self, piece: bytes) -> int:
        """Count in a piece, which ends with no half of an escape. Returns how many marks have cost time."""
        if self._is_within and piece.find(b'"') < 0:
            return 0
        escapes = piece.count(b"\\")
        if escapes:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        texts = piece.translate(None, _UNMARKED).split(b'"')
        quotes = len(texts) - 1
        outside = b"".join(texts[1::2] if self._is_within else texts[::2])
        colons = outside.count(b":")
        self.colons += colons
        self.values += len(outside) - colons
        if quotes & 1:
            self._is_within = not self._is_within
        return escapes + quotes


def count_values(body: bytes, limit: int) -> int:
    """Count the values of a body at once; a number above the limit if there are more."""
    counter = ValueCounter(body, limit)
    while not counter.is_done:
        counter.step()
    return counter.values
