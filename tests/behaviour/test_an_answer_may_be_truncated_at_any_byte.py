"""A provider may die after any byte: before a stream's first event, or in a whole answer, that is a 502.

After the first event it is never a clean end.

But a stream is complete after `[DONE]`: then only its last chunk is missing, which the gateway adds.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.harness import ANSWER, CLOSE, DONE, LAST_CHUNK, OK, STREAM, Client, both, chunk, event, head, whole

COMPLETE_FROM = STREAM.index(DONE) + len(DONE)
"""The length of the stream with its `[DONE]`."""
EVENTS = event("one") + event("two") + DONE
LARGE = ANSWER[:-1] + b',"x":"' + b"y" * 70_000 + b'"}'
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
async def test_a_whole_answer_truncated_at_any_byte_is_a_502(tmp_path: Path, script: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for at in range(len(script)):
            provider.plays(script[:at], CLOSE)
            client.ask()
            answer = await client.answer()
            assert (answer.status, answer.json["error"]["code"]) == (502, "provider_error")
        records = await gateway.records(len(script))
    assert {(record["ending"], record["status"], *record["attempts"]) for record in records} == {("failed", 502, "p0:broken")}


@pytest.mark.parametrize("begins", [head(kind="application/json"), whole(LARGE)[: -len(LARGE)]], ids=["chunks", "length"])
async def test_a_large_whole_answer_that_is_truncated_is_an_incomplete_read(tmp_path: Path, begins: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        for at in (66_000, 70_000, len(LARGE) - 1):
            provider.plays(begins + (chunk(LARGE[:at]) if b"chunked" in begins else LARGE[:at]), CLOSE)
            client = await gateway.client()
            client.ask()
            with pytest.raises(asyncio.IncompleteReadError):
                await client.answer()
        assert [record["ending"] for record in await gateway.records(3)] == ["broken"] * 3


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
    if script is not STREAM:
        assert {(record["ending"], record["fallback_layer"]) for record in records} == {("completed", 1)}
        return
    first_broken = [record["ending"] for record in records].index("broken")
    assert {record["ending"] for record in records[:first_broken]} == {"completed"}
    assert {record["ending"] for record in records[first_broken:COMPLETE_FROM]} == {"broken"}
    assert {record["ending"] for record in records[COMPLETE_FROM:]} <= {"completed"}


@pytest.mark.parametrize("script", [head(kind="application/json") + chunk(LARGE) + LAST_CHUNK, STREAM], ids=["whole", "stream"])
async def test_an_http_1_0_caller_sees_the_truncation_too(tmp_path: Path, script: bytes) -> None:
    """A complete answer ends with the connection, so a truncated one must end with a reset or with an error event."""
    async with both(tmp_path) as (gateway, provider):
        for at in range(script.index(b"two") + 5 if script is STREAM else len(script) - 9, len(script)):
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
