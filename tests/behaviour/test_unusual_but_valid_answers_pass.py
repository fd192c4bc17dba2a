"""An answer that is unusual but valid reaches the caller unharmed, in whatever pieces it comes and however it ends."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import pytest
from backports import zstd

from tests.harness import (  # fmt: skip)
    ANSWER,
    CLOSE,
    DONE,
    LAST_CHUNK,
    OK,
    STREAM,
    Step,
    both,
    chunk,
    event,
    head,
    whole,
)
from tests.waiting import until

EVENTS = event("one") + event("two") + DONE
JSON_HEAD = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def one_by_one(data: bytes) -> list[Step]:
    """Each byte, and after it a turn of the loop for others."""
    pause = asyncio.Event()
    pause.set()
    steps: list[Step] = []
    for at in range(len(data)):
        steps += [data[at : at + 1], pause]
    return steps


@pytest.mark.parametrize("script", [OK, STREAM, head(kind="application/json") + chunk(ANSWER) + LAST_CHUNK])
async def test_an_answer_that_comes_byte_by_byte_passes(tmp_path: Path, script: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(*one_by_one(script))
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).body == (EVENTS if script is STREAM else ANSWER)
        (record,) = await gateway.records()
        assert (record["ending"], record["bytes_out"]) == ("completed", len(EVENTS if script is STREAM else ANSWER))


@pytest.mark.parametrize("apart", [True, False])
async def test_an_answer_after_interim_answers_passes(tmp_path: Path, apart: bool) -> None:
    interim = [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\ncontent-length: 7\r\n\r\n"]
    async with both(tmp_path) as (gateway, provider):
        for script in (OK, STREAM):
            data = b"".join(interim) + script
            provider.plays(*(one_by_one(data) if apart else [data]))
            client = await gateway.client()
            client.ask()
            answer = await client.answer()
            assert (answer.status, "link" in answer.headers) == (200, False)
            assert answer.body == (EVENTS if script is STREAM else ANSWER)
        assert provider.connections == 1


REASON = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5},"citations":["' + b"x" * 9000 + b'"]}\n\n'
UNCOMMON_ENDS = [EVENTS + USAGE, event("a") + REASON + USAGE, event("a") + REASON + USAGE + b": bye\n\n"]


@pytest.mark.parametrize(
    ("begin", "body"),
    [(JSON_HEAD, ANSWER), (SSE_HEAD, EVENTS), (JSON_HEAD, ANSWER + b"\r\n "), *((SSE_HEAD, body) for body in UNCOMMON_ENDS)],
)
async def test_an_answer_that_ends_with_its_connection_is_complete_if_its_content_is(
    tmp_path: Path, begin: bytes, body: bytes
) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(begin + body, CLOSE)
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).body == body
        client.ask()
        assert (await client.answer()).body == ANSWER
        assert [record["ending"] for record in await gateway.records(2)] == ["completed"] * 2
        assert provider.connections == 2


@pytest.mark.parametrize(
    ("begin", "body"),
    [
        (SSE_HEAD, event("a")),
        (SSE_HEAD, EVENTS[:-4]),
        (SSE_HEAD, event("a") + REASON),
    ],
)
async def test_a_stream_that_ends_with_its_connection_is_truncated_if_its_content_is(
    tmp_path: Path, begin: bytes, body: bytes
) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(begin + body, CLOSE)
        client = await gateway.client()
        client.ask()
        assert (await client.head()).status == 200
        (record,) = await gateway.records()
        assert (record["ending"], record["attempts"]) == ("broken", ["p0:broken"])
        got = await client.read_to_end()
        assert not got.endswith(LAST_CHUNK)
        assert b'"error"' in got


@pytest.mark.parametrize("body", [ANSWER[:-2], b'{"a":"', ANSWER[:-1], b""])
async def test_a_whole_answer_that_ends_with_its_connection_is_none_if_it_is_truncated(tmp_path: Path, body: bytes) -> None:
    async with both(tmp_path, 2) as (gateway, first, _):
        first.plays(JSON_HEAD + body, CLOSE)
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"
        (record,) = await gateway.records()
        assert (record["ending"], record["attempts"]) == ("completed", ["p0:broken", "p1:answered"])


@pytest.mark.parametrize("script", [STREAM, head(kind="application/json") + chunk(ANSWER) + LAST_CHUNK])
async def test_an_answer_with_trailers_passes_without_them(tmp_path: Path, script: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(script[:-2] + b"x-trailer: 1\r\nset-cookie: a=b\r\n\r\n")
        client = await gateway.client()
        for _ in range(2):
            client.ask()
            answer = await client.answer()
            assert answer.status == 200
            assert "x-trailer" not in answer.headers
        assert provider.connections == 1


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress,
    "gzip, br": lambda plain: brotli.compress(gzip.compress(plain)), "identity": bytes,
}  # fmt: skip


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_compressed_answer_passes_as_what_it_holds(tmp_path: Path, framing: str, coding: str) -> None:
    body = ENCODERS[coding](ANSWER)
    more = f"content-encoding: {coding}\r\n"
    async with both(tmp_path) as (gateway, provider):
        chunks = head(kind="application/json", more=more) + chunk(body[:9]) + chunk(body[9:]) + LAST_CHUNK
        provider.plays(whole(body, more=more) if framing == "length" else chunks)
        client = await gateway.client()
        client.ask()
        answer = await client.answer()
        assert answer.body == ANSWER
        assert answer.headers.get("content-encoding") in (None, "identity")
        (record,) = await gateway.records()
        assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (3, 5, "completed")


@pytest.mark.parametrize("is_ended", [True, False])
async def test_a_compressed_stream_needs_no_trailer_after_its_own_last_event(tmp_path: Path, is_ended: bool) -> None:
    coder = zlib.compressobj(wbits=31)
    pieces = [
        coder.compress(one) + coder.flush(zlib.Z_SYNC_FLUSH) for one in (event("one"), DONE if is_ended else event("two"))
    ]
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head(more="content-encoding: gzip\r\n") + b"".join(map(chunk, pieces)) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        if is_ended:
            assert (await client.answer()).body == event("one") + DONE
        else:
            assert b"its compressed answer is cut" in await client.read_to_end()
        assert (await gateway.records())[0]["ending"] == ("completed" if is_ended else "broken")


@pytest.mark.parametrize("script", [OK, STREAM])
@pytest.mark.parametrize("more", [whole(b'{"evil":1}'), b"HTTP/1.1 100 Continue\r\n\r\n", b"evil", b"\0", b"HTTP/1.1 200"])
async def test_bytes_behind_an_answer_reach_nobody(tmp_path: Path, script: bytes, more: bytes) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(script + more)
        client = await gateway.client()
        for _ in range(3):
            client.ask()
            answer = await client.answer()
            assert answer.status == 200
            assert b"evil" not in answer.body
        assert provider.connections == 2
        assert [record["ending"] for record in await gateway.records(3)] == ["completed"] * 3


async def test_bytes_that_come_on_an_idle_connection_reach_nobody(tmp_path: Path) -> None:
    later = asyncio.Event()
    async with both(tmp_path) as (gateway, provider):
        provider.plays(OK, later, whole(b'{"evil":1}'))
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).body == ANSWER
        assert gateway.upstreams == {"open": 1, "idle": 1}
        later.set()
        await until(lambda: gateway.upstreams == {"open": 0, "idle": 0})
        client.ask()
        assert (await client.answer()).body == ANSWER


BOTH = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\nTransfer-Encoding: Chunked\r\n\r\n"


@pytest.mark.parametrize("length", [0, 5, len(ANSWER), 10**12])
@pytest.mark.parametrize("apart", [True, False])
async def test_chunks_win_over_a_length_and_the_connection_is_not_used_again(tmp_path: Path, length: int, apart: bool) -> None:
    scripts = {
        ANSWER: BOTH % (b"application/json", length) + chunk(ANSWER[:20]) + chunk(ANSWER[20:]) + LAST_CHUNK,
        EVENTS: BOTH % (b"text/event-stream", length) + chunk(EVENTS) + LAST_CHUNK,
    }
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for expected, script in scripts.items():
            provider.plays(*(one_by_one(script) if apart else [script]))
            client.ask(stream=expected is EVENTS)
            answer = await client.answer()
            assert answer.body == expected
            assert "content-length" not in answer.headers
            await gateway.is_at_rest()
            assert gateway.upstreams["open"] == 0
        client.ask()
        assert (await client.answer()).body == ANSWER
        assert [one["ending"] for one in await gateway.records(3)] == ["completed"] * 3
        assert provider.connections == 3


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n"]
)
async def test_an_answer_hidden_behind_an_ambiguous_one_reaches_nobody(tmp_path: Path, line: bytes) -> None:
    hidden = whole(b'{"hidden":"another answer"}')
    begin = line + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for script in (
            [begin + chunk(ANSWER) + LAST_CHUNK + hidden],
            [begin + chunk(ANSWER) + LAST_CHUNK, hidden],
            one_by_one(begin + chunk(ANSWER) + LAST_CHUNK + hidden),
        ):
            provider.plays(*script)
            client.ask()
            assert (await client.answer()).body == ANSWER
            client.ask()
            assert (await client.answer()).body == ANSWER
        assert provider.connections == 4  # each of the three was closed; the plain answers leave theirs to the next request


@pytest.mark.parametrize("after", [b" ", b"  ", b"\t", b" ;name=value", b" \t "])
async def test_spaces_after_a_chunks_size_change_nothing(tmp_path: Path, after: bytes) -> None:
    def spaced(data: bytes) -> bytes:
        return b"%x%b\r\n%b\r\n" % (len(data), after, data)

    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for apart in (True, False):
            script = head() + spaced(event("one") + event("two")) + spaced(DONE) + b"0%b\r\n\r\n" % after
            provider.plays(*(one_by_one(script) if apart else [script]))
            client.ask(stream=True)
            assert (await client.answer()).body == EVENTS
        assert [one["ending"] for one in await gateway.records(2)] == ["completed"] * 2
        assert provider.connections == 1
