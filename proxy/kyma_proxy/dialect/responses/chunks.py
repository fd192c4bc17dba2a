"""Decodes the events of a stream of chat completions, for callers of Responses.

Structs for msgspec stand in a module that is not compiled: mypyc keeps no annotations.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.answer import Delta as ChatDelta

ABSENT: Final = Raw(b"null")
"""The value of a member that is not there: to tell it by its identity costs next to nothing."""


class Delta(ChatDelta, gc=False):
    """The delta of an event; a source that signs its thoughts has them in blocks."""

    thinking_blocks: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct, gc=False):
    """A choice of an event."""

    delta: Delta | None = None
    index: int | None = None
    finish_reason: str | None = None
    usage: Raw = ABSENT


class Chunk(msgspec.Struct, gc=False):
    """An event of a stream of chat completions."""

    object: str | None = None
    choices: list[Choice] | None = None
    usage: Raw = ABSENT
    x_groq: Raw = ABSENT
    error: Raw = ABSENT


decode_chunk: Final = msgspec.json.Decoder(Chunk).decode
decode_any: Final = msgspec.json.Decoder().decode
