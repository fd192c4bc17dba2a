"""The reading of requests: every split reads alike, and a head that is recognised means what its bytes mean."""

from __future__ import annotations

from typing import Any

from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.listener import Listener
from kyma_proxy.net.downstream.request_reader import RequestReader
from kyma_proxy.net.sweeper import Sweeper
from tests.factories import DEFAULT, default_snapshot, snapshot
from tests.fuzz.mutators import line_mutator
from tests.fuzz.pieces import alike_however_cut, seed_of, splits
from tests.fuzz.target import Target

_narrow_snapshot = snapshot(DEFAULT + "limits: {max_head: 128, max_body: 32}\n")


_listener = Listener(default_snapshot, Sweeper(lambda: 0.0), 2**30)
_narrow = Listener(lambda: _narrow_snapshot, Sweeper(lambda: 0.0), 2**30)
_FRESH = tuple(one.fresh_id().rpartition("-")[0] for one in (_listener, _narrow))
"""The beginnings of the ids that a listener makes, of which no two are alike."""
_CUT_MATTERS = "A request that offers an upgrade can't be pipelined."
_BETWEEN = b"\n---\n"
_BODY = b'{"model":"m"}'
_LINES = (
    b"GET / HTTP/1.1", b"POST /v1/chat/completions?a=1 HTTP/1.1", b"POST http://a/v1/messages HTTP/1.0", b"OPTIONS * HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1", b"PRI * HTTP/2.0", b"Host: a", b"host:", b"Content-Length: 13", b"content-length: 0",
    b"transfer-encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"transfer-encoding: identity",
    b"expect: 100-continue", b"Connection: close", b"connection: keep-alive, upgrade", b"Upgrade: websocket", b"upgrade: h2c",
    b"x-request-id: one", b"content-encoding: gzip", b"content-encoding: identity", b" folded", b"", b"0", b"5", b"d",
    b"0;a=b", b"5;ext=\"x\"", _BODY, b'{"mod', b"trailer: x", b"\x00", b"\xff\xfe", b"GET /v1/models HTTP/1.1",
)  # fmt: skip
_POST = b'POST /v1/chat/completions?a=1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: one\r\nContent-Length: 13\r\n\r\n{"model":"m"}'
_LONGER = b'POST /v1/chat/completions?a=1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: one\r\nContent-Length: 15\r\n\r\n{"model":"m12"}'
_CHUNKED = (
    b'POST /v1/messages HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"mod\r\n8\r\nel":"m"}\r\n0\r\n\r\n'
)
_GET = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
_UPGRADE = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
_EXPECT = b'POST /v1/messages HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 13\r\n\r\n{"model":"m"}'
_OLD = b"GET http://a/v1/models?x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
_TRAILERS = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nx-trailer: 1\r\n\r\n"
_BOUNDS = {None, Kind.HEAD_TOO_LARGE, Kind.BODY_TOO_LARGE}
Read = tuple[Any, ...] | Kind | None


def _read(pieces: list[bytes], listener: Listener = _listener) -> list[Read]:
    """What a connection gets from these pieces; after an error it reads no more."""
    reader = RequestReader(listener)
    read: list[Read] = []
    for piece in pieces:
        reader.feed(piece)
        while reader.ready:
            item = reader.ready.pop(0)
            if isinstance(item, GatewayError):
                return [*read, None if item.message == _CUT_MATTERS else item.kind]
            read.append(_meaning(item))
    return read


def _meaning(request: Inbound) -> Read:
    headers = [one for one in request.headers if one[0].lower() != b"content-length"]
    return (
        request.method, request.path, request.query, headers, request.body, request.is_http_10, request.keep_alive,
        "" if request.request_id.startswith(_FRESH) else request.request_id,
    )  # fmt: skip


def requests(data: bytes) -> None:
    """The same requests, or the same kind of error, come out of the bytes however they are cut.

    Two rules are of pieces: an upgrade is refused that comes with the end of another request, and a head's or a chunk's
    framing counts against the limit as it comes. There the requests before the refusal are the same.
    """
    if None not in _read([data]):
        alike_however_cut(data, _read)
    whole = _read([data], _narrow)
    for pieces in splits(data):
        cut = _read(pieces, _narrow)
        if cut != whole:
            is_bound = not _BOUNDS.isdisjoint([one for one in (*cut, *whole) if not isinstance(one, tuple)])
            ends = min(_served(cut), _served(whole))
            assert is_bound and cut[:ends] == whole[:ends], f"whole: {whole!r}\ncut: {cut!r}"  # noqa: PT018


def _served(read: list[Read]) -> int:
    return sum(isinstance(one, tuple) for one in read)


def repeat(data: bytes) -> None:
    """A message that is recognised by the head before it is one request, and reads the same to a fresh reader."""
    first, _, second = data.partition(_BETWEEN)
    for message in (second, first) if second else (first, *_variants(first)):
        reader = RequestReader(_listener)
        reader.feed(first)
        if (
            len(reader.ready) != 1
            or reader.is_reading
            or not isinstance(reader.ready[0], Inbound)
            or not reader.ready[0].keep_alive
        ):
            return  # the connection ends after it, or another message has begun
        reader.ready.clear()
        reader.feed(message)
        read = _items(reader)
        afresh = _parsed(message)
        assert read == afresh, f"after another: {read!r}\nalone: {afresh!r}"


def _parsed(message: bytes) -> list[Read]:
    reader = RequestReader(_listener)
    reader.feed(message)
    return _items(reader)


def _items(reader: RequestReader) -> list[Read]:
    return [_meaning(item) if isinstance(item, Inbound) else item.kind for item in reader.ready]


def _variants(first: bytes) -> list[bytes]:
    """The same message with another length, and with other bytes behind it."""
    head, _, body = first.partition(b"\r\n\r\n")
    seed = seed_of(first)
    digits = b"%d" % len(body)
    other = body + b"x" * (seed % 11)
    return [
        head.replace(digits, b"%d" % len(other), 1) + b"\r\n\r\n" + other,
        head.replace(digits, b"00%b" % digits, 1) + b"\r\n\r\n" + body,
        first + first,
        first[: seed % (len(first) + 1)],
    ]


def _seeds() -> list[bytes]:
    return [
        _POST, _CHUNKED, _GET, _UPGRADE, _EXPECT, _OLD, _TRAILERS, _POST + _GET, _CHUNKED + _POST, _GET + _UPGRADE,
        b"GET / HTTP/1.1\nhost: a\n\n", b"\r\n" + _GET, _POST.replace(b"13", b"13, 13"), _GET.replace(b"GET", b"HEAD"),
    ]  # fmt: skip


def _repeat_seeds() -> list[bytes]:
    pairs = ((_POST, _LONGER), (_LONGER, _POST), (_EXPECT, _EXPECT), (_GET, _GET), (_POST, _POST + _GET), (_POST, _POST[:-1]))
    return [_POST, _OLD, *(first + _BETWEEN + second for first, second in pairs)]


_WORDS = (b"\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"chunked", b"close", b"100-continue", _BETWEEN, b"\r\n", b": ")
TARGETS = (
    Target("requests", requests, _seeds, line_mutator(_LINES), _WORDS, 1024),
    Target("repeat", repeat, _repeat_seeds, line_mutator((*_LINES, b"---")), _WORDS, 1024),
)
