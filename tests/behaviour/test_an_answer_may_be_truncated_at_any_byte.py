"""A provider may die after any byte: before the first of the body that is a 502, after it never a clean end.

But a stream is complete after `[DONE]`: then only its last chunk is missing, which the gateway adds.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.harness import ANSWER, CLOSE, DONE, LAST_CHUNK, OK, STREAM, Client, both, chunk, event, head

COMPLETE_FROM = STREAM.index(DONE) + len(DONE)
"""The length of the stream with its `[DONE]`."""
EVENTS = event("one") + event("two") + DONE
CHUNKED = head(kind="application/json") + chunk(ANSWER[:20]) + chunk(ANSWER[20:]) + LAST_CHUNK


async def chunks_until_cut(client: Client) -> tuple[bytes, bool]:
    """The content of the chunks, and True if there was a last one."""
    got = b""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while piece := await client.chunk():
            got += piece
        return got, True
    return got, False


async def is_cut(client: Client) -> bool:
    return not (await client.read_to_end()).endswith(LAST_CHUNK)


@pytest.mark.parametrize("script", [OK, CHUNKED])
async def test_a_whole_answer_truncated_at_any_byte_is_a_502_or_an_incomplete_read(tmp_path: Path, script: bytes) -> None:
    first = script.index(b"\r\n\r\n") + 4 + (4 if script is CHUNKED else 0)
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for at in range(len(script)):
            provider.plays(script[:at], CLOSE)
            client.ask()
            if at <= first:
                answer = await client.answer()
                assert (answer.status, answer.json["error"]["code"]) == (502, "provider_error")
                continue
            with pytest.raises(asyncio.IncompleteReadError):
                await client.answer()
            client = await gateway.client()
        records = await gateway.records(len(script))
    assert [record["ending"] for record in records] == ["failed"] * (first + 1) + ["broken"] * (len(script) - first - 1)
    assert [record["status"] for record in records] == [502] * (first + 1) + [200] * (len(script) - first - 1)
    assert [record["attempts"] for record in records[: first + 1]] == [["p0:broken"]] * (first + 1)


async def test_a_stream_truncated_at_any_byte_is_a_502_or_has_an_error_event(tmp_path: Path) -> None:
    first = STREAM.index(b"\n\n")
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for at in range(len(STREAM)):
            provider.plays(STREAM[:at], CLOSE)
            client.ask(stream=True)
            if at <= first + 1:
                assert (await client.answer()).status == 502
                continue
            assert (await client.head()).status == 200
            got, is_whole = await chunks_until_cut(client)
            assert is_whole == (at >= COMPLETE_FROM)
            if is_whole:
                assert got == EVENTS
                continue
            passed, _, error = got.partition(b'data: {"error":')
            assert EVENTS.startswith(passed.removesuffix(b"\n\n"))
            assert error.endswith(b"\n\n")
            assert got.endswith(b'data: {"error":' + error)
            client = await gateway.client()
        records = await gateway.records(len(STREAM))
    endings = (
        ["failed"] * (first + 2) + ["broken"] * (COMPLETE_FROM - first - 2) + ["completed"] * (len(STREAM) - COMPLETE_FROM)
    )
    assert [record["ending"] for record in records] == endings


@pytest.mark.parametrize("script", [OK, CHUNKED, STREAM])
async def test_the_next_source_takes_over_before_the_first_byte_and_never_after_it(tmp_path: Path, script: bytes) -> None:
    async with both(tmp_path, 2) as (gateway, bad, good):
        for at in range(len(script)):
            bad.plays(script[:at], CLOSE)
            gateway.forget_failures()  # otherwise the bad source would soon be skipped
            client = await gateway.client()
            client.ask()
            before = len(good.received)
            opening = await client.head()
            if len(good.received) > before:
                assert opening.headers["x-kyma-fallback-layer"] == "1"
                assert await client.reader.readexactly(len(ANSWER)) == ANSWER
            else:
                is_whole = script is STREAM and at >= COMPLETE_FROM
                assert (await chunks_until_cut(client))[1] == is_whole if is_whole else await is_cut(client)
            client.leave()
        records = await gateway.records(len(script))
    first_broken = [record["ending"] for record in records].index("broken")
    assert {record["ending"] for record in records[:first_broken]} == {"completed"}
    complete_from = COMPLETE_FROM if script is STREAM else len(script)
    assert {record["ending"] for record in records[first_broken:complete_from]} == {"broken"}
    assert {record["ending"] for record in records[complete_from:]} <= {"completed"}


@pytest.mark.parametrize("script", [CHUNKED, STREAM])
async def test_an_http_1_0_caller_sees_the_truncation_too(tmp_path: Path, script: bytes) -> None:
    """A complete answer ends with the connection, so a truncated one must end with a reset or with an error event."""
    async with both(tmp_path) as (gateway, provider):
        for at in range(script.index(b"two" if script is STREAM else b"14\r\n") + 5, len(script)):
            provider.plays(script[:at], CLOSE)
            client = await gateway.client()
            client.send(b'POST /v1/chat/completions HTTP/1.0\r\ncontent-length: 13\r\n\r\n{"model":"m"}')
            if script is STREAM:
                got = await client.reader.read()
                assert (b'data: {"error":' in got) == (at < COMPLETE_FROM)
                assert got.endswith(EVENTS) == (at >= COMPLETE_FROM)
                continue
            with pytest.raises(ConnectionResetError):
                await client.reader.read()
