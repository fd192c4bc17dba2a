"""Collects the examples that the fuzzer begins with: recorded answers of providers, and the translations written by hand."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tests.fuzz.mutators import JsonGrammar
from tests.recorded.corpus import ITEMS

_GOLDEN = Path(__file__).parent.parent / "dialect" / "golden"
_MAX_BYTES = 4096


@functools.cache
def recorded(dialect: str) -> tuple[bytes, ...]:
    """The bodies of recorded answers in a dialect, whole and streamed."""
    return tuple(item.data for item in ITEMS.values() if item.dialect == dialect and 0 < len(item.data) <= _MAX_BYTES)


@functools.cache
def golden(direction: str, file: str) -> tuple[bytes, ...]:
    """The files with this name in the cases of a direction, such as `openai_to_anthropic`."""
    return tuple(path.read_bytes() for path in sorted((_GOLDEN / direction).glob(f"*/{file}")))


def documents(text: bytes) -> list[Any]:
    """The JSON documents in a body, or in the events of a stream."""
    found = []
    for candidate in (text, *(line[5:] for line in text.splitlines() if line.startswith(b"data:"))):
        try:
            found.append(json.loads(candidate))
        except ValueError:
            continue
    return found


@functools.cache
def grammar(*dialects: str) -> JsonGrammar:
    """The members of answers in these dialects."""
    return JsonGrammar([document for dialect in dialects for text in recorded(dialect) for document in documents(text)])
