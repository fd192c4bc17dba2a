"""Whatever a provider does before the first byte of its body, the next source is tried, and the caller sees nothing of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.configurations import configuration
from tests.harness import (  # fmt: skip)
    ANSWER,
    CLOSE,
    LAST_CHUNK,
    OK,
    RESET,
    SILENCE,
    Step,
    both,
    chunk,
    event,
    gateway,
    head,
    providers,
    whole,
)

LINE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKS = chunk(ANSWER) + LAST_CHUNK

NO_ANSWER = [
    pytest.param((CLOSE,), id="closes"),
    pytest.param((RESET,), id="resets"),
    pytest.param((b"SSH-2.0-OpenSSH_9.6\r\n", CLOSE), id="ssh-banner"),
    pytest.param((b"\x15\x03\x01\x00\x02\x02\x28", CLOSE), id="tls-alert"),
    pytest.param((ANSWER, CLOSE), id="http-0.9"),
    pytest.param((OK.replace(b"HTTP/1.1", b"HTTP/3.0"),), id="http-3"),
    pytest.param((LINE + (b"x: " + b"y" * 1000 + b"\r\n") * 1024,), id="1-mb-of-head"),
    pytest.param((LINE + b"x: ", *[b"y" * 1024] * 1024), id="1-mb-of-one-field"),
    pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000,), id="1-mb-of-interim-answers"),
    pytest.param((LINE + b"transfer-encoding: gzip\r\ncontent-length: 5\r\n\r\n" + CHUNKS,), id="coding-and-length"),
    pytest.param((LINE + b"content-length: 5\r\ntransfer-encoding: chunked, gzip\r\n\r\n" + CHUNKS,), id="length-and-codings"),
    pytest.param((LINE + b"content-length: 5\r\ntransfer-encoding: identity\r\n\r\nhello",), id="length-and-identity"),
    pytest.param((LINE + b"transfer-encoding: chunked\r\n\r\n5 5\r\nhello\r\n0\r\n\r\n",), id="two-chunk-sizes"),
    pytest.param((LINE + b"transfer-encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",), id="space-before-chunk-size"),
    pytest.param((LINE + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",), id="two-lengths"),
    pytest.param((LINE + b"content-length: -2\r\n\r\n{}",), id="negative-length"),
    pytest.param((LINE + b"transfer-encoding: gzip\r\n\r\n" + ANSWER, CLOSE), id="unknown-coding"),
    pytest.param((LINE + b"transfer-encoding: gzip, chunked\r\n\r\n" + CHUNKS,), id="unknown-coding-in-chunks"),
    pytest.param((LINE + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,), id="two-codings"),
    pytest.param((LINE + b"transfer-encoding: xchunked\r\n\r\n" + CHUNKS, CLOSE), id="misspelt-coding"),
    pytest.param((LINE + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",), id="folded-field"),
    pytest.param((LINE + b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}",), id="nul"),
    pytest.param((b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}", CLOSE), id="bare-lf"),
    pytest.param((LINE[:-1], CLOSE), id="half-a-head"),
    pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE), id="interim-answer-only"),
    pytest.param((b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", OK), id="switches-protocols"),
    pytest.param((LINE + b"content-length: 5\r\n\r\n", CLOSE), id="head-and-no-body"),
    pytest.param((LINE + b"transfer-encoding: chunked\r\n\r\nnonsense\r\n",), id="bad-chunk-size"),
    pytest.param((LINE + b"\r\n", CLOSE), id="no-body-and-no-length"),
    pytest.param((b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event("a")[:-2], CLOSE), id="half-an-event"),
]  # fmt: skip


@pytest.mark.parametrize("steps", NO_ANSWER)
async def test_the_next_source_answers_for_a_misbehaving_provider(tmp_path: Path, steps: tuple[Step, ...]) -> None:
    async with both(tmp_path, 2) as (running, bad, good):
        bad.plays(*steps)
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, ANSWER)
        assert (answer.headers["x-kyma-fallback"], answer.headers["x-kyma-fallback-layer"]) == ("true", "1")
        (record,) = await running.records()
        assert (record["ending"], record["provider"], record["fallback_layer"]) == ("completed", "p1", 1)
        result = "101" if b"101" in bytes(str(steps[0]), "latin-1") else "broken"
        assert record["attempts"] == [f"p0:{result}", "p1:answered"]
        await running.is_at_rest()
        assert running.upstreams["open"] == 1
        assert len(good.received) == 1


@pytest.mark.parametrize("steps", NO_ANSWER)
async def test_a_misbehaving_provider_without_an_alternative_is_a_502(tmp_path: Path, steps: tuple[Step, ...]) -> None:
    async with both(tmp_path) as (running, bad):
        bad.plays(*steps)
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (502, "provider_error")
        assert "x-kyma-fallback" not in answer.headers
        await running.is_at_rest()
        assert running.upstreams["open"] == 0
        client.ask()
        assert (await client.answer()).body == ANSWER
        failed, served = await running.records(2)
        assert (failed["ending"], failed["status"], len(failed["attempts"])) == ("failed", 502, 1)
        assert (served["ending"], served["attempts"]) == ("completed", ["p0:answered"])


@pytest.mark.parametrize(
    "status", ["302 Found", "401 U", "403 F", "404 N", "408 T", "409 C", "429 T", "500 I", "503 S", "529 O"]
)
async def test_a_retryable_status_leads_to_the_next_source(tmp_path: Path, status: str) -> None:
    async with both(tmp_path, 2) as (running, bad, _):
        bad.plays(whole(b'{"error":1}', status=status, more="location: https://elsewhere.example/\r\n"))
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.body, answer.headers["x-kyma-fallback-layer"]) == (200, ANSWER, "1")
        (record,) = await running.records()
        assert record["attempts"] == [f"p0:{status[:3]}", "p1:answered"]


@pytest.mark.parametrize("status", ["302 Found", "401 U", "402 P", "403 F", "408 T", "409 C", "412 F", "500 I", "503 S"])
async def test_a_retryable_status_of_the_only_source_is_the_gateways_own_error(tmp_path: Path, status: str) -> None:
    async with both(tmp_path) as (running, bad):
        bad.plays(whole(b'{"error":"of the operator"}', status=status, more="location: https://elsewhere.example/\r\n"))
        client = await running.client()
        client.ask()
        answer = await client.answer()
        is_about_the_operator = status[:3] in ("401", "402", "403", "412")
        expected = (503, "no_source_available") if is_about_the_operator else (502, "provider_error")
        assert (answer.status, answer.json["error"]["code"]) == expected
        assert b"of the operator" not in answer.body
        assert "location" not in answer.headers
        (record,) = await running.records()
        assert (record["ending"], record["attempts"]) == ("failed", [f"p0:{status[:3]}"])


@pytest.mark.parametrize("status", ["400 Bad", "413 Large", "422 Odd", "418 Teapot"])
@pytest.mark.parametrize("ends", ["length", "chunks", "close"])
async def test_a_status_that_is_not_retryable_is_relayed_as_it_came(tmp_path: Path, status: str, ends: str) -> None:
    body = b'{"error":{"message":"as it came"}}'
    async with both(tmp_path, 2) as (running, bad, other):
        begin = head(status=status, kind="application/json")
        if ends == "length":
            bad.plays(whole(body, status=status))
        elif ends == "chunks":
            bad.plays(begin + chunk(body) + LAST_CHUNK)
        else:
            bad.plays(begin.replace(b"transfer-encoding: chunked\r\n", b"") + body, CLOSE)
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.body) == (int(status[:3]), body)
        assert not other.received
        (record,) = await running.records()
        assert (record["ending"], record["status"]) == ("relayed_error", int(status[:3]))


async def test_a_429_of_three_sources_has_the_smallest_retry_after(tmp_path: Path) -> None:
    async with both(tmp_path, 3) as (running, *three):
        for provider, hint in zip(three, (30, 7, 12), strict=True):
            provider.plays(whole(b"{}", status="429 Too Many", more=f"retry-after: {hint}\r\n"))
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert answer.json["error"]["code"] == "provider_rate_limited"
        (record,) = await running.records()
        assert record["attempts"] == ["p0:429", "p1:429", "p2:429"]


async def test_a_provider_that_refuses_connections_is_failed_over(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with providers() as (good,), gateway(configuration(port, good.port), tmp_path) as running:
            client = await running.client()
            client.ask()
            answer = await client.answer()
            assert (answer.status, answer.headers["x-kyma-fallback"], answer.headers["x-kyma-fallback-layer"]) == (
                200,
                "true",
                "1",
            )
            (record,) = await running.records()
            assert record["attempts"] == ["p0:connect", "p1:answered"]
        async with gateway(configuration(port), tmp_path) as running:
            client = await running.client()
            client.ask()
            assert (await client.answer()).json["error"]["code"] == "provider_error"
            assert (await running.records(2))[1]["attempts"] == ["p0:connect"]


async def test_a_provider_that_never_answers_is_a_504(tmp_path: Path) -> None:
    async with both(tmp_path, timeouts="{first_byte: 150ms}") as (running, bad):
        bad.plays(SILENCE)
        client = await running.client()
        client.ask()
        assert (await client.answer()).json["error"]["code"] == "provider_timeout"
        (record,) = await running.records()
        assert (record["status"], record["attempts"]) == (504, ["p0:first_byte_timeout"])


@asynccontextmanager
async def serving(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """The port of a provider that this function serves."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_provider_that_accepts_and_closes_is_a_502_every_time(tmp_path: Path) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(close) as port, gateway(configuration(port), tmp_path) as running:
        client = await running.client()
        for _ in range(50):
            client.ask()
            assert (await client.answer()).status == 502
        await running.is_at_rest()
        assert running.upstreams == {"open": 0, "idle": 0}


async def test_a_connection_whose_answer_came_before_the_end_of_the_request_is_not_reused(tmp_path: Path) -> None:
    heads: list[bytes] = []
    over = asyncio.Event()

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(whole(b'{"error":"too large"}', status="413 Too Large") if len(heads) == 1 else OK)
        await over.wait()
        writer.close()

    async with serving(hasty) as port, gateway(configuration(port), tmp_path) as running:
        client = await running.client()
        client.post(b'{"model":"m","x":"' + b"y" * 25_000_000 + b'"}')
        assert (await client.answer()).status == 413
        client.ask()
        assert (await client.answer()).body == ANSWER
        assert len(heads) == 2
        over.set()
