"""A connection serves one request after the other, in order, however they arrive, until one side closes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.harness import ANSWER, DONE, OK, STREAM, Answer, Client, both, chunk, event, head, whole
from tests.waiting import until

BODY = b'{"model":"m"}'
STREAMED = b'{"model":"m","stream":true}'
HEALTH = b"GET /v1/health HTTP/1.1\r\nhost: a\r\n\r\n"
EVENTS = event("one") + event("two") + DONE
H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"


def post(body: bytes = BODY, more: bytes = b"", *, version: bytes = b"1.1", path: bytes = b"/v1/chat/completions") -> bytes:
    """A relayed request."""
    return b"POST %b HTTP/%b\r\nhost: a\r\n%bcontent-length: %d\r\n\r\n%b" % (path, version, more, len(body), body)


async def test_relayed_and_other_requests_share_one_connection(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for _ in range(5):
            client.send(post())
            assert (await client.answer()).body == ANSWER
            client.send(HEALTH)
            assert (await client.answer()).json == {"status": "ok"}
        assert provider.connections == 1
        assert len(await gateway.records(10)) == 10


FIRST = b'{"at":0,"choices":[{}]}'
LAST = b'{"at":8,"choices":[{}]}'


async def test_ten_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        provider.plays(whole(FIRST))
        provider.plays(STREAM)
        provider.plays(whole(LAST))
        ask = [
            post(more=b"x-request-id: 0\r\n"), HEALTH, post(STREAMED, b"x-request-id: 2\r\n"),
            b"GET /v1/nothing HTTP/1.1\r\nhost: a\r\n\r\n", post(b"no json", b"x-request-id: 4\r\n"),
            b"HEAD /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", b"OPTIONS /v1/messages HTTP/1.1\r\nhost: a\r\n\r\n",
            b"GET /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n", post(more=b"x-request-id: 8\r\n"), HEALTH,
        ]  # fmt: skip
        client.send(b"".join(ask))
        got = [Answer(await client.head(), b"") if at == 5 else await client.answer() for at in range(10)]
        assert [one.status for one in got] == [200, 200, 200, 404, 400, 200, 204, 405, 200, 200]
        assert [got[at].headers["x-request-id"] for at in (0, 2, 4, 8)] == ["0", "2", "4", "8"]
        assert (got[0].body, got[8].body) == (FIRST, LAST)
        assert got[2].body.endswith(b"data: [DONE]\n\n")
        records = await gateway.records(10)
        assert [record["status"] for record in records] == [one.status for one in got]
        assert [one.headers["x-request-id"] for one in got] == [record["request_id"] for record in records]


async def test_three_pipelined_requests_may_be_split_anywhere(tmp_path: Path) -> None:
    sent = post(more=b"x-request-id: a\r\n") + HEALTH + post(STREAMED, b"x-request-id: b\r\n")
    async with both(tmp_path) as (gateway, provider):
        for at in range(1, len(sent)):
            provider.plays(OK)
            provider.plays(STREAM)
            client = await gateway.client()
            client.send(sent[:at])
            await client.is_read()
            client.send(sent[at:])
            first, second, third = [await client.answer() for _ in range(3)]
            assert (first.headers["x-request-id"], first.body) == ("a", ANSWER)
            assert second.json == {"status": "ok"}
            assert (third.headers["x-request-id"], third.body[-14:]) == ("b", b"data: [DONE]\n\n")
            client.leave()
            await until(lambda: not gateway.connections)
        assert len(await gateway.records(3 * (len(sent) - 1))) == 3 * (len(sent) - 1)
        assert len(provider.received) == 2 * (len(sent) - 1)


async def test_a_head_behind_a_large_body_is_not_taken_for_a_large_head(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        body = b'{"model":"m","x":"' + b"y" * 150_000 + b'"}'
        client = await gateway.client()
        client.send(post(body) + HEALTH[:20])
        await client.is_read()
        assert (await client.answer()).status == 200
        client.send(HEALTH[20:])
        assert (await client.answer()).status == 200


async def test_more_pipelined_requests_than_are_buffered_are_all_answered(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        begin = asyncio.Event()
        provider.plays(begin, OK)
        client.send(post())
        await until(lambda: provider.received)
        client.send(post(b'{"model":"m","x":"' + b"y" * 20_000 + b'"}') * 20)
        begin.set()
        for _ in range(21):
            assert (await client.answer()).status == 200
        assert len(provider.received) == 21


@pytest.mark.parametrize("request_bytes", [post(more=b"connection: close\r\n"), post(more=b"connection: close\r\n") + HEALTH])
async def test_connection_close_is_answered_and_obeyed(tmp_path: Path, request_bytes: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.send(request_bytes)
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (ANSWER, "close")
        assert await client.read_to_end() == b""
        assert "connection" not in provider.received[0].headers
        assert len(await gateway.records()) == 1


async def test_connection_close_is_obeyed_by_the_control_plane_too(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        client.send(HEALTH[:-2] + b"connection: close\r\n\r\n" + HEALTH)
        answer = await client.answer()
        assert (answer.json, answer.headers["connection"]) == ({"status": "ok"}, "close")
        assert await client.read_to_end() == b""


@pytest.mark.parametrize("script", [STREAM, head(kind="application/json") + chunk(ANSWER) + b"0\r\n\r\n"])
async def test_an_http_1_0_caller_gets_no_chunks(tmp_path: Path, script: bytes) -> None:
    """An answer of unknown length ends with its connection, even if the caller asks for keep-alive."""
    async with both(tmp_path) as (gateway, provider):
        for more in (b"", b"connection: keep-alive\r\n"):
            provider.plays(script)
            client = await gateway.client()
            client.send(post(more=more, version=b"1.0"))
            answer = await client.answer()
            assert answer.status == 200
            assert "transfer-encoding" not in answer.headers
            assert answer.headers["connection"] == "close"
            assert answer.body == (EVENTS if script is STREAM else ANSWER)


@pytest.mark.parametrize("ask", [post(version=b"1.0"), post(b"[]", version=b"1.0"), HEALTH.replace(b"1.1", b"1.0")])
async def test_an_http_1_0_connection_is_closed_unless_it_asks_for_keep_alive(tmp_path: Path, ask: bytes) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        for _ in range(2):
            client.send(ask.replace(b"host", b"connection: keep-alive\r\nhost"))
            assert (await client.answer()).headers["connection"] == "keep-alive"
        client.send(ask)
        assert (await client.answer()).headers.get("connection", "close") == "close"
        assert await client.read_to_end() == b""


async def continued(client: Client) -> None:
    """The interim answer that allows the body to be sent."""
    assert (await client.head()).raw == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_expect_100_continue_gets_a_100_continue(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        ask = post(more=b"expect: 100-continue\r\n")
        for _ in range(2):
            client.send(ask[: -len(BODY)])
            await continued(client)
            client.send(BODY)
            assert (await client.answer()).body == ANSWER
        assert "expect" not in provider.received[0].headers


async def test_expect_100_continue_works_behind_another_request(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        client.send(post() + post(more=b"expect: 100-continue\r\n")[: -len(BODY)])
        assert (await client.answer()).body == ANSWER
        await continued(client)
        client.send(BODY)
        assert (await client.answer()).body == ANSWER


@pytest.mark.parametrize(("more", "status"), [(b"content-length: 99999999999\r\n", 413), (b"content-encoding: br\r\n", 415)])
async def test_expect_100_continue_is_refused_for_a_body_that_would_be_rejected(
    tmp_path: Path, more: bytes, status: int
) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n" + more + b"\r\n")
        assert (await client.answer()).status == status
        assert await client.read_to_end() == b""


@pytest.mark.parametrize("cut", [0, 1, len(BODY)])
async def test_an_offer_to_upgrade_is_ignored(tmp_path: Path, cut: int) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        chunked = post().replace(b"content-length: 13", b"transfer-encoding: chunked").replace(BODY, chunk(BODY) + b"0\r\n\r\n")
        for ask in (post(more=H2C), chunked.replace(b"host", H2C + b"host"), HEALTH.replace(b"host", H2C + b"host"), post()):
            at = len(ask) - cut
            client.send(ask[:at])
            await client.is_read()
            client.send(ask[at:] + HEALTH)
            answer = await client.answer()
            assert (answer.status, "upgrade" in answer.headers) == (200, False)
            assert (await client.answer()).json == {"status": "ok"}
        assert [one.body for one in provider.received] == [BODY.replace(b'"m"', b'"real-0"')] * 3
        assert not {"upgrade", "connection", "http2-settings"} & set(provider.received[0].headers)
        assert len(await gateway.records(8)) == 8


async def test_a_request_target_may_be_in_absolute_form(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.send(post(path=b"http://gateway.example:8080/v1/chat/completions?a=b"))
        assert (await client.answer()).body == ANSWER
        assert provider.received[0].line == "POST /v1/chat/completions?a=b HTTP/1.1"
        client.send(HEALTH.replace(b"/v1", b"HTTP://gateway.example/v1"))
        assert (await client.answer()).json == {"status": "ok"}
