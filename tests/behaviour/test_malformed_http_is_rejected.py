"""Malformed HTTP is answered with an error and the connection is closed; no provider sees it, and other callers are served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness import Client, Gateway, Provider, admin_port, both, chunk
from tests.waiting import until

LINE = b"POST /v1/messages HTTP/1.1\r\n"
HEAD = LINE + b"host: gateway\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
END = b"\r\n\r\n"
TWICE = HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked"
CODES = {
    400: "bad_http", 405: "method_not_allowed", 408: "request_timeout", 413: "request_too_large", 414: "uri_too_long",
    415: "unsupported_encoding", 417: "expectation_failed", 431: "request_head_too_large",
}  # fmt: skip


async def rejection(gateway: Gateway, provider: Provider, pieces: Sequence[bytes]) -> tuple[int, str]:
    """Send these pieces, and see them rejected as the contract says. Returns the status, and the dialect of the error."""
    client = await gateway.client()
    for piece in pieces:
        client.send(piece)
        await client.is_read()
    status, dialect = await read_rejection(client)
    (record,) = await gateway.records()
    assert (record["status"], record["ending"], record["endpoint"], record["attempts"]) == (status, "rejected", "-", [])
    assert not provider.received
    await serves_the_next(gateway)
    return status, dialect


async def read_rejection(client: Client) -> tuple[int, str]:
    """The status and the dialect of an error, once its form is seen to be right and the connection to be closed."""
    answer = await client.answer()
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert await client.read_to_end() == b""
    assert answer.json["error"]["message"]
    if "type" in answer.json:
        assert set(answer.json) == {"type", "error", "request_id"}
        assert answer.json["request_id"] == answer.headers["x-request-id"]
        return answer.status, "anthropic"
    assert set(answer.json) == {"error"}
    assert answer.json["error"]["code"] == CODES[answer.status]
    return answer.status, "openai"


async def serves_the_next(gateway: Gateway) -> None:
    """A new connection works, and its request is the log's second line."""
    client = await gateway.client()
    client.ask()
    assert (await client.answer()).status == 200
    assert len(await gateway.records(2)) == 2


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(HEAD + b"content-length: 5\r\ntransfer-encoding: chunked" + END + b"0" + END, 400, id="length-and-chunks"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5" + END + b"0" + END, 400, id="chunks-and-length"),
        pytest.param(HEAD + b"host: gateway" + END, 400, id="two-hosts"),
        pytest.param(LINE + b"\r\n", 400, id="no-host"),
        pytest.param(HEAD + b"content-length: 2\r\ncontent-length: 2" + END + b"{}", 400, id="two-lengths"),
        pytest.param(HEAD + b"content-length: 2\r\ncontent-length: 3" + END + b"{}", 400, id="two-other-lengths"),
        pytest.param(HEAD + b"content-length: 2, 2" + END + b"{}", 400, id="a-list-of-lengths"),
        pytest.param(HEAD + b"content-length: -2" + END + b"{}", 400, id="negative-length"),
        pytest.param(HEAD + b"content-length: +2" + END + b"{}", 400, id="signed-length"),
        pytest.param(HEAD + b"content-length: 0x2" + END + b"{}", 400, id="hexadecimal-length"),
        pytest.param(HEAD + b"content-length: 99999999999999999999999" + END, 400, id="length-beyond-64-bits"),
        pytest.param(HEAD + b"x: a\r\n b" + END, 400, id="folded-field"),
        pytest.param(LINE + b" host: gateway" + END, 400, id="space-before-the-first-field"),
        pytest.param(HEAD + b"x : a" + END, 400, id="space-before-the-colon"),
        pytest.param(HEAD + b"x: a\rb" + END, 400, id="bare-cr-in-a-value"),
        pytest.param(b"POST /v1/messages HTTP/1.1\rhost: gateway" + END, 400, id="bare-cr-after-the-line"),
        pytest.param(b"POST /v1/messages HTTP/1.1\nhost: gateway\n\n", 400, id="bare-lf"),
        pytest.param(LINE + b"host: gateway\nx: a" + END, 400, id="bare-lf-after-a-field"),
        pytest.param(HEAD + b"\n", 400, id="bare-lf-after-the-head"),
        pytest.param(HEAD + b"x: a\0b" + END, 400, id="nul-in-a-value"),
        pytest.param(HEAD + b"x\0: a" + END, 400, id="nul-in-a-name"),
        pytest.param(CHUNKED + b"xyz\r\n", 400, id="chunk-size-of-letters"),
        pytest.param(CHUNKED + b"-1\r\n", 400, id="chunk-size-negative"),
        pytest.param(CHUNKED + b"0x2\r\n{}\r\n0" + END, 400, id="chunk-size-with-prefix"),
        pytest.param(CHUNKED + b"2 \r\n{}\r\n0" + END, 400, id="chunk-size-and-space"),
        pytest.param(CHUNKED + b"fffffffffffffffff\r\n", 400, id="chunk-size-beyond-64-bits"),
        pytest.param(CHUNKED + b"2\r\n{}X", 400, id="chunk-longer-than-its-size"),
        pytest.param(CHUNKED + b"2\n{}\r\n0" + END, 400, id="chunk-size-and-bare-lf"),
        pytest.param(CHUNKED + b"2;a\nb\r\n{}\r\n0" + END, 400, id="bare-lf-in-a-chunk-extension"),
        pytest.param(HEAD + b"transfer-encoding: gzip" + END, 415, id="coding-that-is-not-chunked"),
        pytest.param(HEAD + b"transfer-encoding: gzip, chunked" + END + b"0" + END, 415, id="coding-before-chunked"),
        pytest.param(HEAD + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked" + END + b"0" + END, 415, id="two-codings"),
        pytest.param(TWICE + END + b"0" + END, 400, id="chunked-twice"),
        pytest.param(HEAD + b"transfer-encoding: \x0bchunked" + END + b"0" + END, 400, id="control-before-chunked"),
        pytest.param(HEAD + b"transfer-encoding:" + END + b"0" + END, 400, id="empty-coding"),
        pytest.param(CHUNKED.replace(b"1.1", b"1.0") + b"0" + END, 400, id="chunks-in-http-1.0"),
        pytest.param(HEAD + b"expect: the-unexpected" + END, 417, id="expectation"),
        pytest.param(HEAD + b"expect: a\r\nexpect: 100-continue" + END, 417, id="two-expectations"),
        pytest.param(HEAD + b"content-encoding: gzip\r\ncontent-length: 2" + END + b"{}", 415, id="compressed-body"),
        pytest.param(HEAD + b"content-length: 9999999999" + END, 413, id="length-over-the-limit"),
    ],
)  # fmt: skip
async def test_malformed_http_is_rejected_in_the_dialect_of_its_path(tmp_path: Path, request_bytes: bytes, status: int) -> None:
    async with both(tmp_path) as (gateway, provider):
        assert await rejection(gateway, provider, [request_bytes]) == (status, "anthropic")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"CONNECT provider:443 HTTP/1.1\r\nhost: provider:443" + END, 405, id="connect"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 400, id="http-2-preface"),
        pytest.param(b"GET /v1/models" + END, 400, id="http-0.9"),
        pytest.param(b"GET /v1/models HTTP/3.0\r\nhost: a" + END, 400, id="http-3"),
        pytest.param(bytes(range(256)) * 20, 400, id="garbage"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), 400, id="tls"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", 400, id="ssh"),
        pytest.param(b"GET /v1/mod\0els HTTP/1.1\r\nhost: a" + END, 400, id="nul-in-the-target"),
        pytest.param(b"GET /v1/mod\xffels HTTP/1.1\r\nhost: a" + END, 400, id="byte-beyond-ascii-in-the-target"),
        pytest.param(b"GET /v1/ models HTTP/1.1\r\nhost: a" + END, 400, id="space-in-the-target"),
        pytest.param(b"get /v1/models HTTP/1.1\r\nhost: a" + END, 400, id="method-in-lower-case"),
        pytest.param(b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nhost: a" + END, 414, id="target-of-8193-bytes"),
    ],
)
async def test_malformed_http_without_a_path_is_rejected_in_openais_dialect(
    tmp_path: Path, request_bytes: bytes, status: int
) -> None:
    async with both(tmp_path) as (gateway, provider):
        assert await rejection(gateway, provider, [request_bytes]) == (status, "openai")


@pytest.mark.parametrize("request_bytes", [CHUNKED + b"xyz\r\n", HEAD + b"x\0: a" + END, b"\x16\x03\x01\x02\x00\x01"])
async def test_malformed_http_is_rejected_when_it_comes_byte_by_byte(tmp_path: Path, request_bytes: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        pieces = [request_bytes[at : at + 1] for at in range(len(request_bytes))]
        dialect = "anthropic" if request_bytes.startswith(b"POST") else "openai"
        assert await rejection(gateway, provider, pieces) == (400, dialect)


@pytest.mark.parametrize("sent", [b"P", LINE, HEAD, HEAD + b"x: ", HEAD + b"x: a\r\n\r"])
async def test_a_request_head_that_does_not_end_is_a_408(tmp_path: Path, sent: bytes) -> None:
    async with both(tmp_path, more="limits: {head_timeout: 200ms}\n") as (gateway, provider):
        assert await rejection(gateway, provider, [sent]) == (408, "anthropic" if len(sent) > 1 else "openai")


@pytest.mark.parametrize("sent", [b"POST /v1/mess", HEAD, HEAD + b"content-length: 5" + END + b"{"])
async def test_a_truncated_request_leaves_nothing_behind(tmp_path: Path, sent: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.send(sent)
        await until(lambda: gateway.connections)
        client.writer.write_eof()
        assert await client.read_to_end() == b""
        await until(lambda: not gateway.connections)
        assert not provider.received


@pytest.mark.parametrize("size", [1024, 65_536 + len(HEAD) + 16])
@pytest.mark.parametrize("ends", [END, b""])
async def test_64_kib_of_headers_and_one_byte_are_a_431(tmp_path: Path, size: int, ends: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        head = HEAD + b"x: " + b"x" * (65_536 - len(HEAD) + 16) + ends
        pieces = [head[at : at + size] for at in range(0, len(head), size)]
        assert await rejection(gateway, provider, pieces) == (431, "anthropic")


async def test_64_kib_of_headers_are_accepted(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        head = b"GET /v1/health HTTP/1.1\r\nhost: gateway\r\n"
        client.send(head + b"x: " + b"x" * (65_536 - len(head) - 16) + END)
        assert (await client.answer()).status == 200


async def test_a_body_over_the_limit_is_rejected_before_it_is_sent(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {max_body: 1000B}\n") as (gateway, provider):
        head = HEAD + b"expect: 100-continue\r\ncontent-length: 1001" + END
        assert await rejection(gateway, provider, [head]) == (413, "anthropic")


@pytest.mark.parametrize("size", [1, 7, 501])
async def test_a_chunked_body_is_rejected_once_it_is_over_the_limit(tmp_path: Path, size: int) -> None:
    async with both(tmp_path, more="limits: {max_body: 1000B}\n") as (gateway, provider):
        assert await rejection(gateway, provider, [CHUNKED, chunk(b"x" * size) * (1000 // size + 1)]) == (413, "anthropic")


async def test_a_caller_who_is_still_sending_can_read_the_413(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {max_body: 1000B}\n") as (gateway, provider):
        client = await gateway.client()
        client.send(HEAD + b"content-length: 3000000" + END + b"x" * 3_000_000)
        assert await read_rejection(client) == (413, "anthropic")
        assert not provider.received


@pytest.mark.parametrize(
    "endless", [b"x: " + b"x" * 997, b"x: " + b"x" * 994 + b"\r\n", b"x" * 1000], ids=["value", "fields", "name"]
)
async def test_endless_trailers_are_rejected(tmp_path: Path, endless: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        sent = endless if endless.endswith(b"\r\n") else endless[:1000]
        more = [sent] * 400 if sent.endswith(b"\r\n") else [sent] + [b"x" * 1000] * 400
        assert await rejection(gateway, provider, [CHUNKED + b"2\r\n{}\r\n0\r\n", *more]) == (431, "anthropic")


async def test_endless_chunk_extensions_are_rejected(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        assert await rejection(gateway, provider, [CHUNKED + b"2;", *[b"x" * 1000] * 400]) == (431, "anthropic")


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))


@pytest.mark.parametrize("is_admin", [False, True])
@pytest.mark.parametrize("cut", [3, 200])
async def test_tls_on_a_plain_port_is_told_what_it_speaks(tmp_path: Path, is_admin: bool, cut: int) -> None:
    async with both(tmp_path) as (gateway, _):
        with admin_port(gateway) as admin:
            at = admin if is_admin else gateway.port
            client = gateway.adopt(Client(*await asyncio.open_connection("127.0.0.1", at)))
            client.send(TLS_HELLO[:cut])
            client.send(TLS_HELLO[cut:])
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (400, "close")
            assert "speaks plain HTTP" in answer.json["error"]["message"]


BESIDE = {"an extension": b"1;" + b"a" * 140_000, "trailers": b"1\r\na\r\n0\r\n" + b"X: y\r\n" * 30_000}


@pytest.mark.parametrize("kind", BESIDE)
async def test_too_much_beside_a_body_is_called_what_it_is(tmp_path: Path, kind: str) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        client.send(CHUNKED + BESIDE[kind])
        answer = await client.answer()
        assert answer.status == 431
        assert "trailers and chunk extensions" in answer.json["error"]["message"]
