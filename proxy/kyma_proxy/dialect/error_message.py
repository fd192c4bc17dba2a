"""This file finds what an error says, in whatever form its source says it. (Contract §5.)"""

from __future__ import annotations

from typing import Final

import msgspec

MAX_QUOTED: Final = 300
"""Some sources quote the whole request; an error has no need of more characters than these."""
_NAMES: Final = ("error", "message", "detail")
_encode: Final = msgspec.json.encode


def message_in(value: object, depth: int = 0) -> str:
    """What a JSON value says, under whichever name its source says it; "" where it says nothing."""
    if isinstance(value, str):
        return value[:MAX_QUOTED]
    if isinstance(value, dict) and depth < 3:
        for name in _NAMES:
            if words := message_in(value.get(name), depth + 1):
                return words
    if isinstance(value, list) and value:
        if not depth:
            return next((words for one in value if isinstance(one, dict) and (words := message_in(one, 1))), "")
        return _encode(value).decode()[:MAX_QUOTED]
    return ""


def first_line(body: bytes) -> str:
    """The first line of a text that is no JSON; nothing of a page, or of what is no text."""
    try:
        lines = body[: 4 * MAX_QUOTED].decode().split("\n", 1)
    except UnicodeDecodeError:
        return ""
    first = lines[0].strip()[:MAX_QUOTED]
    return first if first.isprintable() and not first.startswith(("<", "{", "[")) else ""
