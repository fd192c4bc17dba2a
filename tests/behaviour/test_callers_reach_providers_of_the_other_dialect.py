"""Callers of one dialect are served by providers of the other, and every promise holds: fallback, truncation, disconnect."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from pathlib import Path

import pytest

from tests.behaviour.translation import OTHER, PATHS, STREAMS, WHOLE, WHOLE_ANSWERS, ask, text_of_answer, text_of_stream
from tests.harness import CLOSE, LAST_CHUNK, SILENCE, Step, both, chunk, head, whole
from tests.waiting import until


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_whole_answer_is_translated(tmp_path: Path, dialect: str) -> None:
    async with both(tmp_path, dialect=OTHER[dialect]) as (running, source):
        source.plays(WHOLE_ANSWERS[OTHER[dialect]])
        client = await running.client()
        ask(client, dialect)
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert text_of_answer(dialect, answer) == "one two"
        assert answer.json["model"] == "m"
        sent = source.received[0]
        assert sent.line == f"POST {PATHS[OTHER[dialect]]} HTTP/1.1"
        assert json.loads(sent.body)["model"] == "real-0"
        record = (await running.records())[0]
        assert (record["prompt_tokens"], record["completion_tokens"], record["usage_source"]) == (7, 3, "reported")
        assert (record["dialect"], record["ending"]) == (dialect, "completed")


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_stream_is_translated_event_by_event(tmp_path: Path, dialect: str) -> None:
    gates = [asyncio.Event() for _ in range(2)]
    pieces = STREAMS[OTHER[dialect]]
    async with both(tmp_path, dialect=OTHER[dialect]) as (running, source):
        first = next(at for at, piece in enumerate(pieces) if b"one " in piece) + 1
        source.plays(head() + b"".join(map(chunk, pieces[:first])), gates[0], b"".join(map(chunk, pieces[first:])) + LAST_CHUNK)
        client = await running.client()
        ask(client, dialect, stream=True)
        opening = await client.head()
        assert opening.headers["content-type"].startswith("text/event-stream")
        got = b""
        while "one " not in text_of_stream(dialect, got):
            got += await client.chunk()
        gates[0].set()
        while piece := await client.chunk():
            got += piece
        assert text_of_stream(dialect, got) == "one two"
        assert got.rstrip().endswith(b"[DONE]" if dialect == "openai" else b'{"type":"message_stop"}')
        record = (await running.records())[0]
        assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (7, 3, "completed")


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_caller_who_asks_for_a_stream_gets_one_though_the_source_answers_whole(tmp_path: Path, dialect: str) -> None:
    async with both(tmp_path, dialect=OTHER[dialect]) as (running, source):
        source.plays(whole(json.dumps(WHOLE[OTHER[dialect]], indent=1).encode()))
        client = await running.client()
        ask(client, dialect, stream=True)
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert text_of_stream(dialect, answer.body) == "one two"
        assert answer.body.rstrip().endswith(b"[DONE]" if dialect == "openai" else b'{"type":"message_stop"}')
        record = (await running.records())[0]
        assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (7, 3, "completed")


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("ending", [CLOSE, LAST_CHUNK, SILENCE], ids=["closed", "ended-without-its-last-event", "silent"])
async def test_a_truncated_stream_is_never_presented_as_complete(tmp_path: Path, dialect: str, ending: Step) -> None:
    pieces = STREAMS[OTHER[dialect]]
    begun = head() + b"".join(map(chunk, pieces[: 4 if OTHER[dialect] == "anthropic" else 2]))
    async with both(tmp_path, dialect=OTHER[dialect], timeouts="{idle: 200ms}") as (running, source):
        source.plays(begun, ending)
        client = await running.client()
        ask(client, dialect, stream=True)
        await client.head()
        got = await client.read_to_end()
        assert b'"error"' in got
        assert b"[DONE]" not in got
        assert b"message_stop" not in got
        record = (await running.records())[0]
        assert record["ending"] == "broken"
        await running.is_at_rest()


@pytest.mark.parametrize("dialect", OTHER)
async def test_an_error_of_the_source_is_translated_to_the_callers_dialect(tmp_path: Path, dialect: str) -> None:
    errors = {
        "openai": {"error": {"message": "too long", "type": "invalid_request_error", "param": None, "code": None}},
        "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}},
    }
    async with both(tmp_path, dialect=OTHER[dialect]) as (running, source):
        source.plays(whole(json.dumps(errors[OTHER[dialect]]).encode(), status="400 Bad Request"))
        client = await running.client()
        ask(client, dialect, stream=True)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["message"]) == (400, "too long")
        assert ("type" in answer.json) is (dialect == "anthropic")
        if dialect == "anthropic":
            assert answer.json["request_id"] == answer.headers["x-request-id"]
        assert (await running.records())[0]["ending"] == "relayed_error"


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_source_of_the_callers_dialect_comes_first_and_one_of_the_other_is_its_fallback(
    tmp_path: Path, dialect: str
) -> None:
    async with both(tmp_path, 2, dialect=(OTHER[dialect], dialect)) as (running, foreign, native):
        native.plays(WHOLE_ANSWERS[dialect])
        foreign.plays(WHOLE_ANSWERS[OTHER[dialect]])
        client = await running.client()
        ask(client, dialect)
        answer = await client.answer()
        assert "x-kyma-fallback" not in answer.headers
        assert answer.body == json.dumps(WHOLE[dialect]).encode()  # bytes stay bytes
        native.plays(whole(b"{}", status="503 Busy"))
        ask(client, dialect)
        assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"


async def test_a_request_that_one_source_does_not_support_goes_to_another(tmp_path: Path) -> None:
    async with both(tmp_path, 2, dialect=("anthropic", "openai")) as (running, foreign, native):
        client = await running.client()
        native.plays(WHOLE_ANSWERS["openai"])
        ask(client, "openai", n=2)
        assert (await client.answer()).status == 200
        assert foreign.received == []


@pytest.mark.parametrize("body", [b"<html>no</html>", b"[]", b"", b'{"choices": 1}'])
@pytest.mark.parametrize("dialect", OTHER)
async def test_an_answer_that_is_not_of_the_dialect_leads_to_the_next_source(tmp_path: Path, dialect: str, body: bytes) -> None:
    async with both(tmp_path, 2, dialect=OTHER[dialect]) as (running, odd, fine):
        odd.plays(whole(body))
        fine.plays(WHOLE_ANSWERS[OTHER[dialect]])
        client = await running.client()
        ask(client, dialect)
        assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_caller_who_disconnects_ends_a_translated_stream(tmp_path: Path, dialect: str) -> None:
    async with both(tmp_path, dialect=OTHER[dialect]) as (running, source):
        source.plays(head() + b"".join(map(chunk, STREAMS[OTHER[dialect]][:3])), SILENCE)
        client = await running.client()
        ask(client, dialect, stream=True)
        await client.head()
        client.leave()
        await until(lambda: source.open == 0)
        assert (await running.records())[0]["ending"] == "client_gone"


@pytest.mark.parametrize("speaks", OTHER)
@pytest.mark.parametrize("dialect", OTHER)
async def test_a_prompt_is_not_kept_while_its_answer_streams(tmp_path: Path, dialect: str, speaks: str) -> None:
    size = 4 * 2**20
    async with both(tmp_path, dialect=speaks) as (running, source):
        source.plays(head() + b"".join(map(chunk, STREAMS[speaks][:3])), SILENCE)
        client = await running.client()
        tracemalloc.start()
        try:
            ask(client, dialect, stream=True, messages=[{"role": "user", "content": "word " * (size // 5)}])
            await client.head()
            assert len(source.received.pop().body) > size - 5
            gc.collect()
            kept, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most > size
        assert kept < size // 4


async def test_headers_of_one_dialect_do_not_reach_a_provider_of_the_other(tmp_path: Path) -> None:
    async with both(tmp_path, dialect="openai") as (running, source):
        source.plays(WHOLE_ANSWERS["openai"])
        client = await running.client()
        body = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]}'
        client.send(
            b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: a\r\nx-api-key: secret\r\nanthropic-version: 2023-06-01\r\n"
            b"anthropic-beta: new-thing\r\nx-own: kept\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert (await client.answer()).status == 200
        assert source.received[0].line == "POST /v1/chat/completions HTTP/1.1"
        sent = source.received[0].headers
        assert not [name for name in sent if name.startswith(("anthropic-", "x-api-key"))]
        assert (sent["x-own"], sent["authorization"]) == ("kept", "Bearer provider-key-0")


async def test_headers_meant_for_an_anthropic_provider_reach_it_from_any_caller(tmp_path: Path) -> None:
    async with both(tmp_path, dialect="anthropic") as (running, source):
        source.plays(WHOLE_ANSWERS["anthropic"])
        client = await running.client()
        body = b'{"model":"m","messages":[{"role":"user","content":"a"}]}'
        client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\n"
            b"anthropic-beta: new-thing\r\nanthropic-version: 2099-01-01\r\nopenai-beta: b\r\n"
            b"openai-organization: o\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert (await client.answer()).status == 200
        sent = source.received[0].headers
        assert (sent["anthropic-beta"], sent["anthropic-version"]) == ("new-thing", "2099-01-01")
        assert sent["x-api-key"] == "provider-key-0"
        assert not [name for name in sent if name.startswith(("openai-", "authorization"))]


BAD_ENDS = {
    "openai": {
        "broken JSON": b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"x}\n\n',
        "half a character": b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"' + "ä".encode()[:1],
        "no reason": b"",
    },
    "anthropic": {
        "broken JSON": b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x}\n\n',
        "half a character": (
            b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"' + "ä".encode()[:1]
        ),
        "no reason": b"",
    },
}


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("how", BAD_ENDS["openai"])
async def test_a_stream_that_ends_badly_is_broken_after_everything_that_came(tmp_path: Path, dialect: str, how: str) -> None:
    pieces = STREAMS[OTHER[dialect]]
    end = max(at for at, piece in enumerate(pieces) if b"two" in piece) + 1
    begun = b"".join(map(chunk, pieces[:end]))
    bad = BAD_ENDS[OTHER[dialect]][how]
    async with both(tmp_path, dialect=OTHER[dialect]) as (running, source):
        source.plays(head() + begun + (chunk(bad) if bad else b"") + LAST_CHUNK)
        client = await running.client()
        ask(client, dialect, stream=True)
        await client.head()
        got = await client.read_to_end()
        assert text_of_stream(dialect, got) == "one two"
        assert got.count(b'"error":') == 1
        assert b"[DONE]" not in got
        assert b"message_stop" not in got
        assert (await running.records())[0]["ending"] == "broken"
        await running.is_at_rest()


@pytest.mark.parametrize("dialect", OTHER)
async def test_an_event_of_a_megabyte_is_translated_whole(tmp_path: Path, dialect: str) -> None:
    long = "0123456789abcdef" * 65_536
    pieces = [piece.replace(b"one ", long.encode()) for piece in STREAMS[OTHER[dialect]]]
    async with both(tmp_path, dialect=OTHER[dialect]) as (running, source):
        source.plays(head() + b"".join(map(chunk, pieces)) + LAST_CHUNK)
        client = await running.client()
        ask(client, dialect, stream=True)
        answer = await client.answer()
        assert text_of_stream(dialect, answer.body) == f"{long}two"
        assert (await running.records())[0]["ending"] == "completed"


@pytest.mark.parametrize("dialect", OTHER)
async def test_an_error_in_mid_stream_reaches_the_caller_once(tmp_path: Path, dialect: str) -> None:
    pieces = STREAMS[OTHER[dialect]]
    errors = {
        "openai": {"error": {"message": "overloaded"}},
        "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
    }
    error = f"event: error\ndata: {json.dumps(errors[OTHER[dialect]])}\n\n".encode()
    begun = b"".join(map(chunk, [*pieces[:3], error]))
    async with both(tmp_path, dialect=OTHER[dialect]) as (running, source):
        source.plays(head() + begun + LAST_CHUNK)
        client = await running.client()
        ask(client, dialect, stream=True)
        await client.head()
        got = await client.read_to_end()
        assert got.count(b'"error":') == 1
        assert (await running.records())[0]["ending"] == "broken"
