"""Declares the members of OpenAI's answers that are read. (`openai` says what they mean.)

What is small is decoded as it comes, whatever its type: providers differ. What may be large is left as it is.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

NULL: Final = Raw(b"null")


class Choice(msgspec.Struct, gc=False):
    """A choice in an event of a stream."""

    delta: Any = None
    text: Any = None
    finish_reason: Any = None
    error: Any = None
    usage: Any = None


class Event(msgspec.Struct, gc=False):
    """An event of a stream."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    type: Any = None
    object: Any = None
    item: Any = None
    part: Any = None
    x_groq: Any = None
    service_tier: Any = None
    response: Raw = NULL


class Response(msgspec.Struct, gc=False):
    """The response in an event of `responses`."""

    usage: Any = None
    error: Any = None
    service_tier: Any = None
    output: Raw = NULL


class WholeChoice(msgspec.Struct, gc=False):
    """A choice of a whole answer; its message is not looked at."""

    finish_reason: Any = None
    error: Any = None
    usage: Any = None


class Whole(msgspec.Struct, gc=False):
    """A whole answer, at any endpoint."""

    choices: list[WholeChoice] | None = None
    usage: Any = None
    error: Any = None
    type: Any = None
    object: Any = None
    status: Any = None
    x_groq: Any = None
    service_tier: Any = None
    output: Raw = NULL
    data: Raw = NULL


class Item(msgspec.Struct, gc=False):
    """An item of a response's output."""

    type: Any = None


decode_event: Final = msgspec.json.Decoder(Event).decode
decode_response: Final = msgspec.json.Decoder(Response).decode
decode_whole: Final = msgspec.json.Decoder(Whole).decode
decode_items: Final = msgspec.json.Decoder(list[Item]).decode
