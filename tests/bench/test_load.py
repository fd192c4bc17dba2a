"""The load generator tells the truth: a delay that is there is measured, and what goes wrong is never a number."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from bench import provider
from bench.client import request_bytes
from bench.load import Load, Result, play

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
DELAY_S = 0.05
DELAY_US = DELAY_S * 1e6


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The provider's port."""
    server = await provider.listen(0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def slow_port(port: int) -> AsyncIterator[int]:
    """A relay to the provider that holds each block of an answer back for a known time."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        answer, ask = await asyncio.open_connection("127.0.0.1", port)
        ask.write(await reader.readuntil(b"}]"))
        ask.write(await reader.read(65536))
        while block := await answer.read(65536):
            loop.call_later(DELAY_S, writer.write, block)
            if block.endswith(b"0\r\n\r\n"):
                break
        await reader.read()  # until the generator leaves
        ask.close()
        writer.close()

    async with one_server(relay) as port_of_relay:
        yield port_of_relay


@contextlib.asynccontextmanager
async def one_server(serve: Serve) -> AsyncIterator[int]:
    """Serve while the block lasts, and wait for what is being served."""
    served: list[asyncio.Task[None] | None] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*filter(None, served), return_exceptions=True), 5.0)


def closed(port: int, model: str) -> Load:
    """Four connections, each sends its next request when it has its answer."""
    return Load(shape="closed", port=port, model=model, connections=4, requests=20, warm=4, timeout_s=5.0)


def streams(port: int, model: str, *, count: int = 5, timeout_s: float = 5.0) -> Load:
    return Load(shape="streams", port=port, model=model, connections=count, timeout_s=timeout_s)


async def test_all_requests_are_counted(port: int) -> None:
    seen = await play(closed(port, "short"))
    assert (seen.failed, seen.errors, seen.requests, seen.units) == (None, 0, 20, 20)
    assert seen.first_byte_us is not None
    assert seen.first_byte_us.count == 20
    assert seen.rate_per_s > 0


async def test_a_late_first_byte_is_measured(port: int) -> None:
    prompt, late = await play(closed(port, "short")), await play(closed(port, "short-after-50ms"))
    assert prompt.first_byte_us is not None
    assert late.first_byte_us is not None
    assert prompt.first_byte_us.p50 < 0.98 * DELAY_US <= late.first_byte_us.p50


async def test_a_late_event_is_measured(port: int, slow_port: int) -> None:
    model = "stream-30-10ms"
    direct, late = await play(streams(port, model)), await play(streams(slow_port, model, count=1))
    assert (direct.failed, late.failed) == (None, None)
    assert direct.event_delay_us is not None
    assert late.event_delay_us is not None
    assert direct.event_delay_us.p50 < 0.98 * DELAY_US <= late.event_delay_us.p50


async def test_who_comes_while_all_are_busy_counts_from_when_it_was_due(port: int) -> None:
    """One connection, an answer takes 20 ms, a request comes each 5 ms: the queue grows, and shows in the times."""
    model = "short-after-20ms"
    seen = await play(Load(shape="open", port=port, model=model, connections=1, requests=15, rate_per_s=200.0))
    assert seen.failed is None
    assert seen.first_byte_us is not None
    assert seen.first_byte_us.highest > 3 * 20_000


async def test_events_are_counted_in_the_window_only(port: int) -> None:
    seen = await play(streams(port, "stream-40-10ms-by-1ms"))
    assert seen.failed is None
    assert seen.requests == 5
    assert 0 < seen.units < 5 * 40


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("stream-5-10ms-then-stall", "not done within 0.5 s: 0 of 5 answers"),
        ("stream-5-10ms-then-cut", "the connection was closed after 5 events"),
        ("nothing-known", "status 404"),
    ],
)
async def test_what_goes_wrong_is_a_failure_without_figures(port: int, model: str, reason: str) -> None:
    seen = await play(streams(port, model, timeout_s=0.5))
    assert seen.failed == reason
    assert seen.errors >= 1
    assert (seen.first_byte_us, seen.event_delay_us, seen.cpu_us_per_unit, seen.rate_per_s) == (None, None, None, 0.0)


async def test_a_stalled_whole_answer_is_a_failure(port: int) -> None:
    load = Load(shape="closed", port=port, model="short-then-stall", connections=2, requests=4, timeout_s=0.3)
    assert await play(load) == Result(failed="not done within 0.3 s: 0 of 4 answers", errors=1)


async def test_nobody_listening_is_a_failure(unused_tcp_port: int) -> None:
    seen = await play(closed(unused_tcp_port, "short"))
    assert seen.failed is not None
    assert seen.failed.startswith("can't connect")


async def test_a_stream_that_ends_politely_but_early_is_short(port: int) -> None:
    """The generator expects six events, and is sent five, the mark of the end and the last chunk."""

    async def shorten(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer, ask = await asyncio.open_connection("127.0.0.1", port)
        await reader.readuntil(b"}]")
        ask.write(request_bytes(port, "stream-5-10ms", stream=True))
        writer.write(await answer.readuntil(b"0\r\n\r\n"))
        ask.close()
        writer.close()

    async with one_server(shorten) as port_of_shorten:
        seen = await play(streams(port_of_shorten, "stream-6-10ms", count=1))
    assert seen.failed == "a short stream: 5 of 6 events"


async def test_a_provider_swallows_ten_megabytes_and_serves_on(port: int) -> None:
    load = Load(shape="closed", port=port, model="short", connections=1, requests=2, prompt_bytes=10_000_000)
    assert (await play(load)).failed is None


async def test_usage_is_sent_to_who_asks_for_it(port: int) -> None:
    asked = request_bytes(port, "stream-2-10ms", stream=True).replace(b'"max_tokens":500', b'"include_usage": true')
    head, body = asked.split(b"\r\n\r\n", 1)
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body)
    answer = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    events = [line for line in answer.split(b"\r\n") if line.startswith(b"data: ")]
    assert [b'"usage":{' in event for event in events] == [False, False, False, True, False]
    stamps = [int(event.split(b'"sent_ns":"')[1][:19]) for event in events[:2]]
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))
