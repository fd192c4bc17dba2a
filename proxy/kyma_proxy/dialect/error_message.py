"""Finds the message of a source's error, in any of the forms that sources use. (Contract §5.)"""

from __future__ import annotations

from typing import Final

import msgspec

MAX_QUOTED: Final = 300
"""Characters of a source's message that are kept: some sources quote the whole request in it."""
_MESSAGE_MEMBERS: Final = ("error", "message", "detail")
_encode: Final = msgspec.json.encode


def error_message_in(value: object, depth: int = 0) -> str:
    """Return the message in a decoded JSON error, under any of the usual member names; "" if there is none."""
    if isinstance(value, str):
        return value[:MAX_QUOTED]
    if isinstance(value, dict) and depth < 3:
        for name in _MESSAGE_MEMBERS:
            if message := error_message_in(value.get(name), depth + 1):
                return message
    if isinstance(value, list) and value:
        if not depth:
            return next((message for one in value if isinstance(one, dict) and (message := error_message_in(one, 1))), "")
        try:
            return _encode(value).decode()[:MAX_QUOTED]
        except (OverflowError, RecursionError):  # a number of more than 64 bits, or deep nesting
            return ""
    return ""


def first_line(body: bytes) -> str:
    """Return the first line of a plain-text error; "" for HTML, JSON or binary data."""
    try:
        lines = body[: 4 * MAX_QUOTED].decode().split("\n", 1)
    except UnicodeDecodeError:
        return ""
    first = lines[0].strip()[:MAX_QUOTED]
    return first if first.isprintable() and not first.startswith(("<", "{", "[")) else ""
