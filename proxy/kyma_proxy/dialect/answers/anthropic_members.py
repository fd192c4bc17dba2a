"""Declares the members of Anthropic's answers that are read. (`anthropic` says what they mean.)"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

NULL: Final = Raw(b"null")


class Event(msgspec.Struct, gc=False):
    """An event of a stream."""

    type: Any = None
    error: Any = None
    message: Any = None
    delta: Any = None
    content_block: Any = None
    usage: Any = None


class Message(msgspec.Struct, gc=False):
    """A whole answer; its content may be large and is not looked at."""

    type: Any = None
    error: Any = None
    input_tokens: Any = None
    usage: Any = None
    content: Raw = NULL


decode_event: Final = msgspec.json.Decoder(Event).decode
decode_message: Final = msgspec.json.Decoder(Message).decode
