"""Another source is tried until the first byte of an answer has gone out, and never after that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.harness import CLOSE, LAST_CHUNK, RESET, STREAM, Step, both, chunk, event, head, whole

ERROR = b'data: {"error":{"message":"overloaded","code":503}}\n\n'

FAILURES: list[tuple[str, tuple[Step, ...], str]] = [
    ("closes at once", (CLOSE,), "broken"),
    ("resets at once", (RESET,), "broken"),
    ("breaks in its head", (b"HTTP/1.1 200 OK\r\ncontent-", CLOSE), "broken"),
    ("breaks before its body", (head(), CLOSE), "broken"),
    ("breaks in its first event", (head() + chunk(b'data: {"cho'), RESET), "broken"),
    ("begins with an error", (head() + chunk(ERROR), CLOSE), "error_event"),
    ("begins with an error in two pieces", (head() + chunk(ERROR[:9]) + chunk(ERROR[9:]), CLOSE), "error_event"),
    ("is overloaded", (whole(b"{}", status="503 Busy"),), "503"),
    ("refuses the operator's key", (whole(b'{"error":"key sk-secret"}', status="401 No"),), "401"),
    ("does not know the model", (whole(b"{}", status="404 No"),), "404"),
    ("streams nothing", (head() + LAST_CHUNK,), "no_answer"),
    ("says garbage", (b"SSH-2.0-OpenSSH_9\r\n", CLOSE), "broken"),
]


@pytest.mark.parametrize(("steps", "word"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
async def test_the_next_source_answers_after_a_failure_and_the_header_says_so(
    tmp_path: Path, steps: tuple[Step, ...], word: str
) -> None:
    async with both(tmp_path, 2) as (gateway, first, second):
        first.plays(*steps)
        second.plays(STREAM)
        client = await gateway.client()
        client.ask(stream=True)
        answer = await client.answer()
        assert answer.status == 200
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert answer.headers["x-kyma-fallback"] == "true"
        assert answer.headers["x-kyma-fallback-layer"] == "1"
        assert second.received[0].body.count(b"real-1") == 1
        assert second.received[0].headers["authorization"] == "Bearer provider-key-1"
        record = (await gateway.records())[0]
        assert (record["attempts"], record["fallback_layer"]) == ([f"p0:{word}", "p1:answered"], 1)


async def test_an_answer_of_the_first_source_has_no_fallback_header(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (gateway, _first, _second):
        client = await gateway.client()
        client.ask()
        assert not [name for name in (await client.answer()).headers if "fallback" in name]


async def test_no_other_source_is_tried_after_the_first_byte(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (gateway, first, second):
        first.plays(head() + chunk(event("one")), CLOSE)
        client = await gateway.client()
        client.ask(stream=True)
        with pytest.raises(asyncio.IncompleteReadError):
            await client.answer()
        assert second.received == []
        assert (await gateway.records())[0]["ending"] == "broken"


async def test_when_every_source_fails_the_error_is_the_gateways_own(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (gateway, first, second):
        first.plays(whole(b'{"error":{"message":"my key is sk-secret"}}', status="500 Oops"))
        second.plays(whole(b"{}", status="401 No"))
        client = await gateway.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (502, "provider_error")
        assert b"sk-secret" not in answer.body
        assert (await gateway.records())[0]["ending"] == "failed"


async def test_a_429_of_every_source_has_the_smallest_retry_after(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (gateway, first, second):
        first.plays(whole(b"{}", status="429 Slow", more="retry-after: 30\r\n"))
        second.plays(whole(b"{}", status="429 Slow", more="retry-after: 7\r\n"))
        client = await gateway.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert answer.json["error"]["code"] == "provider_rate_limited"


@pytest.mark.parametrize("status", ["400 Bad", "404 None", "413 Large", "422 No"])
async def test_a_400_is_relayed_as_it_came(tmp_path: Path, status: str) -> None:
    body = b'{ "error": {"message":"max_tokens is too large"} }'
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(body, status=status))
        client = await gateway.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.body) == (int(status[:3]), body)
        assert (await gateway.records())[0]["ending"] == "relayed_error"
        client.ask()
        assert (await client.answer()).status == 200


async def test_a_stale_connection_is_replaced_and_that_is_no_fallback(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.ask()
        await client.answer()
        provider.plays(RESET)
        client.ask()
        answer = await client.answer()
        assert answer.status == 200
        assert "x-kyma-fallback" not in answer.headers
        assert provider.connections == 2
        assert (await gateway.records(2))[1]["attempts"] == ["p0:answered"]
        assert await gateway.metric("kyma_stale_retries_total") == 1


async def test_a_fresh_connection_that_breaks_is_not_retried(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(RESET)
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).status == 502
        assert len(provider.received) == 1
