"""This file reads and writes server-sent event streams. (WHATWG HTML §9.2.)

Most streams are passed on as they come: the relay then only needs to know what the first event says, and whether the bytes so
far end between two events. A stream that is translated is taken apart, wherever the network has cut it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOUNDARIES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
_OPENINGS: Final = (b"data:", b"event:", b": ", b":\n", b"id:", b"retry:")
BOM: Final = b"\xef\xbb\xbf"
MAX_HELD_BYTES: Final = 16_384
"""A first event longer than this is no error that a provider would send; it goes out without waiting for its end."""
MAX_EVENT_BYTES: Final = 32 * 1024 * 1024
"""An event longer than this is none that a provider would send, and is not waited for."""


def first_event(held: bytes) -> bytes | None:
    """The data of the first event, b"" when the stream begins with something that is none, None when undecided.

    A comment is life and goes out at once, so a stream that begins with one has nothing to wait for.
    """
    close = held.find(b"\n\n")
    if close > 0 and held.startswith(b"data: ") and held.find(b"\n", 0, close) < 0 and held.find(b"\r", 0, close) < 0:
        return held[6:close]  # one line of data, as every provider begins
    if held.startswith(BOM):
        held = held[len(BOM) :]
    data: list[bytes] = []
    position = 0
    for end in _LINE_END.finditer(held):
        line = held[position : end.start()]
        if end.end() == len(held) and end[0] == b"\r":
            break  # a line feed may follow
        position = end.end()
        if line.startswith(b":"):
            return b""
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
        elif data:
            return b"\n".join(data)
    last = held[position:]
    if last.startswith(b":") or len(held) > MAX_HELD_BYTES:
        return b""
    return None


def is_stream(opening: bytes) -> bool:
    """Whether a body that begins so is a stream of events, whatever its type says: no JSON begins like one."""
    return opening.removeprefix(BOM).startswith(_OPENINGS)


def ends_between_events(tail: bytes) -> bool:
    """Whether a stream whose last bytes are `tail` stands between two events. An empty stream does."""
    return not tail or tail.endswith(_BOUNDARIES)


def last_data(tail: bytes) -> bytes:
    """The data of the last event in the tail of a stream, b"" where there is none."""
    position = max(tail.rfind(b"\ndata:"), tail.rfind(b"\rdata:")) + 1
    if not tail.startswith(b"data:", position):
        return b""
    return _LINE_END.split(tail[position + 5 :], maxsplit=1)[0].strip()


COMMENT: Final = b"\n"
"""Stands in an event's place for the name of a comment; no event can have this name."""


class SseEvent(NamedTuple):
    """An event of a stream; `name` is b"" where the stream gives it none; the lines of its data are joined by line feeds."""

    name: bytes
    data: bytes


def emitted(name: bytes, data: bytes) -> bytes:
    """The bytes of an event, its blank line among them; without a name where `name` is b""."""
    if b"\n" in data or b"\r" in data:
        data = _LINE_END.sub(b"\ndata: ", data)
    return b"event: %b\ndata: %b\n\n" % (name, data) if name else b"data: %b\n\n" % data


class Splitter:
    """Takes a stream apart into its events, each of which is given out with the byte that ends its blank line.

    `id` and `retry` are skipped, and so is an event without data. Comments are skipped too, unless `keeps_comments`: then each
    is given out as an event of the name COMMENT. Each byte is copied a fixed number of times, however small the pieces are.
    """

    __slots__ = ("_data", "_held", "_is_opening", "_keeps_comments", "_line", "_name", "_skips_line_feed")

    def __init__(self, *, keeps_comments: bool = False) -> None:
        self._keeps_comments = keeps_comments
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        self._held = 0
        self._is_opening = True
        self._skips_line_feed = False

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that this piece completes. Raises ValueError where one is longer than MAX_EVENT_BYTES."""
        if self._is_opening:
            piece = b"".join(self._line) + piece
            self._line = []
            if len(piece) < len(BOM) and BOM.startswith(piece):
                self._line.append(piece)
                return []
            self._is_opening = False
            piece = piece.removeprefix(BOM)
        if self._skips_line_feed and piece:
            piece = piece.removeprefix(b"\n")  # of a line end that was cut in two
            self._skips_line_feed = False
        if b"\r" in piece:
            self._skips_line_feed = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return self._split(piece)

    def flush(self) -> list[SseEvent]:
        """When the stream has ended: its last event, where it came without its blank line."""
        line = b"".join(self._line)
        self._line = []
        self._take(line)
        events: list[SseEvent] = []
        self._close(events)
        return events

    def _split(self, piece: bytes) -> list[SseEvent]:
        events: list[SseEvent] = []
        position = 0
        end = piece.find(b"\n")
        while end >= 0:
            line = piece[position:end]
            if self._line:
                self._line.append(line)
                line = b"".join(self._line)
                self._line = []
                self._held -= len(line) - (end - position)
            if not line:
                self._close(events)
            elif not line.startswith(b":"):
                self._take(line)
            elif self._keeps_comments:
                events.append(SseEvent(COMMENT, line[1:].removeprefix(b" ")))
            position = end + 1
            end = piece.find(b"\n", position)
        if position < len(piece):
            self._line.append(piece[position:] if position else piece)
            self._hold(len(piece) - position)
        return events

    def _take(self, line: bytes) -> None:
        """Read one line, which is neither blank nor a comment."""
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
            self._hold(len(line))
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ")
        elif line == b"data":
            self._data.append(b"")
            self._hold(len(line))
        elif line == b"event":
            self._name = b""

    def _close(self, events: list[SseEvent]) -> None:
        """A blank line: what was read is an event, if it has data."""
        data = self._data
        if data:
            events.append(SseEvent(self._name, data[0] if len(data) == 1 else b"\n".join(data)))
            self._data = []
        self._name = b""
        self._held = 0

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > MAX_EVENT_BYTES:
            raise ValueError(f"an event of the stream is longer than {MAX_EVENT_BYTES} bytes")
