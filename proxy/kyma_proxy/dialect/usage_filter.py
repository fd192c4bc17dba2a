"""Removes from a stream the usage-only event that only the gateway asked the source for. (Contract §3.6.)

All other bytes pass unchanged. A piece that ends within an event is held until the event is complete, as its kind is not known
before.
"""

from __future__ import annotations

import re
from typing import Final

from kyma_proxy.dialect.sse import MAX_BOUNDARY_BYTES
from kyma_proxy.dialect.usage_event import is_usage_only

_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\r?\n|\r\r")
_MARK: Final = b'"prompt_tokens"'
_MAX_HELD_BYTES: Final = 256 * 1024
_MIN_BYTES_BESIDE_TWO: Final = 10
"""Two chunks have at least so many bytes beside the body; one that is short enough to be passed has fewer."""
_CHOICE: Final = b'"choices":[{'
_CONTENT: Final = b'"content":"'
_QUOTE: Final = b'"'
_TEXT_ENDS: Final = (b'"}', b'",')
_USAGE: Final = b"usage"
_NO_USAGE: Final = b'"usage":null'
_ESCAPE: Final = b"\\"
_MIN_HIDDEN_BYTES: Final = len(b'\n\ndata:{"usage":{"":"prompt_tokens')
"""So many bytes at least are in a text that ends an event and begins the one that reports usage."""
_BYTES_BEHIND: Final = 4
"""The end of an event, which is two line feeds, and that of its chunk."""
_LINE_FEED: Final = 10
_RETURN: Final = 13
_MAX_LEARNED: Final = 8
"""Some sources begin each event otherwise; after so many it is no longer tried."""


class UsageFilter:
    """Passes a stream, without its first usage-only event."""

    __slots__ = ("_after", "_around", "_before", "_beginning", "_held", "_learned", "_searched", "is_done")

    def __init__(self) -> None:
        self._held = bytearray()
        self._searched = 0  # of what is held, so many bytes have no boundary
        self._beginning = _CHOICE  # of an event with a choice: no event that begins so is the one
        self._before = self._after = b""  # the text of an event
        self._around = 0  # bytes of both
        self._learned = 0
        self.is_done = False
        """True if the event was removed, or one event is too long to be held: everything that follows passes."""

    def feed(self, piece: bytes) -> bytes:
        """Return what can be sent now; b"" if an event must be completed first."""
        if self.is_done:
            return piece
        if not self._held and not _has_mark(piece) and piece.endswith(b"\n\n"):
            return piece
        if self._held:
            self._held += piece
            if not _BOUNDARY.search(self._held, max(0, self._searched - MAX_BOUNDARY_BYTES)):
                self._searched = len(self._held)
                return b"" if self._searched <= _MAX_HELD_BYTES else self._let_go()
            piece = bytes(self._held)
            self._held.clear()
        return self._filtered(piece)

    def passes(self, chunks: bytes, size: int) -> bool:
        """True if these whole chunks, with `size` bytes that end with an event, pass unchanged. In two the mark may be cut."""
        if self.is_done:
            return not self._held
        beside = len(chunks) - size
        if self._held or beside >= _MIN_BYTES_BESIDE_TWO:
            return False
        event = chunks[beside - 2 : len(chunks) - _BYTES_BEHIND]
        # Most events are like the one before but for what they say: that is cheaper to see than that no usage is in them.
        length = len(event) - self._around
        if 0 <= length < _MIN_HIDDEN_BYTES and event.startswith(self._before) and event.endswith(self._after):
            return True
        # A number is looked for by C's memchr; `count` and `find` of a byte cost several times as much.
        if _LINE_FEED in event or _RETURN in event:
            return not _has_mark(chunks)
        if not event.startswith(self._beginning) and _has_mark(event):
            return False
        if self._learned < _MAX_LEARNED:
            self._learn(event)
        return True

    def _learn(self, event: bytes) -> None:
        """Learn how this event begins and ends: it has one line, and passes."""
        self._learned += 1
        choice = event.find(_CHOICE)
        if choice < 0:
            return
        self._beginning = event[: choice + len(_CHOICE)]
        content = event.find(_CONTENT, choice)
        end = event.find(_QUOTE, content + len(_CONTENT)) if content >= 0 else -1
        after = event[end:] if end >= 0 else b""
        # The usage and the mark are to be in the text itself, were they hidden there: what follows it can't complete them.
        if after.startswith(_TEXT_ENDS) and after.find(_ESCAPE) < 0 and after.replace(_NO_USAGE, b"").find(_USAGE) < 0:
            self._before, self._after = event[: content + len(_CONTENT)], after
            self._around = len(self._before) + len(after)

    def _filtered(self, data: bytes) -> bytes:
        out: list[bytes] = []
        start = 0
        for boundary in _BOUNDARY.finditer(data):
            event = data[start : boundary.end()]
            start = boundary.end()
            if not self.is_done and _has_mark(event) and is_usage_only(event):
                self.is_done = True
                out.append(_blank_lines(event))
            else:
                out.append(event)
        self._held += data[start:]
        self._searched = len(self._held)
        if self.is_done or self._searched > _MAX_HELD_BYTES:
            out.append(self._let_go())
        return b"".join(out)

    def _let_go(self) -> bytes:
        self.is_done = True
        return self._take()

    def _take(self) -> bytes:
        held = bytes(self._held)
        self._held.clear()
        return held

    @property
    def is_holding(self) -> bool:
        """True if an event is held whose end has not come; what was returned ends between two events."""
        return bool(self._held)

    def flush(self) -> bytes:
        """Return what is held when the stream ends: an event without its blank line, unless it is the usage-only event."""
        held = self._take()
        return _blank_lines(held) if _has_mark(held) and is_usage_only(held) else held


def _has_mark(text: bytes) -> bool:
    """True if a usage may be in this text.

    `in` would first try if the mark is a number, and raise and catch an error for that: that is ten times the search.
    """
    return len(text.partition(_MARK)[1]) > 0


def _blank_lines(event: bytes) -> bytes:
    """The line ends before an event: the cuts between pieces decide if they are thought to be its own. So they always pass."""
    return event[: len(event) - len(event.lstrip(b"\r\n"))]
