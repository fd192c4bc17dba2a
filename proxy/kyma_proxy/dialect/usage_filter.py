"""This file keeps from a caller the one event that the gateway asked for: OpenAI's usage-only event. (Contract §3.6.)

All other bytes go out as they came. A piece that ends in the middle of an event is held until the event is whole, as nobody
can tell before what it will be.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\r?\n|\r\r")
_MARK: Final = b'"prompt_tokens"'
_MAX_HELD_BYTES: Final = 256 * 1024
_DATA: Final = b"data:"


class _Event(msgspec.Struct, gc=False):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, msgspec.Raw] | None = None


_event: Final = msgspec.json.Decoder(_Event).decode


class UsageFilter:
    """Lets a stream pass but for its first usage-only event."""

    __slots__ = ("_held", "is_done")

    def __init__(self) -> None:
        self._held = b""
        self.is_done = False
        """The event has come, or can't be told from others any more: all that follows passes."""

    def feed(self, piece: bytes) -> bytes:
        """What of the stream may go out now; b"" where an event must be heard out first."""
        if self.is_done:
            return piece
        if not self._held and _MARK not in piece and piece.endswith(b"\n\n"):
            return piece
        data = self._held + piece
        out: list[bytes] = []
        start = 0
        for boundary in _BOUNDARY.finditer(data):
            event = data[start : boundary.end()]
            start = boundary.end()
            if not self.is_done and _MARK in event and _is_usage_only(event):
                self.is_done = True
            else:
                out.append(event)
        left = data[start:]
        if self.is_done or len(left) > _MAX_HELD_BYTES:
            self.is_done = True
            self._held = b""
            out.append(left)
        else:
            self._held = left
        return b"".join(out)

    def flush(self) -> bytes:
        """What is left when the stream ends: an event without its blank line, which passes unless it is the one."""
        held, self._held = self._held, b""
        return b"" if _MARK in held and _is_usage_only(held) else held


def _is_usage_only(event: bytes) -> bool:
    """Whether an event holds a usage and no choice."""
    data = b"\n".join(line[len(_DATA) :].removeprefix(b" ") for line in event.splitlines() if line.startswith(_DATA))
    try:
        read = _event(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return read.usage is not None and not read.choices
