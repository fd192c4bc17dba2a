"""Recognises whole chunks of an event stream, which can be passed on as they came. (RFC 9112 §7.1)

Only what needs no parser is recognised: sizes without leading zeros, no extensions, neither the last chunk nor trailers.
"""

from __future__ import annotations

from typing import Final

MAX_CHUNKS_BYTES: Final = 4096
"""The most that is recognised at once."""
_LINE_FEED: Final = 10
_RETURN: Final = 13
_MIN_CHUNK_BYTES: Final = 9
"""A chunk of four bytes: shorter ones may end with a part of an event's end."""
_MAX_USUAL_BYTES: Final = 1024


def _size_line(length: int) -> bytes:
    """Return the line with which a chunk of so many bytes, framing included, begins; a longer one if there is none."""
    for digits in range(1, 4):
        line = b"%x\r\n" % max(length - digits - 4, 0)
        if len(line) == digits + 2:
            return line
    return bytes(_MAX_USUAL_BYTES)


_SIZE_LINES: Final = [_size_line(length) for length in range(_MAX_USUAL_BYTES)]
"""By the length of the whole chunk. So one chunk, as most reads are, is recognised with one comparison."""


def size_of_events(data: bytes) -> int:
    """Return how many bytes of a body these chunks hold; 0 unless they are whole, and the last one ends with an event."""
    end = len(data)
    if end < _MIN_CHUNK_BYTES or data[end - 3] != _LINE_FEED:
        return 0
    before = data[end - 4]
    if before != _LINE_FEED and (before != _RETURN or data[end - 5] != _LINE_FEED):
        return 0
    if end < _MAX_USUAL_BYTES:
        line = _SIZE_LINES[end]
        if data.startswith(line) and data[end - 1] == _LINE_FEED and data[end - 2] == _RETURN:
            return end - len(line) - 2
    return _size_of_chunks(data, end)


def _size_of_chunks(data: bytes, end: int) -> int:
    at = total = size = 0
    while at < end:
        size = 0
        start = at
        while at < end:
            digit = data[at]
            at += 1
            if 48 <= digit <= 57:
                size = size * 16 + digit - 48
            elif 97 <= digit <= 102:
                size = size * 16 + digit - 87
            elif 65 <= digit <= 70:
                size = size * 16 + digit - 55
            else:
                break
            if not size:
                return 0  # the last chunk, or a leading zero
        else:
            return 0
        if digit != _RETURN or at - start < 2 or at >= end or data[at] != _LINE_FEED:
            return 0
        at += size + 3
        if at > end or data[at - 1] != _LINE_FEED or data[at - 2] != _RETURN:
            return 0
        total += size
    return total if size > 3 else 0


def joined_body(chunks: list[bytes]) -> bytes:
    """Return the body in whole chunks that `size_of_events` has recognised."""
    parts = []
    data = b"".join(chunks)
    at = 0
    while at < len(data):
        start = data.index(b"\r\n", at) + 2
        at = start + int(data[at : start - 2], 16)
        parts.append(data[start:at])
        at += 2
    return b"".join(parts)
