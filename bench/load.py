"""The load generator: sends one load, measures it from outside, and prints the result as JSON.

Load shapes:

- `closed`: a fixed number of connections; each sends its next request when it has its answer.
- `open`: requests arrive on a schedule. A request's time counts from its scheduled time (no coordinated omission).
- `streams`: a fixed number of streams at once. The window opens 0.1 s after the last stream has begun; it ends with the first
  stream that ends, or after `window_s`.

An error (a status, a cut or incomplete stream, a time-out) makes the result `failed`, with the reason and without figures.

    python -m bench.load '{"port": 8080, "model": "short", "load": {"connections": 32, "requests": 1000}}'
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
import threading
import time
from collections import deque
from typing import Final

import msgspec
import uvloop

from bench.answer import ENDS
from bench.client import Connection, RequestTiming, request_bytes
from bench.histogram import LatencySummary, summarize
from bench.processes import cpu_ns, memory_bytes
from bench.scenario import Load
from bench.script import parse

_CONNECT_BATCH: Final = 100
_START_BATCH: Final = 50
_BATCH_S: Final = 0.005
_LEAD_NS: Final = 20_000_000
_SETTLE_S: Final = 0.1
_TICK_S: Final = 0.001
_MAX_THREAD_RATE_PER_S: Final = 1000
_SEED: Final = 1
_MIN_EVENTS_SHARE: Final = 0.9


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A load and its target. The CPU time and the memory of `pid` are read at both ends of the window."""

    load: Load
    port: int
    model: str
    headers: tuple[tuple[str, str], ...] = ()
    pid: int | None = None


class LoadResult(msgspec.Struct, kw_only=True):
    """The measurements of the window. `units` counts requests, or events for the shape `streams`."""

    failed: str | None = None
    errors: int = 0
    requests: int = 0
    units: int = 0
    window_s: float = 0.0
    rate_per_s: float = 0.0
    cpu_us_per_unit: float | None = None
    memory_before_bytes: int | None = None
    memory_open_bytes: int | None = None
    first_byte: LatencySummary | None = None
    event_delay: LatencySummary | None = None


class LoadGenerator:
    """Sends one load. `measured` holds the requests of the window; those before it are the warm-up."""

    def __init__(self, workload: Workload) -> None:
        script = parse(workload.model)
        self.workload = workload
        self.load = workload.load
        self.events = script.events if script is not None else 0
        self.gap_ms = script.gap_ms if script is not None else 0
        self.request = request_bytes(
            workload.port,
            workload.model,
            stream=self.events > 0,
            prompt_bytes=workload.load.prompt_bytes,
            max_tokens=workload.load.max_tokens,
            headers=workload.headers,
            endpoint=workload.load.endpoint,
        )
        self._end = ENDS["anthropic" if workload.load.endpoint.startswith("messages") else "openai"]
        self.measured: list[RequestTiming] = []
        self.errors: list[str] = []
        self.idle: list[Connection] = []
        self.due: deque[int] = deque()
        self.begun = self.sent = self.completed = 0
        self.done = asyncio.Event()
        self.result = LoadResult()
        self._all: list[Connection] = []
        self._window: tuple[int, int, int] | None = None
        self._is_window_closed = False

    async def run(self) -> LoadResult:
        """Send the load and return its measurements."""
        shapes = {"closed": self._closed, "open": self._open, "streams": self._streams}
        try:
            async with asyncio.timeout(self.load.timeout_s):
                await self._connect()
                await shapes[self.load.shape]()
                await self.done.wait()
        except TimeoutError:
            self.errors.append(f"not done within {self.load.timeout_s:g} s: {self.completed} of {self._request_count} answers")
        except OSError as error:
            self.errors.append(f"can't connect: {error}")
        finally:
            for connection in self._all:
                connection.transport.abort()
        return self._finished_result()

    @property
    def _request_count(self) -> int:
        return self.load.connections if self.load.shape == "streams" else self.load.warm_up + self.load.requests

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        if self.workload.pid is not None:
            self.result.memory_before_bytes = memory_bytes(self.workload.pid)
        while (missing := self.load.connections - len(self._all)) > 0:
            batch = [
                loop.create_connection(
                    lambda: Connection(self._on_first_byte, self._on_end, self._end), "127.0.0.1", self.workload.port
                )
                for _ in range(min(missing, _CONNECT_BATCH))
            ]
            self._all += [connection for _, connection in await asyncio.gather(*batch)]
        self.idle = list(self._all)

    async def _closed(self) -> None:
        if not self.load.warm_up:
            self._open_window()
        while self.idle:
            self._send(self.idle.pop(), time.monotonic_ns())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        intervals = random.Random(_SEED)
        at_ns = time.monotonic_ns() + _LEAD_NS
        schedule = []
        for _ in range(self._request_count):
            at_ns += round(intervals.expovariate(self.load.rate_per_s) * 1e9)
            schedule.append(at_ns)
        if not self.load.warm_up:
            self._open_window()

        if self.load.rate_per_s > _MAX_THREAD_RATE_PER_S:
            self._arrive_by_ticks(deque(schedule))
            return

        def tick() -> None:  # a thread sleeps to the microsecond; the loop's timers have steps of a millisecond
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                for due_ns in schedule:
                    time.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
                    loop.call_soon_threadsafe(self._arrive, due_ns)

        threading.Thread(target=tick, daemon=True).start()

    def _arrive_by_ticks(self, schedule: deque[int]) -> None:
        """Send all due requests each millisecond: waking the loop from a thread for each one would cost more than they do."""
        now_ns = time.monotonic_ns()
        while schedule and schedule[0] <= now_ns:
            self._arrive(schedule.popleft())
        if schedule and not self.done.is_set():
            asyncio.get_running_loop().call_later(_TICK_S, self._arrive_by_ticks, schedule)

    def _arrive(self, due_ns: int) -> None:
        if self.idle:
            self._send(self.idle.pop(), due_ns)
        else:
            self.due.append(due_ns)

    async def _streams(self) -> None:
        for number, connection in enumerate(self.idle):
            self._send(connection, time.monotonic_ns())
            if number % _START_BATCH == _START_BATCH - 1:
                await asyncio.sleep(_BATCH_S)
        self.idle = []

    def _send(self, connection: Connection, due_ns: int) -> None:
        self.sent += 1
        connection.send(self.request, self.events, due_ns)

    def _on_first_byte(self, connection: Connection) -> None:
        self.begun += 1
        if self.load.shape == "streams" and self.begun == self.load.connections:
            asyncio.get_running_loop().call_later(_SETTLE_S, self._open_window)

    def _on_end(self, connection: Connection, timing: RequestTiming) -> None:
        self.completed += 1
        if timing.error is not None:
            self.errors.append(timing.error)
            self.done.set()
            return
        if self.load.shape == "streams":
            self._on_stream_end(timing)
            return
        if self.done.is_set():
            return
        if self.completed > self.load.warm_up:
            self.measured.append(timing)
        if self.completed == self.load.warm_up:
            self._open_window()
        if self.completed == self._request_count:
            self._close_window()
            self.done.set()
        elif self.load.shape == "open" and not self.due:
            self.idle.append(connection)
        elif self.load.shape == "open":
            self._send(connection, self.due.popleft())
        else:
            # Keep sending, so that as many requests are in flight when the window ends as when it began.
            self._send(connection, time.monotonic_ns())

    def _on_stream_end(self, timing: RequestTiming) -> None:
        if self._window is None and not self.errors:
            self.errors.append("the first stream ended before the last one had begun: the script is too short")
        self._close_window()
        self.measured.append(timing)
        if self.completed == self.load.connections:
            self.done.set()

    def _open_window(self) -> None:
        for connection in self._all:
            connection.start_window()
        self._window = (time.monotonic_ns(), self._cpu_ns(), self._events())
        if self.load.shape == "streams" and self.load.window_s is not None:
            asyncio.get_running_loop().call_later(self.load.window_s, self._end_of_window)

    def _end_of_window(self) -> None:
        """The time of the window is over: the events that have come until now are measured."""
        if not self._is_window_closed:
            self._close_window()
            self.measured += [timing for connection in self._all if (timing := connection.timing) is not None]
            self.done.set()

    def _close_window(self) -> None:
        if self._window is None or self._is_window_closed:
            return
        self._is_window_closed = True
        now_ns, cpu, result = time.monotonic_ns(), self._cpu_ns(), self.result
        result.units = self._events() - self._window[2] if self.load.shape == "streams" else self.load.requests
        result.window_s = (now_ns - self._window[0]) / 1e9
        result.rate_per_s = result.units / max(result.window_s, 1e-9)
        if self.workload.pid is not None:
            result.cpu_us_per_unit = (cpu - self._window[1]) / max(result.units, 1) / 1000
            result.memory_open_bytes = memory_bytes(self.workload.pid)

    def _cpu_ns(self) -> int:
        return cpu_ns(self.workload.pid) if self.workload.pid is not None else 0

    def _events(self) -> int:
        return sum(connection.events_seen for connection in self._all) if self.events else 0

    def _expected(self) -> float:
        """The number of events that the scripts of all streams send in the window."""
        return self.load.connections * self.result.window_s / (self.gap_ms / 1000) if self.gap_ms else 0.0

    def _finished_result(self) -> LoadResult:
        if self.errors:
            return LoadResult(failed=self.errors[0], errors=len(self.errors), requests=self.completed)
        if self.load.shape == "streams" and self.result.units < _MIN_EVENTS_SHARE * self._expected():
            reason = f"it falls behind: {self.result.units} of {self._expected():.0f} events came in the window"
            return LoadResult(failed=reason, errors=1)
        if (self.result.cpu_us_per_unit or 0.0) < 0.0:
            return LoadResult(failed="processes ended while they were measured", errors=1)
        self.result.requests = len(self.measured)
        self.result.first_byte = summarize(timing.first_byte_ns - timing.due_ns for timing in self.measured)
        delays_ns = [delay for timing in self.measured for delay in timing.delays_ns[timing.delays_before_window :]]
        self.result.event_delay = summarize(delays_ns) if delays_ns else None
        return self.result


async def run_load(workload: Workload) -> LoadResult:
    """Send one load from the running loop."""
    return await LoadGenerator(workload).run()


if __name__ == "__main__":
    gc.disable()
    measured = uvloop.run(run_load(msgspec.json.decode(sys.argv[1], type=Workload)))
    sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")
