"""The reading of a provider's answers: one end and nothing after it, however the network cuts what comes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from kyma_proxy.config.snapshot import Timeouts
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.upstream import connection as fuzzed
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.response_handler import ResponseHandler
from tests.factories import source
from tests.fuzz.mutators import line_mutator
from tests.fuzz.pieces import alike_however_cut
from tests.fuzz.target import Target
from tests.upstream_stand_ins import NotingOwner, NotingTransport

_LINES = (
    b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 999 x", b"HTTP/2 200", b"ICY 200 OK",
    b"content-length: 6", b"content-length: 0", b"content-length: -1", b"Content-Length: 6, 6", b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked", b"Transfer-Encoding: identity", b"connection: close", b"connection: keep-alive",
    b"connection: upgrade", b"upgrade: h2c", b"content-type: text/event-stream", b" folded", b"", b"0", b"6", b"6;a=b", b"6 ",
    b"secret", b"x-trailer: 1", b"\x00", b"\xff",
)  # fmt: skip
_SEEDS = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n6 ;a=b\r\nsecret\r\n0\r\nx-trailer: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nsecret",
    b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret",
    b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecretHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nmore",
    b"HTTP/1.0 429 Too Many Requests\r\nretry-after: 3\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
)
_origin = source("small").provider.origin


class _Recording(ResponseHandler):
    """Writes down what it is told, and holds the connection to its promise."""

    def __init__(self) -> None:
        self.head: tuple[Any, ...] | None = None
        self.body = b""
        self.ending: tuple[Any, ...] | None = None

    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        assert self.head is None, "a second head"
        assert self.ending is None, "a head after the end"
        self.head = (status, reason, [*headers], {**fields})

    def on_body(self, piece: bytes) -> None:
        assert self.head is not None, "a body before the head"
        assert self.ending is None, "a body after the end"
        assert piece, "an empty piece"
        self.body += piece

    def on_end(self, *, is_certain: bool) -> None:
        assert self.head is not None, "an end without a head"
        assert self.ending is None, "a second end"
        self.ending = ("end", is_certain)

    def on_cut(self, kind: FailureKind, detail: str, *, nothing_came: bool) -> None:
        assert self.ending is None, "a second end"
        assert detail != "the gateway failed", "an exception inside the gateway"
        self.ending = ("cut", kind, nothing_came)


def _answered(pieces: list[bytes]) -> tuple[Any, ...]:
    handler, transport = _Recording(), NotingTransport()
    connection = UpstreamConnection(NotingOwner(), _origin, 60.0)
    connection.connection_made(cast("asyncio.Transport", transport))
    connection.send(handler, [b"request"], Timeouts(), None)
    for piece in pieces:
        if transport.is_aborted:
            break
        connection.data_received(piece)
    connection.connection_lost(None)
    assert handler.ending is not None, "neither an end nor a cut"
    return (handler.head, handler.body, handler.ending)


def answers(data: bytes) -> None:
    """Exactly one end or cut comes, nothing after it, and the same of every split."""
    if data:
        alike_however_cut(data, _answered)


_WORDS = (b"\r\n", b"HTTP/1.1", b"chunked", b": ", b"0\r\n\r\n")
IS_PLAIN = str(fuzzed.__file__).endswith(".py")
"""A handler and an owner of the target's own can't inherit from compiled ones."""
TARGETS = (Target("upstream", answers, lambda: _SEEDS, line_mutator(_LINES), _WORDS, 1024, IS_PLAIN),)
