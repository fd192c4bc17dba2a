"""Requests are read alike however the network cuts them; a head that comes again is recognised and means the same."""

from __future__ import annotations

import itertools

import pytest

from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.listener import Listener
from kyma_proxy.net.downstream.request_reader import RequestReader
from kyma_proxy.net.sweeper import Sweeper
from tests.factories import default_snapshot

POST = b'POST /v1/chat/completions?a=1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: one\r\nContent-Length: 13\r\n\r\n{"model":"m"}'
CHUNKED = b'POST /v1/messages HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"mod\r\n8\r\nel":"m"}\r\n0\r\n\r\n'
GET = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
UPGRADE = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
Seen = tuple[bytes, bytes, bytes, bytes] | Kind


def reader() -> RequestReader:
    return RequestReader(Listener(default_snapshot, Sweeper(lambda: 0.0), 2**30))


def taken(reader: RequestReader) -> list[Seen]:
    """What is ready, taken away as a connection takes it."""
    seen: list[Seen] = []
    while reader.ready:
        item = reader.ready.pop(0)
        if isinstance(item, Inbound):
            seen.append((item.method, item.path, item.query, item.body))
        else:
            seen.append(item.kind)
    return seen


def read(*pieces: bytes) -> list[Seen]:
    """What a connection gets from these pieces: the next is fed once nothing is ready, as a connection does."""
    one, seen = reader(), []
    for piece in pieces:
        one.feed(piece)
        seen += taken(one)
    return seen


@pytest.mark.parametrize("data", [POST, CHUNKED, GET, UPGRADE, POST + GET, CHUNKED + POST], ids=range(6))
def test_every_split_reads_the_same_requests(data: bytes) -> None:
    whole = read(data)
    assert all(isinstance(one, tuple) for one in whole)
    for at in range(1, len(data)):
        assert read(data[:at], data[at:]) == whole
    assert read(*(data[at : at + 1] for at in range(len(data)))) == whole


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"GET / HTTP/1.1\nhost: a\n\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
])  # fmt: skip
def test_every_split_of_a_bad_request_ends_with_one_error_of_one_kind(data: bytes) -> None:
    (kind,) = read(data)
    assert isinstance(kind, Kind)
    for at in range(1, min(len(data), 80)):
        one = reader()
        one.feed(data[:at])
        if not one.ready:
            one.feed(data[at:])
        assert taken(one) == [kind]


def test_a_repeated_head_with_another_body_is_read_as_if_it_were_parsed() -> None:
    head, _, _ = POST.partition(b"\r\n\r\n")
    other = head.replace(b"13", b"22") + b'\r\n\r\n{"model":"m","a":1234}'
    assert read(POST, other, POST, GET, other) == read(POST) + read(other) + read(POST) + read(GET) + read(other)


def test_a_repeated_head_whose_body_comes_later_is_read_as_well() -> None:
    assert read(POST, POST[:-5], POST[-5:], POST) == read(POST) * 3


def test_connections_whose_callers_send_the_same_head_share_it() -> None:
    listener = Listener(default_snapshot, Sweeper(lambda: 0.0), 2**30)
    other = POST.replace(b"Host: a", b"host: a")
    heads = []
    for data in (POST, POST.replace(b"13", b"22") + b" " * 9, other, other):
        one = RequestReader(listener)
        one.feed(data)
        (inbound,) = one.ready
        assert isinstance(inbound, Inbound)
        assert inbound.keep_alive
        assert taken(one) == read(data)
        heads.append(inbound.headers)
    assert heads[0] is heads[1]
    assert heads[2] is heads[3]
    assert heads[0] != heads[2]


def test_new_rules_judge_a_shared_head_anew() -> None:
    listener = Listener(default_snapshot, Sweeper(lambda: 0.0), 2**30)
    RequestReader(listener).feed(POST)
    assert listener.known_head is not None
    listener.apply_snapshot()
    assert listener.known_head is None


@pytest.mark.parametrize("before", [POST[:30], POST[:-5], b"\r\n"])
def test_a_shared_head_is_not_looked_for_within_a_request(before: bytes) -> None:
    listener = Listener(default_snapshot, Sweeper(lambda: 0.0), 2**30)
    RequestReader(listener).feed(POST)
    one = RequestReader(listener)
    for piece in (before, POST):
        one.feed(piece)
    alone = reader()
    for piece in (before, POST):
        alone.feed(piece)
    assert taken(one) == taken(alone)


def test_an_error_about_a_request_has_the_requests_own_id() -> None:
    one = reader()
    one.feed(b"POST / HTTP/1.1\r\nhost: a\r\nx-request-id: mine\r\ntransfer-encoding: gzip\r\n\r\n")
    assert isinstance(one.ready[0], GatewayError)
    assert one.identity() == "mine"


@pytest.mark.parametrize("head", [
    b"GET /v1/models RTSP/1.0\r\nhost: a\r\n\r\n", b"POST /v1/messages RTSP/1.1\r\nhost: a\r\n\r\n",
    b"SOURCE /v1/models ICE/1.0\r\nhost: a\r\n\r\n", b"SOURCE /v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET  /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /v1/models  HTTP/1.1\r\nhost: a\r\n\r\n",
    b"OPTIONS * RTSP/1.0\r\ncseq: 1\r\n\r\n", b"GET / RTSP/1.0\r\n\r\n",
])  # fmt: skip
@pytest.mark.parametrize("before", [b"", b"\r\n", GET, CHUNKED + POST])
def test_a_first_line_of_another_protocol_is_refused_however_it_is_cut_and_whatever_came_before(
    head: bytes, before: bytes
) -> None:
    served = read(before)
    data = before + head
    assert read(data) == [*served, Kind.BAD_HTTP]
    for at in range(max(len(before) - 3, 1), len(data)):
        assert read(data[:at], data[at:])[: len(served) + 1] == [*served, Kind.BAD_HTTP]
    assert read(*(data[at : at + 1] for at in range(len(data))))[: len(served) + 1] == [*served, Kind.BAD_HTTP]


def test_a_first_line_that_stood_in_the_body_before_does_not_excuse_one_of_another_protocol() -> None:
    body = b"GET / HTTP/1.1\r\n"
    post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    assert read(post + GET)[1:] == read(GET)
    assert read(GET + GET.replace(b" HTTP/", b" RTSP/"))[1:] == [Kind.BAD_HTTP]


@pytest.mark.parametrize("connection", [
    b"connection: Upgrade, close\r\n", b"Connection: close,upgrade\r\n", b"connection: UPGRADE\r\nCONNECTION: Close\r\n",
    b"connection: close\r\nconnection: upgrade\r\n", b"connection: keep-alive, ,\tCLOSE\t, upgrade,\r\n",
])  # fmt: skip
@pytest.mark.parametrize("upgrade", [b"upgrade: h2c\r\n", b"Upgrade: websocket, x\r\n"])
def test_a_declined_upgrade_keeps_the_other_options_of_the_connection(connection: bytes, upgrade: bytes) -> None:
    for version in (b"1.1", b"1.0"):
        one = reader()
        one.feed(b"GET /v1/models HTTP/%b\r\nhost: a\r\n%b%b\r\n" % (version, connection, upgrade) + GET)
        assert isinstance(first := one.ready[0], Inbound)
        assert not first.keep_alive
        assert all(name.lower() != b"upgrade" and b"upgrade" not in value.lower() for name, value in first.headers)


def test_a_declined_upgrade_closes_nothing_by_itself() -> None:
    one = reader()
    one.feed(UPGRADE.replace(b"connection: upgrade", b"connection: upgrade, x-other"))
    assert isinstance(first := one.ready[0], Inbound)
    assert first.keep_alive
    assert (b"connection", b"x-other") in first.headers


@pytest.mark.parametrize("connection", [b"close, keep-alive", b"keep-alive\r\nconnection: close", b"keep-alive, CLOSE"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_close_wins_over_keep_alive_in_every_version(version: bytes, connection: bytes) -> None:
    one = reader()
    one.feed(b"GET /v1/models HTTP/%b\r\nhost: a\r\nconnection: %b\r\n\r\n" % (version, connection))
    assert isinstance(first := one.ready[0], Inbound)
    assert not first.keep_alive


CLOSE = GET.replace(b"host: a", b"host: a\r\nconnection: close")


@pytest.mark.parametrize("order", list(itertools.product([POST, CHUNKED, GET, UPGRADE], repeat=4)), ids=range(256))
def test_requests_are_read_alike_whether_a_parser_has_seen_those_before(order: tuple[bytes, ...]) -> None:
    assert read(*order) == [one for request in order for one in read(request)]


def test_no_parser_is_kept_for_a_head_that_is_known() -> None:
    listener = Listener(default_snapshot, Sweeper(lambda: 0.0), 2**30)
    first, second = RequestReader(listener), RequestReader(listener)
    for one in (first, first, second):
        one.feed(POST)
        taken(one)
    assert first._parser is None
    assert second._parser is None


@pytest.mark.parametrize("before", [(), (POST,), (POST, POST), (GET, POST, POST)], ids=range(4))
def test_nothing_is_read_after_a_request_that_closes(before: tuple[bytes, ...]) -> None:
    assert read(*before, CLOSE, CHUNKED)[-1] is Kind.BAD_HTTP
