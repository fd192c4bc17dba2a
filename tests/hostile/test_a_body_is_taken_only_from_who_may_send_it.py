"""Before a body is read, its caller is known, has something left to spend, and there is room for it. (Contract §5, §7, §8.)"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.accounts_harness import AccountsGateway, metered
from tests.harness import DONE, LAST_CHUNK, Client, both, chunk, event, head
from tests.waiting import until

LENGTH = 33_000_000
CHAT = "/v1/chat/completions"
PIECE = b'{"model":"m","messages":[],"padding":"' + b"a" * 70_000


def begin(client: Client, *, path: str = CHAT, more: str = "", framing: str = f"content-length: {LENGTH}") -> None:
    """Send a request's head without its body."""
    client.send(f"POST {path} HTTP/1.1\r\nhost: a\r\n{more}{framing}\r\n\r\n".encode())


async def refused(client: Client) -> tuple[int, str]:
    """The status and the code of an answer after which the connection is closed."""
    answer = await client.answer()
    assert answer.headers["connection"] == "close"
    assert await client.read_to_end() == b""
    return answer.status, answer.json["error"]["code"]


async def bearer(gateway: AccountsGateway, email: str, nano: int) -> str:
    """The line of a head with the key of a new account that has so many nano-dollars."""
    caller = await gateway.caller(email, nano=nano)
    return f"authorization: Bearer {caller.secret}\r\n"


@pytest.mark.parametrize("expect", ["", "expect: 100-continue\r\n"])
@pytest.mark.parametrize("framing", [f"content-length: {LENGTH}", "transfer-encoding: chunked"])
@pytest.mark.parametrize(
    ("path", "credential"),
    [
        (CHAT, ""), (CHAT, "authorization: Bearer ky-wrong\r\n"), ("/v1/messages", "x-api-key: ky-wrong\r\n"),
        ("/v1/images/generations", ""), ("/v1/keys", ""), ("/v1/nothing", ""),
    ],
)  # fmt: skip
async def test_without_a_key_no_body_is_read(tmp_path: Path, path: str, credential: str, framing: str, expect: str) -> None:
    async with metered(tmp_path) as (gateway, provider):
        client = await gateway.running.client()
        begin(client, path=path, more=credential + expect, framing=framing)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await client.read_to_end() == b""
        assert not provider.received


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/embeddings", "/v1/responses"])
async def test_an_account_with_nothing_left_is_refused_at_once(tmp_path: Path, path: str) -> None:
    async with metered(tmp_path) as (gateway, _):
        client = await gateway.running.client()
        begin(client, path=path, more=await bearer(gateway, "a@example.com", 0))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (402, "close")


FREE = "  - {id: free, price: {input: 0, output: 0}, pool: [{provider: p0, model: free-0}]}\n"


@pytest.mark.parametrize(("path", "model", "more"), [(CHAT, "free", FREE), ("/v1/messages/count_tokens", "m", "")])
async def test_an_account_with_nothing_left_may_use_what_is_free(tmp_path: Path, path: str, model: str, more: str) -> None:
    async with metered(tmp_path, more=more) as (gateway, _):
        client = await gateway.running.client()
        body = b'{"model":"%b","messages":[],"padding":"%b"}' % (model.encode(), b"a" * 90_000)
        line = await bearer(gateway, "a@example.com", 0)
        begin(client, path=path, more=line + "expect: 100-continue\r\n", framing=f"content-length: {len(body)}")
        assert (await client.head()).status == 100
        client.send(body)
        assert (await client.answer()).status == 200


async def test_a_blocked_account_is_refused_at_once(tmp_path: Path) -> None:
    async with metered(tmp_path) as (gateway, _):
        line = await bearer(gateway, "a@example.com", 10**9)
        account = gateway.account_service.accounts.account_of_email("a@example.com")
        await gateway.account_service.set_blocked(account, is_blocked=True)
        client = await gateway.running.client()
        begin(client, more=line)
        assert await refused(client) == (403, "forbidden")


async def test_a_full_minute_is_told_before_the_body_and_when_to_come_back(tmp_path: Path) -> None:
    tiers = "tiers: [{tier: 0, min_purchased: 0, rpm: 1, per_model_rpm: 1, tpm: 100000, max_request_tokens: 100000}]\n"
    async with metered(tmp_path, more=tiers) as (gateway, provider):
        caller = await gateway.caller()
        assert (await caller.chat()).status == 200
        client = await gateway.running.client()
        begin(client, more=f"authorization: Bearer {caller.secret}\r\n")
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert len(provider.received) == 1


async def test_a_key_in_good_standing_is_asked_to_continue(tmp_path: Path) -> None:
    async with metered(tmp_path) as (gateway, _):
        client = await gateway.running.client()
        body = PIECE + b'"}'
        more = await bearer(gateway, "a@example.com", 10**9) + "expect: 100-continue\r\n"
        begin(client, more=more, framing=f"content-length: {len(body)}")
        assert (await client.head()).raw == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("expect", ["", "expect: 100-continue\r\n"])
@pytest.mark.parametrize("path", ["/v1/auth/register", "/v1/auth/register?a=b"])
async def test_a_form_whose_head_says_that_it_is_large_is_refused_before_it_is_asked_for(
    tmp_path: Path, path: str, expect: str
) -> None:
    async with metered(tmp_path, accounts=", signup: {enabled: true, credits: 0.5}") as (gateway, _):
        client = await gateway.running.client()
        begin(client, path=path, more=expect)
        assert await refused(client) == (413, "request_too_large")


NOBODY = [
    ("POST", "/v1/nothing", 404, None), ("POST", "/chat/completions", 404, None), ("POST", "/v1/chat/completions/", 404, None),
    ("POST", "/v1/models", 405, "GET, HEAD, OPTIONS"), ("DELETE", "/v1/models/m", 405, "GET, HEAD, OPTIONS"),
    ("PUT", CHAT, 405, "POST, OPTIONS"), ("POST", "/v1/jobs/a", 405, "DELETE, GET, OPTIONS"),
]  # fmt: skip


@pytest.mark.parametrize("expect", ["", "expect: 100-continue\r\n"])
@pytest.mark.parametrize("case", NOBODY)
async def test_what_nobody_serves_is_refused_before_its_body_is_asked_for(
    tmp_path: Path, case: tuple[str, str, int, str | None], expect: str
) -> None:
    method, path, status, allow = case
    async with both(tmp_path) as (gateway, _):
        client, whole_client = await gateway.client(), await gateway.client()
        client.send(f"{method} {path} HTTP/1.1\r\nhost: a\r\n{expect}content-length: {LENGTH}\r\n\r\n".encode())
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"], answer.headers.get("allow")) == (status, "close", allow)
        whole_client.send(f"{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        later = await whole_client.answer()  # it is the same with a body that has come
        assert (later.status, later.json, later.headers.get("allow")) == (status, answer.json, allow)


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/messages", "/v1/m%6fdels/a"])
async def test_what_is_served_or_may_be_is_asked_for(tmp_path: Path, path: str) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        begin(client, path=path, more="expect: 100-continue\r\n")
        assert (await client.head()).status == 100


async def test_a_form_that_anybody_may_send_is_small(tmp_path: Path) -> None:
    signup = ", signup: {enabled: true, credits: 0.5}"
    async with metered(tmp_path, accounts=signup) as (gateway, _):
        client = await gateway.running.client()
        begin(client, path="/v1/auth/register")
        client.send(b" " * 400_000)
        assert (await client.answer()).status == 413


async def test_bodies_together_take_no_more_than_their_bound(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {max_buffered: 200KB}\n") as (gateway, provider):
        first, second, third, small = [await gateway.client() for _ in range(4)]
        for client in (first, second):
            begin(client)
            client.send(PIECE)
        listener = gateway.app.listener
        await until(lambda: listener.buffered == 2 * len(PIECE))
        begin(third)
        third.send(PIECE)
        answer = await third.answer()
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
        small.ask()  # a small body is nobody's danger
        assert (await small.answer()).status == 200
        first.leave()
        await until(lambda: listener.buffered == len(PIECE))
        body = PIECE + b'"}'
        small.post(body)
        assert (await small.answer()).status == 200
        assert listener.buffered == len(PIECE)
        assert len(provider.received) == 2
        second.leave()
        await until(lambda: listener.buffered == 0)


async def test_a_body_counts_until_its_answer_begins(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client, go, end = await gateway.client(), asyncio.Event(), asyncio.Event()
        provider.plays(go, head() + chunk(event("one")), end, chunk(DONE) + LAST_CHUNK)
        body = PIECE + b'","stream":true}'
        client.post(body)
        listener = gateway.app.listener
        await until(lambda: provider.received)
        assert listener.buffered == len(body)
        go.set()
        await client.head()
        assert listener.buffered == 0
        end.set()
        await client.rest()
        assert listener.buffered == 0


@pytest.mark.parametrize("pieces", [b"", b"a", b"a" * 100_000])
async def test_a_body_that_falls_silent_is_given_up(tmp_path: Path, pieces: bytes) -> None:
    async with both(tmp_path, more="limits: {body_timeout: 200ms}\n") as (gateway, provider):
        client = await gateway.client()
        begin(client)
        client.send(pieces)
        assert await refused(client) == (408, "request_timeout")
        assert not provider.received
        assert gateway.app.listener.buffered == 0
