"""A provider can't keep the gateway busy with bytes that are no part of its answer: heads, chunk extensions, trailers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.harness import LAST_CHUNK, OK, STREAM, both, chunk, event, head

ENDLESS = {
    "trailer fields": (b"0\r\n", b"x: y\r\n" * 2000),
    "a trailer field without an end": (b"0\r\nx: ", b"y" * 16_000),
    "a name of a trailer field without an end": (b"0\r\n", b"x" * 16_000),
    "a chunk's extension": (b"1;", b"a=b;" * 4000),
    "zeros of a chunk's size": (b"", b"0" * 16_000),
    "extensions of small chunks": (b"", b"1;" + b"a" * 200 + b"\r\nx\r\n"),
}
PIECES = 400


@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_answer_that_never_comes_to_its_point_is_cut(tmp_path: Path, kind: str) -> None:
    first, more = ENDLESS[kind]
    more *= max(1, 12_000 // len(more))
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(event("one")) + first, *[more] * PIECES)
        client = await gateway.client()
        client.ask(stream=True)
        await client.head()
        assert (await client.chunk()).startswith(b"data:")
        got = await client.read_to_end()
        assert b'"provider_error"' in got
        assert not got.endswith(LAST_CHUNK)
        record = (await gateway.records())[0]
        assert record["ending"] == "broken"
        assert provider.written < PIECES * len(more)


@pytest.mark.parametrize("endless", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"])
async def test_endless_informational_answers_are_a_failure_and_the_next_source_answers(tmp_path: Path, endless: bytes) -> None:
    async with both(tmp_path, 2) as (gateway, provider, other):
        provider.plays(*[endless * 500] * PIECES)
        other.plays(OK)
        client = await gateway.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-fallback"]) == (200, "true")
        assert provider.written < PIECES * 500 * len(endless)


@pytest.mark.parametrize("size", [1, 3])
async def test_a_stream_in_the_smallest_chunks_is_no_misuse(tmp_path: Path, size: int) -> None:
    text = event("x" * 200) * 400
    small = b"".join([chunk(text[at : at + size]) for at in range(0, len(text), size)])
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + small + STREAM.partition(b"\r\n\r\n")[2])
        client = await gateway.client()
        client.ask(stream=True)
        answer = await client.answer()
        assert answer.body.startswith(text)
        assert answer.body.endswith(b"[DONE]\n\n")


async def test_a_connection_counts_each_answer_alone(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        trailers = b"0\r\n" + b"x: y\r\n" * 10_000 + b"\r\n"
        client = await gateway.client()
        for _ in range(12):
            provider.plays(head() + chunk(event("one") + b"data: [DONE]\n\n") + trailers)
            client.ask(stream=True)
            assert (await client.answer()).status == 200
        await asyncio.sleep(0)
        assert provider.connections == 1
