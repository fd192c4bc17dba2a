"""Bounds what is kept of a large whole answer: its last bytes, where its usage stands."""

from __future__ import annotations


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
