"""If a provider dies in the middle of an answer, the caller sees it, in its dialect and in HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.harness import CLOSE, RESET, both, chunk, event, head

MESSAGE = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":4}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
)
LONG = b'{"id":"' + b"x" * 70_000


@pytest.mark.parametrize("ending", [CLOSE, RESET])
async def test_a_truncated_stream_ends_with_an_error_event_and_no_last_chunk(tmp_path: Path, ending: str) -> None:
    async with both(tmp_path) as (gateway, provider):
        wait = asyncio.Event()
        provider.plays(head() + chunk(event("one")), wait, ending)
        client = await gateway.client()
        client.ask(stream=True)
        await client.head()
        assert await client.chunk() == event("one")
        wait.set()
        last = await client.chunk()
        assert last.startswith(b"data: ")
        assert json.loads(last[6:])["error"]["code"] == "provider_error"
        assert await client.read_to_end() == b""
        record = (await gateway.records())[0]
        assert (record["ending"], record["status"]) == ("broken", 200)


async def test_an_unfinished_event_is_closed_before_the_error_event(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(event("one") + b'data: {"cho'), CLOSE)
        client = await gateway.client()
        client.ask(stream=True)
        await client.head()
        got = await client.read_to_end()
        assert b'data: {"cho\r\n' in got
        assert b'\n\ndata: {"error":' in got
        assert b"[DONE]" not in got
        assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("unfinished", [b"", b'event: content_block_delta\ndata: {"ty'])
async def test_an_anthropic_caller_gets_an_error_event_of_its_dialect(tmp_path: Path, unfinished: bytes) -> None:
    async with both(tmp_path, dialect="anthropic") as (gateway, provider):
        provider.plays(head() + chunk(MESSAGE + unfinished), CLOSE)
        client = await gateway.client()
        client.post(b'{"model":"m","stream":true,"max_tokens":5,"messages":[]}', path="/v1/messages")
        await client.head()
        got = await client.read_to_end()
        assert b'\nevent: error\ndata: {"type":"error","error":{"type":"api_error"' in got
        assert b"message_stop" not in got


@pytest.mark.parametrize("ending", [CLOSE, RESET])
async def test_a_truncated_answer_with_a_length_is_an_incomplete_read(tmp_path: Path, ending: str) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n" + LONG, ending)
        client = await gateway.client()
        client.ask()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()
        assert (await gateway.records())[0]["ending"] == "broken"


async def test_a_truncated_chunked_answer_has_no_last_chunk(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head(kind="application/json") + chunk(LONG), CLOSE)
        client = await gateway.client()
        client.ask()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()


async def test_a_truncated_stream_with_a_length_is_an_incomplete_read(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 900\r\n\r\n" + event("one"), CLOSE
        )
        client = await gateway.client()
        client.ask(stream=True)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()


async def test_the_request_after_a_truncated_answer_is_served(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(event("one")), RESET)
        client = await gateway.client()
        client.ask(stream=True)
        await client.read_to_end()
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).status == 200
