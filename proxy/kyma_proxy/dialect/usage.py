"""Finds usage in the first and last bytes of an answer, in any dialect.

A truncated document can't be parsed, so the member is searched by its name. Inside a JSON string the quotes of the name would
be escaped, so a match is a member and never a part of a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

_NAME: Final = b'"usage"'
_MAX_MATCHES: Final = 8
_VALUE: Final = re.compile(rb"[ \t\r\n]{0,6}:[ \t\r\n]{0,6}(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\}?)")
"""An object; the match is exact if it nests no deeper than usage does and no string in it has a brace."""


TokenCount = Annotated[int, msgspec.Meta(ge=0, le=2**28)]
"""A provider's number is untrusted: the bound keeps what is counted and charged plausible."""


class Details(msgspec.Struct, gc=False):
    """OpenAI's breakdown of the prompt tokens."""

    cached_tokens: TokenCount | None = None


class Counts(msgspec.Struct, gc=False):
    """Every member under which a provider reports tokens."""

    prompt_tokens: TokenCount | None = None
    completion_tokens: TokenCount | None = None
    prompt_tokens_details: Details | None = None
    prompt_cache_hit_tokens: TokenCount | None = None
    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    input_tokens_details: Details | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None


_decode: Final = msgspec.json.Decoder(Counts).decode


def counts_from_end(text: bytes) -> Iterator[Counts]:
    """Yield the usage objects in `text` that have any count, the last one first."""
    position = len(text)
    for _ in range(_MAX_MATCHES):
        position = text.rfind(_NAME, 0, position)
        if position < 0:
            return
        found = _counts_at(text, position + len(_NAME))
        if found is not None:
            yield found


def _counts_at(text: bytes, position: int) -> Counts | None:
    value = _VALUE.match(text, position)
    if value is None:
        return None
    begin = end = value.start(1)
    likely_end = value.end(1)
    for _ in range(8):  # if a string has a brace, or the nesting is deeper, each closing brace may be the end
        try:
            counts = _decode(text[begin : likely_end or end])
        except (msgspec.ValidationError, RecursionError):
            return None
        except msgspec.DecodeError:
            likely_end = 0
            end = text.find(b"}", end) + 1
            if not end:
                return None
            continue
        totals = (counts.prompt_tokens, counts.completion_tokens, counts.input_tokens, counts.output_tokens)
        return counts if any(count is not None for count in totals) else None
    return None
