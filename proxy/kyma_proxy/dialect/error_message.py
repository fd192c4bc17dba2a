"""This file finds what an error says, in whatever form its source says it. (Contract §5.)"""

from __future__ import annotations

from typing import Final

import msgspec

MOST_QUOTED: Final = 300
"""Some sources quote the whole request; an error has no need of more characters than these."""
_NAMES: Final = ("error", "message", "detail")
_encode: Final = msgspec.json.encode


def words_of(value: object, depth: int = 0) -> str:
    """What a JSON value says, under whichever name its source says it; "" where it says nothing."""
    if isinstance(value, str):
        return value[:MOST_QUOTED]
    if isinstance(value, dict) and depth < 3:
        for name in _NAMES:
            if words := words_of(value.get(name), depth + 1):
                return words
    if isinstance(value, list) and value:
        if not depth:
            return next((words for one in value if isinstance(one, dict) and (words := words_of(one, 1))), "")
        return _encode(value).decode()[:MOST_QUOTED]
    return ""


def first_words(body: bytes) -> str:
    """The first line of a text that is no JSON; nothing of a page, or of what is no text."""
    try:
        lines = body[: 4 * MOST_QUOTED].decode().split("\n", 1)
    except UnicodeDecodeError:
        return ""
    first = lines[0].strip()[:MOST_QUOTED]
    return first if first.isprintable() and not first.startswith(("<", "{", "[")) else ""
