"""Bounds how much of a stream may say nothing: pings and comments are welcome, a flood of them would cost a processor for ever.

Providers send one a second at the most, as a sign of life. Only what comes faster than it can be passed on is looked at, which
shows in how much is dropped at once; and of that only the last events. So no usual event costs anything here.
"""

from __future__ import annotations

from typing import Final

from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.dialect.answers.facts import BadAnswer, End
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.sse import events_in, last_boundary

LARGE_DROP_BYTES: Final = 8192
"""No usual stream brings so much before the reader has looked at it."""
_LAST_EVENTS: Final = 8
_LAST_PIECES: Final = 16
_MAX_EVENT_BYTES: Final = 64 * 1024
_MAX_WEIGHT: Final = 2**20
"""A line counts 1, and so do 64 bytes: at one ping a second, months."""
_BYTES_PER_LINE: Final = 64


class Silence:
    """The silence of one stream, in this dialect."""

    __slots__ = ("_dialect", "_weight")

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._weight = 0

    def check(self) -> None:
        """Raises BadAnswer if it is too long."""
        if self._weight > _MAX_WEIGHT:
            raise BadAnswer(FailureKind.BROKEN, "its stream goes on without saying anything")

    def look(self, pieces: list[bytes], *, is_silent: bool) -> None:
        """Look at the last events of each piece: if they say nothing, the others are taken to say no more.

        `is_silent`: they are known to say nothing.
        """
        if not is_silent and any(_says_something(self._dialect, piece) for piece in pieces[-_LAST_PIECES:]):
            self._weight = 0
            return
        for piece in pieces:
            self._weight += piece.count(b"\n") + piece.count(b"\r") + len(piece) // _BYTES_PER_LINE


def _says_something(dialect: Dialect, text: bytes) -> bool:
    """True if one of the last events does, or is too large to be a ping. An event that does not end says nothing yet."""
    end = boundary = last_boundary(text, len(text))
    for _ in range(_LAST_EVENTS):
        if boundary > 0:
            boundary = last_boundary(text, boundary - 1)
    if end <= 0:
        return False
    if end - max(boundary, 0) > _MAX_EVENT_BYTES:
        return True
    for event in events_in(text[max(boundary, 0) : end]):
        facts = dialect.read_event(event.name, event.data)
        if facts.is_answer or facts.error is not None or facts.usage is not None or facts.end is not End.NO:
            return True
    return False
