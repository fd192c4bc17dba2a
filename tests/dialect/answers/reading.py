"""Reads an answer as the relay does, however it is cut into pieces."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.dialect.answers.reader import AnswerReader
from kyma_proxy.dialect.contract import Dialect


def pieces_of(body: bytes, cuts: Iterable[int] = ()) -> list[bytes]:
    """A body in pieces, cut at these places."""
    places = sorted({min(max(cut, 0), len(body)) for cut in cuts} | {0, len(body)})
    return [body[start:stop] for start, stop in itertools.pairwise(places) if start < stop]


def reader_of(
    dialect: Dialect, pieces: Sequence[bytes], *, streams: bool, endpoint: str | None = None, has_length: bool = False,
    is_unframed: bool = False,
) -> AnswerReader:  # fmt: skip
    """A reader that has been given all pieces. Raises BadAnswer as the reader does."""
    reader = AnswerReader(dialect, endpoint or dialect.endpoints[0].name)
    reader.begin(streams=streams, has_length=has_length, is_unframed=is_unframed)
    for piece in pieces:
        if not reader.is_open:
            if reader.open(piece):
                reader.take()
        else:
            reader.add(piece)
    return reader


def usage_in(dialect: Dialect, body: bytes, *, streams: bool, cuts: Iterable[int] = (), endpoint: str | None = None) -> Usage:
    """The usage that a complete answer reports."""
    reader = reader_of(dialect, pieces_of(body, cuts), streams=streams, endpoint=endpoint)
    reader.finish(is_certain=True)
    return reader.usage()
