"""Whole chunks go past the parser; the body, its end and what follows are the same, wherever the network has cut the answer."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

import pytest

from kyma_proxy.config.snapshot import Timeouts
from kyma_proxy.core.http.chunks import joined_body
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.upstream import connection as tested
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.response_handler import ResponseHandler
from tests.factories import source
from tests.upstream_stand_ins import NotingOwner, NotingTransport

pytestmark = pytest.mark.skipif(
    not str(tested.__file__).endswith(".py"), reason="a handler of the test's own can't inherit from a compiled one"
)
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
ONE, TWO = b"9\r\ndata: 1\n\n\r\n", b"9\r\ndata: 2\n\n\r\n"
END = b"0\r\n\r\n"
ANSWERS = {
    "events": HEAD + ONE + TWO + ONE + END,
    "a trailer": HEAD + ONE + TWO + b"0\r\nx-trailer: 1\n\n\r\n\r\n",
    "an extension": HEAD + ONE + b"9;x=y\r\ndata: 2\n\n\r\n" + ONE + END,
    "a size with a leading zero": HEAD + ONE + b"09\r\ndata: 2\n\n\r\n" + ONE + END,
    "a chunk that looks like chunks": HEAD + ONE + b"%x\r\n%b\r\n" % (len(TWO), TWO) + ONE + END,
    "events in parts": HEAD + ONE + b"4\r\ndata\r\n5\r\n: 3\n\n\r\n" + TWO + END,
    "no chunk after all": HEAD + ONE + b"nonsense\n\n\r\n" + TWO,
    "bytes after its end": HEAD + ONE + TWO + END + ONE,
    "a second answer": HEAD + ONE + TWO + END + HEAD + ONE + END,
    "no end": HEAD + ONE + TWO,
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + ONE + TWO + END,
    "no chunks, but such bytes": b"HTTP/1.1 200 OK\r\n\r\n" + ONE + TWO + ONE,
    "a length, and such bytes": b"HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n" + ONE + TWO + ONE,
    "both": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n" + ONE + TWO + END,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + ONE + TWO + END,
}


class Asking(ResponseHandler):
    """Asks for whole chunks with the first piece, unless it `asks` for none."""

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks
        self.connection: UpstreamConnection
        self.body = b""
        self.passed = 0
        self.ending: tuple[Any, ...] | None = None

    def on_head(self, *_: Any) -> None: ...

    def on_body(self, piece: bytes) -> None:
        assert self.ending is None
        self.body += piece
        if self._asks:
            self.connection.pass_chunks()

    def on_chunks(self, chunks: bytes, size: int) -> None:
        assert self.ending is None
        body = joined_body([chunks])
        assert len(body) == size
        self.body += body
        self.passed += 1

    def on_end(self, *, is_certain: bool) -> None:
        assert self.ending is None
        self.ending = ("end", is_certain)

    def on_cut(self, kind: FailureKind, detail: str, *, nothing_came: bool) -> None:
        assert self.ending is None
        self.ending = ("cut", kind, nothing_came)


def answered(pieces: list[bytes], *, asks: bool) -> tuple[Asking, tuple[Any, ...]]:
    """The handler of an answer in these pieces, and what can be seen of it and of its connection."""
    handler, transport, owner = Asking(asks=asks), NotingTransport(), NotingOwner()
    connection = handler.connection = UpstreamConnection(owner, source("small").provider.origin, 60.0)
    connection.connection_made(cast("asyncio.Transport", transport))
    connection.send(handler, [b"request"], Timeouts(), None)
    for piece in pieces:
        if not transport.is_aborted:
            connection.data_received(piece)
    is_aborted = transport.is_aborted
    connection.connection_lost(None)
    return handler, (handler.body, handler.ending, owner.reusable, is_aborted)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_the_answer_is_the_same_at_every_cut(answer: bytes) -> None:
    cuts = [pair for pair in itertools.combinations(range(1, len(answer)), 2) if pair[0] % 2 or pair[1] % 3 == 0]
    for first, second in cuts:
        pieces = [answer[:first], answer[first:second], answer[second:]]
        assert answered(pieces, asks=True)[1] == answered(pieces, asks=False)[1], pieces


@pytest.mark.parametrize(
    ("pieces", "passed"),
    [
        ([HEAD + ONE, TWO, ONE + TWO, END], 2),
        ([HEAD, ONE, TWO, END], 1),
        ([HEAD + ONE[:5], ONE[5:], TWO, END], 1),
        ([HEAD + ONE, TWO + ONE[:1], ONE[1:], TWO, END], 1),
        ([HEAD + ONE, TWO + b"1", b"2;x\r\n" + b"data: 45678901234\n\n"[:18] + b"\r\n", TWO, END], 1),
        ([ANSWERS["HTTP/1.0"][:57], TWO, END], 0),
    ],
)
def test_whole_chunks_go_past_the_parser_where_it_stands_between_two(pieces: list[bytes], passed: int) -> None:
    handler, _ = answered(pieces, asks=True)
    assert handler.passed == passed


def test_the_next_answer_of_the_connection_passes_only_when_that_is_asked_for() -> None:
    handler, transport = Asking(asks=True), NotingTransport()
    connection = handler.connection = UpstreamConnection(NotingOwner(), source("small").provider.origin, 60.0)
    connection.connection_made(cast("asyncio.Transport", transport))
    for asks in (True, False):
        handler = handler if asks else Asking(asks=False)
        connection.send(handler, [b"request"], Timeouts(), None)
        for piece in (HEAD + ONE, TWO, ONE, END):
            connection.data_received(piece)
        assert handler.body == b"data: 1\n\ndata: 2\n\ndata: 1\n\n"
        assert handler.passed == (2 if asks else 0)
