"""Reads and writes server-sent event streams. (WHATWG HTML §9.2.)

A stream is parsed incrementally, wherever the network has cut it. Of one that is passed through, only the first events and the
last ones are.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kyma_proxy.dialect.density import is_too_dense

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
BOUNDARIES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
"""The ends of a blank line, with that of the line before it."""
MAX_BOUNDARY_BYTES: Final = 4
_STREAM_STARTS: Final = (b"data:", b"event:", b":", b"id:", b"retry:", b"error:")
_FIRST_PIECES: Final = 16
"""Even if each has one byte, they show whether a body is a stream."""
_LINE_FEED: Final = 10
_RETURN: Final = 13
BOM: Final = b"\xef\xbb\xbf"
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
"""No provider sends an event longer than this that must be read. The parser refuses to buffer more."""
_LARGE_EVENT_BYTES: Final = 32 * 1024
_LINE_WEIGHT: Final = 48
"""A line that is held takes so many bytes of memory more than it has."""


def is_stream(pieces: list[bytes]) -> bool:
    """True if a body with these first pieces is an event stream, whatever its content type: no JSON begins like one."""
    return b"".join(pieces[:_FIRST_PIECES]).removeprefix(BOM).lstrip(b"\r\n").startswith(_STREAM_STARTS)


def ends_between_events(tail: bytes) -> bool:
    """True if a stream with this tail ends between two events. An empty stream does."""
    return not tail or tail.endswith(BOUNDARIES)


def ends_event(piece: bytes) -> bool:
    """True if a piece of a stream ends with a blank line. Cheap where it ends with two line feeds, as most do."""
    size = len(piece)
    if size < 2:
        return False
    last = piece[size - 1]
    if last == _LINE_FEED and piece[size - 2] == _LINE_FEED:
        return True
    return last in (_LINE_FEED, _RETURN) and piece.endswith(BOUNDARIES)


def last_boundary(text: bytes, end: int) -> int:
    """Return the end of the last event that ends within the first `end` bytes; -1 if there is none."""
    last = text.rfind(b"\n\n", 0, end)
    start = max(last, 0)
    if (found := text.rfind(b"\n\r\n", start, end)) >= 0:
        last = found + 1
    if (found := text.rfind(b"\r\r", start, end)) >= 0:
        last = max(last, found)
    return last + 2 if last >= 0 else -1


def end_of_event(text: bytes, position: int) -> int:
    """Return the end of the event that holds a position: behind its blank line, or that of the text."""
    ends = [found + len(boundary) for boundary in BOUNDARIES if (found := text.find(boundary, position)) >= 0]
    return min(ends) if ends else len(text)


COMMENT: Final = b"\n"
"""The name under which a comment is returned as an event; no real event can have it."""


class SseEvent(NamedTuple):
    """An event of a stream. `name` is b"" if the stream sets none; line feeds join the lines of its data."""

    name: bytes
    data: bytes


def encode_event(name: bytes, data: bytes) -> bytes:
    """Return the bytes of an event with its blank line, and without an `event` line if `name` is b""."""
    if data.find(b"\n") >= 0 or data.find(b"\r") >= 0:  # `in` would first try if these are numbers, at ten times the cost
        data = _LINE_END.sub(b"\ndata: ", data)
    return b"event: %b\ndata: %b\n\n" % (name, data) if name else b"data: %b\n\n" % data


class SseParser:
    """Parses a stream incrementally. An event is returned as soon as the last byte of its blank line is fed.

    `id`, `retry` and events without data are skipped. Comments are skipped too, unless `keeps_comments`: then each is returned
    as an event with the name COMMENT. Each byte is copied a fixed number of times, however small the pieces are.
    """

    __slots__ = ("_data", "_held_bytes", "_is_at_start", "_keeps_comments", "_line", "_name", "_skips_line_feed")

    def __init__(self, *, keeps_comments: bool = False) -> None:
        self._keeps_comments = keeps_comments
        self._line = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._held_bytes = 0
        self._is_at_start = True
        self._skips_line_feed = False

    def feed(self, piece: bytes) -> list[SseEvent]:
        """Return the events that this piece completes. Raises ValueError if one is too long, or has too many values."""
        if self._is_at_start:
            piece = bytes(self._line) + piece
            self._line.clear()
            if len(piece) < len(BOM) and BOM.startswith(piece):
                self._line += piece
                return []
            self._is_at_start = False
            piece = piece.removeprefix(BOM)
        if self._skips_line_feed and piece:
            piece = piece.removeprefix(b"\n")  # the second half of a CRLF that was cut
            self._skips_line_feed = False
        if piece.find(b"\r") >= 0:
            self._skips_line_feed = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return self._split(piece)

    def flush(self) -> list[SseEvent]:
        """Return the last event if the stream has ended without its blank line. Raises ValueError if it has too many values."""
        line = bytes(self._line)
        self._line.clear()
        self._held_bytes -= len(line) + _LINE_WEIGHT  # `_read_line` counts it again
        self._read_line(line)
        events: list[SseEvent] = []
        self._finish_event(events)
        return events

    def _split(self, piece: bytes) -> list[SseEvent]:
        events: list[SseEvent] = []
        position = 0
        end = piece.find(b"\n")
        while end >= 0:
            line = piece[position:end]
            if self._line:
                self._line += line
                line = bytes(self._line)
                self._line.clear()
                self._held_bytes -= len(line) - (end - position)
            if not line:
                self._finish_event(events)
            elif not line.startswith(b":"):
                self._read_line(line)
            elif self._keeps_comments:
                events.append(SseEvent(COMMENT, line[1:].removeprefix(b" ")))
            position = end + 1
            end = piece.find(b"\n", position)
        if position < len(piece):
            self._line += piece[position:] if position else piece
            self._count_held(len(piece) - position)
        return events

    def _read_line(self, line: bytes) -> None:
        """Read one field line; it is neither blank nor a comment."""
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
            self._count_held(len(line) + _LINE_WEIGHT)
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ")
        elif line.startswith(b"error:"):  # llama.cpp: a field of its own, with the error as its value
            self._name = b"error"
            self._data.append(line[6:].removeprefix(b" "))
            self._count_held(len(line) + _LINE_WEIGHT)
        elif line == b"data":
            self._data.append(b"")
            self._count_held(_LINE_WEIGHT)
        elif line == b"event":
            self._name = b""

    def _finish_event(self, events: list[SseEvent]) -> None:
        """Finish the event at its blank line. It counts only if it has data."""
        data = self._data
        if data:
            text = data[0] if len(data) == 1 else b"\n".join(data)
            self._data = []
            if len(text) > _LARGE_EVENT_BYTES and is_too_dense(text):
                raise ValueError("an event of the stream has too many values")
            events.append(SseEvent(self._name, text))
        self._name = b""
        self._held_bytes = 0

    def _count_held(self, size: int) -> None:
        self._held_bytes += size
        if self._held_bytes > MAX_EVENT_BYTES:
            raise ValueError(f"an event of the stream is longer than {MAX_EVENT_BYTES} bytes")


def events_in(text: bytes, *, is_end: bool = False) -> list[SseEvent]:
    """Return the events in a part of a stream, the last also without its blank line if `is_end`; none if one is too long."""
    parser = SseParser()
    try:
        return [*parser.feed(text), *(parser.flush() if is_end else ())]
    except ValueError:
        return []
