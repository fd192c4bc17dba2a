"""Declares the members of Anthropic's answers that are read. (`anthropic` says what they mean.)"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw

from kyma_proxy.dialect.answers.usage import MAX_TOKENS

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


_Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class CacheCreation(msgspec.Struct, gc=False):
    """The tokens that were written to a cache, by their lifetime, in a usual usage object."""

    ephemeral_5m_input_tokens: _Count | None = None
    ephemeral_1h_input_tokens: _Count | None = None


class ServerTools(msgspec.Struct, gc=False):
    """The provider's own tools in a usual usage object."""

    web_search_requests: _Count | None = None


class UsualUsage(msgspec.Struct, gc=False):
    """A usage object with the two usual counts, and no `iterations`."""

    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerTools | None = None
    service_tier: str | None = None
    iterations: None = None


class UsualMessage(msgspec.Struct, gc=False):
    """A whole message, as most providers write it; its content may be large and is not looked at."""

    usage: UsualUsage
    content: Raw
    type: str | None = None
    error: None = None


decode_event: Final = msgspec.json.Decoder(Event).decode
decode_message: Final = msgspec.json.Decoder(Message).decode
