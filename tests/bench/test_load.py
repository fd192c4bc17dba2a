"""The load generator: it measures the delays that exist, and a failure never gives a figure."""

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
from bench.load import LoadResult, Workload, run_load
from bench.scenario import Load

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
DELAY_S = 0.05
DELAY_US = DELAY_S * 1e6


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of the scripted provider."""
    server = await provider.listen(0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def slow_port(port: int) -> AsyncIterator[int]:
    """The port of a relay that delays each block of an answer by a known time."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        provider_reader, provider_writer = await asyncio.open_connection("127.0.0.1", port)
        provider_writer.write(await reader.readuntil(b"}]"))
        provider_writer.write(await reader.read(65536))
        while block := await provider_reader.read(65536):
            loop.call_later(DELAY_S, writer.write, block)
            if block.endswith(b"0\r\n\r\n"):
                break
        await reader.read()  # until the generator closes the connection
        provider_writer.close()
        writer.close()

    async with running_server(relay) as relay_port:
        yield relay_port


@contextlib.asynccontextmanager
async def running_server(serve: Serve) -> AsyncIterator[int]:
    """Serve during the block, then wait for the open connections. Gives the port."""
    tasks: list[asyncio.Task[None] | None] = []

    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)

    server = await asyncio.start_server(serve_connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*filter(None, tasks), return_exceptions=True), 5.0)


def closed(port: int, model: str) -> Workload:
    """Four connections; each sends its next request when it has its answer."""
    return Workload(load=Load(shape="closed", connections=4, requests=20, warm_up=4, timeout_s=5.0), port=port, model=model)


def streams(port: int, model: str, *, count: int = 5, timeout_s: float = 5.0, window_s: float | None = None) -> Workload:
    load = Load(shape="streams", connections=count, timeout_s=timeout_s, window_s=window_s)
    return Workload(load=load, port=port, model=model)


def open_load(port: int, model: str, rate_per_s: float, requests: int, connections: int = 1) -> Workload:
    load = Load(shape="open", connections=connections, requests=requests, rate_per_s=rate_per_s)
    return Workload(load=load, port=port, model=model)


async def test_every_request_of_a_closed_load_is_counted(port: int) -> None:
    result = await run_load(closed(port, "short"))
    assert (result.failed, result.errors, result.requests, result.units) == (None, 0, 20, 20)
    assert result.first_byte is not None
    assert result.first_byte.count == 20
    assert result.rate_per_s > 0


async def test_a_stream_is_complete_only_with_the_end_of_the_callers_dialect(port: int) -> None:
    openai = streams(port, "stream-30-10ms-in-anthropic")
    anthropic = msgspec.structs.replace(openai, load=msgspec.structs.replace(openai.load, endpoint="messages"))
    result = await run_load(anthropic)
    assert result.failed is None
    assert result.event_delay is not None
    assert result.event_delay.p50 < DELAY_US
    assert (await run_load(openai)).failed == "incomplete stream: 30 of 30 events"


async def test_the_delay_of_a_first_byte_is_measured(port: int) -> None:
    early, late = await run_load(closed(port, "short")), await run_load(closed(port, "short-after-50ms"))
    assert early.first_byte is not None
    assert late.first_byte is not None
    assert early.first_byte.p50 < 0.98 * DELAY_US <= late.first_byte.p50


async def test_the_delay_of_an_event_is_measured(port: int, slow_port: int) -> None:
    model = "stream-30-10ms"
    direct, late = await run_load(streams(port, model)), await run_load(streams(slow_port, model, count=1))
    assert (direct.failed, late.failed) == (None, None)
    assert direct.event_delay is not None
    assert late.event_delay is not None
    assert direct.event_delay.p50 < 0.98 * DELAY_US <= late.event_delay.p50


async def test_a_request_that_waits_for_a_connection_counts_from_its_scheduled_time(port: int) -> None:
    """One connection, an answer takes 20 ms, and a request is due every 5 ms: the times include the growing queue."""
    model = "short-after-20ms"
    result = await run_load(open_load(port, model, rate_per_s=200.0, requests=15))
    assert result.failed is None
    assert result.first_byte is not None
    assert result.first_byte.maximum > 3 * 20_000


@pytest.mark.parametrize("rate_per_s", [400.0, 2000.0], ids=["scheduled by a thread", "scheduled by ticks"])
async def test_a_stall_counts_for_every_request_that_was_due_during_it(port: int, rate_per_s: float) -> None:
    """With coordinated omission only the stalled request would count: one of many, far above p90."""
    stall_s, requests = 0.15, round(0.3 * rate_per_s)
    has_stalled = False

    async def stall_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal has_stalled
        provider_reader, provider_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.IncompleteReadError):
            for number in itertools.count():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                provider_writer.write(head + await reader.readexactly(length))
                answer_head = await provider_reader.readuntil(b"\r\n\r\n")
                size = int(answer_head.split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await provider_reader.readexactly(size)
                if number == requests // 4 and not has_stalled:
                    has_stalled = True
                    await asyncio.sleep(stall_s)  # the stall is what is measured
                writer.write(answer_head + body)
        provider_writer.close()
        writer.close()

    async with running_server(stall_once) as stalling:
        result = await run_load(open_load(stalling, "short", rate_per_s=rate_per_s, requests=requests))
    assert result.failed is None
    assert result.first_byte is not None
    assert result.first_byte.count == requests
    assert result.first_byte.p90 > 0.2 * stall_s * 1e6
    assert result.first_byte.maximum > 0.9 * stall_s * 1e6  # the loop may wake a little early, and the histogram rounds


async def test_the_measurement_ends_with_the_window_though_the_streams_go_on(port: int) -> None:
    result = await run_load(streams(port, "stream-100000-10ms-by-1ms", window_s=0.1))
    assert (result.failed, result.requests) == (None, 5)
    assert result.units > 0
    assert result.event_delay is not None
    assert result.event_delay.count == result.units


async def test_only_events_within_the_window_are_counted(port: int) -> None:
    result = await run_load(streams(port, "stream-40-10ms-by-1ms"))
    assert result.failed is None
    assert result.requests == 5
    assert 0 < result.units < 5 * 40


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("stream-5-10ms-then-stall", "not done within 0.3 s: 0 of 5 answers"),
        ("stream-5-10ms-then-cut", "the connection was closed after 5 events"),
        ("nothing-known", "status 404"),
    ],
)
async def test_a_failed_load_has_a_reason_and_no_figures(port: int, model: str, reason: str) -> None:
    result = await run_load(streams(port, model, timeout_s=0.3))
    assert result.failed == reason
    assert result.errors >= 1
    assert (result.first_byte, result.event_delay, result.cpu_us_per_unit, result.rate_per_s) == (None, None, None, 0.0)


async def test_an_answer_that_never_comes_fails_the_load(port: int) -> None:
    load = Load(shape="closed", connections=2, requests=4, timeout_s=0.3)
    assert await run_load(Workload(load=load, port=port, model="short-then-stall")) == LoadResult(
        failed="not done within 0.3 s: 0 of 4 answers", errors=1
    )


async def test_a_refused_connection_fails_the_load(unused_tcp_port: int) -> None:
    result = await run_load(closed(unused_tcp_port, "short"))
    assert result.failed is not None
    assert result.failed.startswith("can't connect")


async def test_a_stream_with_a_proper_end_but_a_missing_event_is_incomplete(port: int) -> None:
    """The generator expects six events; it receives five, then the end of the stream and the last chunk."""

    async def drop_one_event(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        provider_reader, provider_writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readuntil(b"}]")
        provider_writer.write(request_bytes(port, "stream-5-10ms", stream=True))
        writer.write(await provider_reader.readuntil(b"0\r\n\r\n"))
        provider_writer.close()
        writer.close()

    async with running_server(drop_one_event) as relay_port:
        result = await run_load(streams(relay_port, "stream-6-10ms", count=1))
    assert result.failed == "incomplete stream: 5 of 6 events"


async def test_the_provider_answers_prompts_of_ten_megabytes(port: int) -> None:
    load = Load(shape="closed", connections=1, requests=2, prompt_bytes=10_000_000)
    assert (await run_load(Workload(load=load, port=port, model="short"))).failed is None


async def test_events_have_the_size_of_the_script(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes(port, "stream-1-10ms-of-2000b", stream=True))
    answer = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    assert answer.split(b"\r\n\r\n")[1].startswith(b"7d0\r\ndata: ")


async def test_a_scripted_error_has_its_status(port: int) -> None:
    assert (await run_load(closed(port, "error-503"))).failed == "status 503"


async def test_a_stream_includes_usage_if_the_request_asks_for_it(port: int) -> None:
    request = request_bytes(port, "stream-2-10ms", stream=True).replace(b'"max_tokens":500', b'"include_usage": true')
    head, body = request.split(b"\r\n\r\n", 1)
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body)
    answer = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    events = [line for line in answer.split(b"\r\n") if line.startswith(b"data: ")]
    assert [b'"usage":{' in event for event in events] == [False, False, False, True, False]
    stamps = [int(event.split(STAMP)[1][:STAMP_DIGITS]) for event in events[:2]]
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))
