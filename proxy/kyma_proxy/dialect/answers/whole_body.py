"""Bounds what is kept of a large whole answer: its last bytes, where its usage stands."""

from __future__ import annotations

from typing import Final

from kyma_proxy.dialect.answers.document import is_document

MAX_UNFRAMED_BYTES: Final = 16 * 1024 * 1024
"""How much is kept of a whole answer that its connection's end ends: nothing but its bytes can say that it is whole."""


def ends_whole(pieces: list[bytes], *, is_cut: bool) -> bool:
    """True if a JSON document in these pieces has its end; `is_cut`: its beginning is not kept."""
    text = b"".join(pieces)
    return text.rstrip().endswith(b"}") if is_cut else is_document(text)


def drop_first(pieces: list[bytes], size: int, limit: int) -> int:
    """Drop the first of these pieces, of `size` bytes, until no more than about `limit` are left; returns how many bytes.

    Many go at a time, as to shorten the list moves what stays in it.
    """
    left = size
    first = 0
    while left > limit and len(pieces) > first + 1:
        left -= len(pieces[first])
        first += 1
    del pieces[:first]
    if left > 2 * limit:
        pieces[0] = pieces[0][-limit:]
        left = limit
    return size - left
