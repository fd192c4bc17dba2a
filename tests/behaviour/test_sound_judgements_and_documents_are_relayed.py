"""Sound, judgements and sorted documents are relayed as conversations are: one value replaced, sources in turn, never cut."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.harness import CLOSE, LAST_CHUNK, Client, both, chunk, head, whole

SPEECH = b'{"model":"m", "voice" : "alloy","input":"Hello \\ud83d\\ude00"}'
MODERATION = b'{"input":["a","b"],"model":"m"}'
RERANK = b'{"query":"q","documents":["a",{"text":"b"}],"top_n":1,"model":"m"}'
JUDGED = b'{"id":"modr-1","model":"x","results":[{"flagged":false}]}'
SORTED = b'{"results":[{"index":0,"relevance_score":0.5}],"meta":{"billed_units":{"search_units":1}}}'
SORTED_BY_VOYAGE = b'{"object":"list","data":[{"index":0,"relevance_score":0.5}],"usage":{"total_tokens":7}}'
SOUND = b"\xff\xfb\x90\x00" + bytes(range(256)) * 40


async def ask(client: Client, path: str, body: bytes) -> bytes:
    client.post(body, path=path, more="content-type: application/json\r\n")
    answer = await client.answer()
    assert answer.status == 200, answer.body
    return answer.body


@pytest.mark.parametrize(("path", "body", "answer"), [
    ("/v1/moderations", MODERATION, JUDGED), ("/v1/rerank", RERANK, SORTED), ("/v2/rerank", RERANK, SORTED),
    ("/v1/rerank", RERANK, SORTED_BY_VOYAGE),
])  # fmt: skip
async def test_judgements_and_orders_pass_with_only_the_model_replaced(
    tmp_path: Path, path: str, body: bytes, answer: bytes
) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(answer))
        assert await ask(await gateway.client(), path, body) == answer
        (received,) = provider.received
        assert received.body == body.replace(b'"m"', b'"real-0"')
        assert received.line == f"POST /v1/{path.rsplit('/', maxsplit=1)[-1]} HTTP/1.1"


@pytest.mark.parametrize("kind", ["audio/mpeg", "application/octet-stream", "audio/wav"])
@pytest.mark.parametrize("first", [b"\xff", b"{", b":", b"data:", b"\x00"])
async def test_sound_passes_byte_for_byte_whatever_it_begins_with(tmp_path: Path, kind: str, first: bytes) -> None:
    sound = first + SOUND
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(sound, kind=kind))
        assert await ask(await gateway.client(), "/v1/audio/speech", SPEECH) == sound
        assert provider.received[0].body == SPEECH.replace(b'"m"', b'"real-0"')
        assert (await gateway.records())[0]["endpoint"] == "audio/speech"


async def test_sound_goes_out_as_it_comes(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        go_on = asyncio.Event()
        provider.plays(head(kind="audio/mpeg") + chunk(b"\xff\xfbone"), go_on, chunk(b"two") + LAST_CHUNK)
        client = await gateway.client()
        client.post(SPEECH, path="/v1/audio/speech")
        await client.head()
        assert await client.chunk() == b"\xff\xfbone"
        go_on.set()
        assert await client.chunk() == b"two"
        assert await client.rest() == b""


async def test_sound_that_is_cut_is_never_passed_off_as_whole(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head(kind="audio/mpeg") + chunk(b"\xff\xfbone"), CLOSE)
        client = await gateway.client()
        client.post(SPEECH, path="/v1/audio/speech")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()
        assert (await gateway.records())[0]["ending"] == "broken"


async def test_events_of_sound_pass_unchanged_and_their_usage_is_read(tmp_path: Path) -> None:
    events = (
        b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n',
        b'data: {"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}\n\n',
    )
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(events[0]), chunk(events[1]) + LAST_CHUNK)
        assert await ask(await gateway.client(), "/v1/audio/speech", SPEECH) == b"".join(events)
        (record,) = await gateway.records()
        assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (14, 101, "completed")


@pytest.mark.parametrize(("path", "body", "bad", "good"), [
    ("/v1/audio/speech", SPEECH, whole(b"<!DOCTYPE html><p>Sign in</p>", kind="text/html"), SOUND),
    ("/v1/audio/speech", SPEECH, whole(b'{"error":{"message":"no voice"}}'), SOUND),
    ("/v1/audio/speech", SPEECH, whole(b'{"detail":"queued"}'), SOUND),
    ("/v1/audio/speech", SPEECH, whole(b"", kind="audio/mpeg"), SOUND),
    ("/v1/audio/speech", SPEECH, whole(b"{}", status="503 Service Unavailable"), SOUND),
    ("/v1/moderations", MODERATION, whole(b"{}"), JUDGED),
    ("/v1/moderations", MODERATION, whole(b'{"results":null}'), JUDGED),
    ("/v1/moderations", MODERATION, whole(b"ok", kind="text/plain"), JUDGED),
    ("/v1/rerank", RERANK, whole(b'{"message":"no"}'), SORTED),
    ("/v1/rerank", RERANK, whole(b'[{"error":{"message":"no"}}]'), SORTED),
])  # fmt: skip
async def test_what_is_no_answer_leads_to_the_next_source(
    tmp_path: Path, path: str, body: bytes, bad: bytes, good: bytes
) -> None:
    async with both(tmp_path, 2) as (gateway, first, second):
        first.plays(bad)
        second.plays(whole(good))
        assert await ask(await gateway.client(), path, body) == good
        assert second.received[0].body == body.replace(b'"m"', b'"real-1"')
        assert (await gateway.records())[0]["fallback_layer"] == 1


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/audio/speech", b'{"input":"x"}'), ("/v1/moderations", b'{"input":"x","model":1}'), ("/v1/rerank", b"[]"),
    ("/v1/rerank", b'{"model":"m","model":"m"}'), ("/v1/audio/speech", b'{"model":"m"'),
])  # fmt: skip
async def test_a_body_that_is_no_request_is_refused_before_any_source(tmp_path: Path, path: str, body: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.post(body, path=path)
        answer = await client.answer()
        assert answer.status == 400
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert provider.received == []


@pytest.mark.parametrize("path", [
    "/v1/files", "/v1/files/file-1/content", "/v1/uploads", "/v1/batches", "/v1/realtime", "/v1/realtime/sessions",
    "/v1/assistants", "/v1/threads/t/runs", "/v1/vector_stores", "/v1/fine_tuning/jobs", "/v1/messages/batches",
])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_what_is_not_offered_is_a_404_that_says_why_and_what_to_use(tmp_path: Path, path: str, method: str) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.send(f"{method} {path} HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        answer = await client.answer()
        assert answer.status == 404
        document = json.loads(answer.body)
        assert "is not offered here: " in document["error"]["message"]
        assert "Instead, " in document["error"]["message"]
        assert document["error"].get("code", "not_found") == "not_found"
        assert ("request_id" in document) is path.startswith("/v1/messages")
        assert provider.received == []


async def test_a_realtime_session_that_offers_a_websocket_is_told_why_there_is_none(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        client.get("/v1/realtime?model=m", more="connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n")
        answer = await client.answer()
        assert (answer.status, "WebSocket" in answer.json["error"]["message"]) == (404, True)
