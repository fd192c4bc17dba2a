"""Compiles `body`: members that are added to the requests that do not have them. (Contract §12.)"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

# The gateway reads or sets these itself, and another value behind its back would contradict it.
_OWN_MEMBERS: Final = frozenset(
    {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens"}
)


def compile_body(*levels: Mapping[str, Any]) -> tuple[tuple[str, bytes], ...]:
    """The members of all levels, the later ones winning, each as the text to insert."""
    merged = {name: value for level in levels for name, value in level.items()}
    encode = msgspec.json.encode
    return tuple((name, b"%b:%b," % (encode(name), encode(value))) for name, value in merged.items())


def find_body_problems(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The problem of each member that can't be added: its place in the entry, and what is wrong."""
    for name in body:
        if name in _OWN_MEMBERS:
            yield f"body.{name}", "is read or set by the gateway itself; leave it out"
