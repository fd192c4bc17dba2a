"""A provider that sends much at once holds up nobody: its bytes are read and translated in turns of the event loop.

Nothing is lost by it: order, back-pressure, the answer's end, its cut and its abort are as they would be without.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import cast

import pytest

from kyma_proxy.config.snapshot import Timeouts
from kyma_proxy.core.http.content_coding import content_decoder
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.upstream import connection as tested
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.portions import MAX_PORTION_BYTES
from kyma_proxy.net.upstream.response_handler import ResponseHandler
from tests.factories import source
from tests.upstream_stand_ins import NotingOwner, NotingTransport
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    not str(tested.__file__).endswith(".py"), reason="a handler of the test's own can't inherit from a compiled one"
)
BODY = bytes(range(256)) * 1000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY)


class Handler(ResponseHandler):
    """Keeps the pieces that come; each is dear to it unless it `is_cheap`. After so many it pauses, or aborts."""

    def __init__(self, *, is_cheap: bool = False, pause_after: int = 0, abort_after: int = 0, coding: bytes = b"") -> None:
        self.connection: UpstreamConnection | None = None
        self.pieces: list[bytes] = []
        self.ends: list[object] = []
        self._is_cheap = is_cheap
        self._pause_after = pause_after
        self._abort_after = abort_after
        self._coding = coding

    @property
    def is_light(self) -> bool:
        return self._is_cheap

    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        decoder = content_decoder(self._coding)
        if decoder is not None and self.connection is not None:
            self.connection.decode(decoder)

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)
        assert self.connection is not None
        if len(self.pieces) == self._pause_after:
            self.connection.pause()
        if len(self.pieces) == self._abort_after:
            self.connection.abort()

    def on_end(self, *, is_certain: bool) -> None:
        self.ends.append(is_certain)

    def on_cut(self, kind: FailureKind, detail: str, *, nothing_came: bool) -> None:
        self.ends.append(detail)


def asked(handler: Handler) -> tuple[UpstreamConnection, NotingTransport, NotingOwner]:
    """A connection over which a request has gone out."""
    transport, owner = NotingTransport(), NotingOwner()
    connection = handler.connection = UpstreamConnection(owner, source("small").provider.origin, 60.0)
    connection.connection_made(cast("asyncio.Transport", transport))
    connection.send(handler, [b"request"], Timeouts(), None)
    return connection, transport, owner


async def test_each_turn_takes_a_portion_in_order_and_the_end_comes_last() -> None:
    handler = Handler()
    connection, transport, owner = asked(handler)
    connection.data_received(HEAD + BODY)
    assert (len(handler.pieces), handler.ends, transport.is_reading) == (1, [], False)
    turns = 1
    while not handler.ends:
        await asyncio.sleep(0)
        turns += 1
        assert len(handler.pieces) <= turns
    assert b"".join(handler.pieces) == BODY
    assert max(map(len, handler.pieces)) <= MAX_PORTION_BYTES
    assert (handler.ends, owner.reusable, transport.is_reading) == ([True], 1, True)


async def test_a_handler_to_which_bytes_are_cheap_gets_them_at_once() -> None:
    handler = Handler(is_cheap=True)
    connection, _, _ = asked(handler)
    connection.data_received(HEAD + BODY)
    assert (handler.pieces, handler.ends) == ([BODY], [True])


async def test_a_full_read_is_followed_by_everybody_elses_turn_however_cheap_it_was() -> None:
    handler = Handler(is_cheap=True)
    connection, transport, _ = asked(handler)
    connection.data_received(HEAD + BODY[:-1])
    assert not transport.is_reading
    await until(lambda: transport.is_reading)
    connection.data_received(BODY[-1:])
    assert (b"".join(handler.pieces), handler.ends) == (BODY, [True])


@pytest.mark.parametrize(
    "more",
    [b"1\r\nx\r\n" * 12_000, b"1;" + b"a" * 70_000, b"0\r\n" + b"x: y\r\n" * 12_000, b"5\r\nhello\r\n" * 7_000],
    ids=["the smallest chunks", "an extension", "trailers", "small chunks"],
)
async def test_a_full_read_that_is_hardly_any_body_is_followed_by_everybody_elses_turn_too(more: bytes) -> None:
    handler = Handler(is_cheap=True)
    connection, transport, _ = asked(handler)
    connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
    assert (transport.is_reading, handler.pieces) == (True, [b"x"])
    connection.data_received(more)
    assert (transport.is_reading, handler.ends) == (False, [])
    await until(lambda: transport.is_reading)
    assert handler.ends == []


async def test_a_caller_who_is_slow_stops_the_portions() -> None:
    handler = Handler(pause_after=2)
    connection, transport, _ = asked(handler)
    connection.data_received(HEAD + BODY)
    await until(lambda: len(handler.pieces) == 2)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(handler.pieces), transport.is_reading, handler.ends) == (2, False, [])
    connection.resume()
    await until(lambda: handler.ends)
    assert (b"".join(handler.pieces), handler.ends) == (BODY, [True])


async def test_nothing_comes_after_an_abort() -> None:
    handler = Handler(abort_after=2)
    connection, transport, owner = asked(handler)
    connection.data_received(HEAD + BODY)
    await until(lambda: transport.is_aborted)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(handler.pieces), handler.ends, owner.reusable) == (2, [], 0)


@pytest.mark.parametrize(
    ("body", "error", "end"),
    [
        (HEAD + BODY, OSError(), True),
        (HEAD + BODY[:-1], OSError(), "the connection broke"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, None, False),
    ],
    ids=["whole", "cut", "ended by its connection"],
)
async def test_the_end_of_the_connection_comes_after_what_came_before_it(
    body: bytes, error: OSError | None, end: object
) -> None:
    handler = Handler()
    connection, _, _ = asked(handler)
    connection.data_received(body)
    connection.connection_lost(error)
    assert handler.ends == []
    await until(lambda: handler.ends)
    assert b"".join(handler.pieces) == body.partition(b"\r\n\r\n")[2]
    assert handler.ends == [end]


async def test_what_a_few_compressed_bytes_grow_to_comes_in_portions_too() -> None:
    plain = b"data: {}\n\n" * 200_000
    coded = gzip.compress(plain)
    handler = Handler(is_cheap=True, coding=b"gzip")
    connection, _, _ = asked(handler)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(coded) + coded)
    assert len(handler.pieces) == 1
    await until(lambda: handler.ends)
    assert b"".join(handler.pieces) == plain
    assert max(map(len, handler.pieces)) <= MAX_PORTION_BYTES


async def test_a_compressed_answer_that_breaks_is_cut_where_it_breaks() -> None:
    coded = gzip.compress(b"data: {}\n\n" * 50_000)
    broken = coded + b"no member of gzip"
    handler = Handler(coding=b"gzip")
    connection, transport, _ = asked(handler)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n" + broken)
    await until(lambda: handler.ends)
    assert (handler.ends, transport.is_aborted) == (["its compressed answer can't be decoded"], True)
