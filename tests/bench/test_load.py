"""The load generator tells the truth: a delay that is there is measured, and what goes wrong is never a number."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine

import msgspec
import pytest

from bench import provider
from bench.answer import STAMP, STAMP_DIGITS
from bench.client import request_bytes
from bench.load import Order, Result, play
from bench.scenario import Load

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


def closed(port: int, model: str) -> Order:
    """Four connections, each sends its next request when it has its answer."""
    return Order(load=Load(shape="closed", connections=4, requests=20, warm=4, timeout_s=5.0), port=port, model=model)


def streams(port: int, model: str, *, count: int = 5, timeout_s: float = 5.0, window_s: float | None = None) -> Order:
    load = Load(shape="streams", connections=count, timeout_s=timeout_s, window_s=window_s)
    return Order(load=load, port=port, model=model)


def arriving(port: int, model: str, rate_per_s: float, requests: int, connections: int = 1) -> Order:
    load = Load(shape="open", connections=connections, requests=requests, rate_per_s=rate_per_s)
    return Order(load=load, port=port, model=model)


async def test_all_requests_are_counted(port: int) -> None:
    seen = await play(closed(port, "short"))
    assert (seen.failed, seen.errors, seen.requests, seen.units) == (None, 0, 20, 20)
    assert seen.first_byte is not None
    assert seen.first_byte.count == 20
    assert seen.rate_per_s > 0


async def test_a_caller_of_the_other_dialect_knows_a_whole_stream_from_a_short_one(port: int) -> None:
    order = streams(port, "stream-30-10ms-in-anthropic")
    spoken = msgspec.structs.replace(order, load=msgspec.structs.replace(order.load, endpoint="messages"))
    seen = await play(spoken)
    assert seen.failed is None
    assert seen.event_delay is not None
    assert seen.event_delay.p50 < DELAY_US
    assert (await play(order)).failed == "a short stream: 30 of 30 events"  # it does not end as OpenAI's do


async def test_a_late_first_byte_is_measured(port: int) -> None:
    prompt, late = await play(closed(port, "short")), await play(closed(port, "short-after-50ms"))
    assert prompt.first_byte is not None
    assert late.first_byte is not None
    assert prompt.first_byte.p50 < 0.98 * DELAY_US <= late.first_byte.p50


async def test_a_late_event_is_measured(port: int, slow_port: int) -> None:
    model = "stream-30-10ms"
    direct, late = await play(streams(port, model)), await play(streams(slow_port, model, count=1))
    assert (direct.failed, late.failed) == (None, None)
    assert direct.event_delay is not None
    assert late.event_delay is not None
    assert direct.event_delay.p50 < 0.98 * DELAY_US <= late.event_delay.p50


async def test_who_comes_while_all_are_busy_counts_from_when_it_was_due(port: int) -> None:
    """One connection, an answer takes 20 ms, a request comes each 5 ms: the queue grows, and shows in the times."""
    model = "short-after-20ms"
    seen = await play(arriving(port, model, rate_per_s=200.0, requests=15))
    assert seen.failed is None
    assert seen.first_byte is not None
    assert seen.first_byte.highest > 3 * 20_000


@pytest.mark.parametrize("rate_per_s", [400.0, 2000.0], ids=["a thread's schedule", "a schedule by ticks"])
async def test_a_stall_shows_in_the_times_of_all_that_were_due_meanwhile(port: int, rate_per_s: float) -> None:
    """Omission would be coordinated if only the request that was stalled counted: one of hundreds, far above p90."""
    stall_s, requests = 0.5, round(rate_per_s)
    has_stalled = False

    async def stall_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal has_stalled
        answer, ask = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.IncompleteReadError):
            for number in itertools.count():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                ask.write(head + await reader.readexactly(length))
                answered = await answer.readuntil(b"\r\n\r\n")
                size = int(answered.split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await answer.readexactly(size)
                if number == requests // 4 and not has_stalled:
                    has_stalled = True
                    await asyncio.sleep(stall_s)  # the stall is what is measured
                writer.write(answered + body)
        ask.close()
        writer.close()

    async with one_server(stall_once) as stalling:
        seen = await play(arriving(stalling, "short", rate_per_s=rate_per_s, requests=requests))
    assert seen.failed is None
    assert seen.first_byte is not None
    assert seen.first_byte.count == requests
    assert seen.first_byte.p90 > 0.2 * stall_s * 1e6
    assert seen.first_byte.highest > 0.9 * stall_s * 1e6  # the loop may wake a little early, and the histogram rounds


async def test_what_is_measured_ends_with_the_window_and_the_streams_are_left(port: int) -> None:
    seen = await play(streams(port, "stream-100000-10ms-by-1ms", window_s=0.1))
    assert (seen.failed, seen.requests) == (None, 5)
    assert seen.units > 0
    assert seen.event_delay is not None
    assert seen.event_delay.count == seen.units


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
    assert (seen.first_byte, seen.event_delay, seen.cpu_us_per_unit, seen.rate_per_s) == (None, None, None, 0.0)


async def test_a_stalled_whole_answer_is_a_failure(port: int) -> None:
    load = Load(shape="closed", connections=2, requests=4, timeout_s=0.3)
    assert await play(Order(load=load, port=port, model="short-then-stall")) == Result(
        failed="not done within 0.3 s: 0 of 4 answers", errors=1
    )


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
    load = Load(shape="closed", connections=1, requests=2, prompt_bytes=10_000_000)
    assert (await play(Order(load=load, port=port, model="short"))).failed is None


async def test_events_have_the_size_that_the_script_says(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes(port, "stream-1-10ms-of-2000b", stream=True))
    answer = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    assert answer.split(b"\r\n\r\n")[1].startswith(b"7d0\r\ndata: ")


async def test_an_error_of_the_script_has_its_status(port: int) -> None:
    assert (await play(closed(port, "error-503"))).failed == "status 503"


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
    stamps = [int(event.split(STAMP)[1][:STAMP_DIGITS]) for event in events[:2]]
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))
