"""Recognises the event of a stream that reports what it used, and nothing else. (Contract §3.6.)"""

from __future__ import annotations

from typing import Final

import msgspec

_DATA: Final = b"data:"


class _Event(msgspec.Struct, gc=False):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, msgspec.Raw] | None = None


_event: Final = msgspec.json.Decoder(_Event).decode


def is_usage_only(event: bytes) -> bool:
    """True if an event has a usage and no choice."""
    data = b"\n".join(line[len(_DATA) :].removeprefix(b" ") for line in event.splitlines() if line.startswith(_DATA))
    try:
        decoded = _event(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return decoded.usage is not None and not decoded.choices
