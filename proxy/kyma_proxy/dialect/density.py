"""Finds JSON that holds too many values to be decoded: an object of three bytes takes eighty in memory, and its time.

The marks of all values are counted first, which costs next to nothing. Only where there are many, as in a long text with code,
those in strings are told apart.
"""

from __future__ import annotations

import re
from typing import Final

MAX_OBJECTS: Final = 16 * 1024
"""The most objects and lists. No answer of a model has so many members of its own."""
MAX_ITEMS: Final = 256 * 1024
"""The most values beside one another: the numbers of 250,000 tokens, say."""
_MAX_STRINGS: Final = 128 * 1024
"""The most names and texts: as many as the objects of an answer have."""
_MAX_READ_BYTES: Final = 8 * 1024 * 1024
"""A text that is larger and has so many marks is not read further: no text of a model is so long."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def is_too_dense(text: bytes) -> bool:
    """True if a JSON text has more values than anybody needs."""
    if not _has_many(text):
        return False
    if len(text) > _MAX_READ_BYTES:
        return True
    bare = _STRING.sub(b"", text, count=_MAX_STRINGS)
    return b'"' in bare or _has_many(bare)


def _has_many(text: bytes) -> bool:
    return text.count(b"{") + text.count(b"[") > MAX_OBJECTS or text.count(b",") > MAX_ITEMS
