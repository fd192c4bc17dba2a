"""Declares the members of OpenAI's answers that are read. (`openai` says what they mean.)

What is small is decoded as it comes, whatever its type: providers differ. What may be large is left as it is.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw

from kyma_proxy.dialect.answers.usage import MAX_TOKENS

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


_Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
_Positive = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]


class PromptDetails(msgspec.Struct, gc=False):
    """The details of a prompt in a usual usage object."""

    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None


class UsualUsage(msgspec.Struct, gc=False):
    """A usage object with the three usual counts. What is `None` would say the same in another way, and is not usual."""

    prompt_tokens: _Positive
    completion_tokens: _Positive
    total_tokens: _Count
    prompt_tokens_details: PromptDetails | None = None
    cached_tokens: _Count | None = None
    prompt_cache_hit_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    num_search_queries: _Count | None = None
    service_tier: str | None = None
    server_tool_use: None = None
    input_tokens_details: None = None


class UsualChoice(msgspec.Struct, gc=False):
    """A choice of a usual whole answer."""

    finish_reason: str | None = None
    error: None = None


class UsualWhole(msgspec.Struct, gc=False):
    """A whole answer of chat, as most providers write it."""

    choices: list[UsualChoice]
    usage: UsualUsage
    service_tier: str | None = None
    error: None = None


decode_event: Final = msgspec.json.Decoder(Event).decode
decode_response: Final = msgspec.json.Decoder(Response).decode
decode_whole: Final = msgspec.json.Decoder(Whole).decode
decode_items: Final = msgspec.json.Decoder(list[Item]).decode
