"""Cuts an input into pieces, as a network might; the same input is always cut alike, so that a finding can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar
from zlib import crc32

_MAX_PIECES = 512
_SHORT_BYTES = 64
Outcome = TypeVar("Outcome")


def seed_of(data: bytes) -> int:
    """A number that follows from the input, for choices that have no bytes of their own in it."""
    return crc32(data)


def splits(data: bytes) -> Iterator[list[bytes]]:
    """The input cut in two, in three, and byte by byte; a long one into many equal pieces, and only one in eight of them."""
    size = len(data)
    if size < 2:
        return
    seed = seed_of(data)
    at = 1 + seed % (size - 1)
    yield [data[:at], data[at:]]
    if size > 2:
        first, second = sorted((1 + (seed >> 7) % (size - 1), 1 + (seed >> 13) % (size - 1)))
        if first < second:
            yield [data[:first], data[first:second], data[second:]]
    if size > _SHORT_BYTES and seed & 7:
        return
    step = -(-size // _MAX_PIECES)
    yield [data[start : start + step] for start in range(0, size, step)]


def alike_however_cut(data: bytes, read: Callable[[list[bytes]], Outcome]) -> Outcome:
    """What is read from the whole input, once it is clear that every split reads the same."""
    whole = read([data])
    for pieces in splits(data):
        cut = read(pieces)
        assert cut == whole, f"whole: {whole!r}\ncut at {[len(piece) for piece in pieces]}: {cut!r}"
    return whole
