"""This file looks at the edges of a server-sent event stream without taking it apart. (WHATWG HTML §9.2.)

The relay passes streams on as they come; it only needs to know what the first event says, and whether the bytes so
far end between two events.
"""

from __future__ import annotations

import re
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOUNDARIES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
_BOM: Final = b"\xef\xbb\xbf"
MAX_HELD_BYTES: Final = 16_384
"""A first event longer than this is no error that a provider would send; it goes out without waiting for its end."""


def first_event(held: bytes) -> bytes | None:
    """The data of the first event, b"" when the stream begins with something that is none, None when undecided.

    A comment is life and goes out at once, so a stream that begins with one has nothing to wait for.
    """
    close = held.find(b"\n\n")
    if close > 0 and held.startswith(b"data: ") and held.find(b"\n", 0, close) < 0 and held.find(b"\r", 0, close) < 0:
        return held[6:close]  # one line of data, as every provider begins
    if held.startswith(_BOM):
        held = held[len(_BOM) :]
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
    rest = held[position:]
    if rest.startswith(b":") or len(held) > MAX_HELD_BYTES:
        return b""
    return None


def ends_between_events(tail: bytes) -> bool:
    """Whether a stream whose last bytes are `tail` stands between two events. An empty stream does."""
    return not tail or tail.endswith(_BOUNDARIES)


def last_data(tail: bytes) -> bytes:
    """The data of the last event in the tail of a stream, b"" where there is none."""
    position = max(tail.rfind(b"\ndata:"), tail.rfind(b"\rdata:")) + 1
    if not tail.startswith(b"data:", position):
        return b""
    return _LINE_END.split(tail[position + 5 :], maxsplit=1)[0].strip()
