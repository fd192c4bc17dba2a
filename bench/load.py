"""The load generator: it sends one load, measures from outside, and prints what it saw as JSON.

`closed`: so many connections, each sends its next request when it has its answer. `open`: requests come on a schedule,
and their time counts from when they were due, whoever is late. `streams`: so many streamed answers at once; what is
measured lies between the last one's beginning, and a moment to settle, and the first one's end or the window's.
Anything wrong (a status, a cut or short stream, a time-out) makes the result `failed`, with the reason and no figures.

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
from bench.client import Call, Connection, request_bytes
from bench.histogram import Spread, spread
from bench.processes import cpu_ns, memory_bytes
from bench.scenario import Load
from bench.script import parse

_CONNECT_BATCH: Final = 100
_BEGIN_BATCH: Final = 50
_BATCH_S: Final = 0.005
_LEAD_NS: Final = 20_000_000
_SETTLE_S: Final = 0.1
_TICK_S: Final = 0.001
_MANY_PER_S: Final = 1000
_SEED: Final = 1
_KEEPS_UP: Final = 0.9


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A load, and where it goes. `pid` is the process whose processor time and memory are read at the window's two ends."""

    load: Load
    port: int
    model: str
    headers: tuple[tuple[str, str], ...] = ()
    pid: int | None = None


class Result(msgspec.Struct, kw_only=True):
    """What was seen in the window: `units` are requests, or events for `streams`."""

    failed: str | None = None
    errors: int = 0
    requests: int = 0
    units: int = 0
    window_s: float = 0.0
    rate_per_s: float = 0.0
    cpu_us_per_unit: float | None = None
    memory_before_bytes: int | None = None
    memory_open_bytes: int | None = None
    first_byte: Spread | None = None
    event_delay: Spread | None = None


class Run:
    """One load under way. `measured` holds the calls of the window; the rest is warm-up."""

    def __init__(self, order: Order) -> None:
        script = parse(order.model)
        self.order = order
        self.load = order.load
        self.events = script.events if script is not None else 0
        self.gap_ms = script.gap_ms if script is not None else 0
        self.request = request_bytes(
            order.port,
            order.model,
            stream=self.events > 0,
            prompt_bytes=order.load.prompt_bytes,
            max_tokens=order.load.max_tokens,
            headers=order.headers,
            endpoint=order.load.endpoint,
        )
        self._end = ENDS["anthropic" if order.load.endpoint.startswith("messages") else "openai"]
        self.measured: list[Call] = []
        self.errors: list[str] = []
        self.idle: list[Connection] = []
        self.due: deque[int] = deque()
        self.begun = self.sent = self.completed = 0
        self.over = asyncio.Event()
        self.result = Result()
        self._all: list[Connection] = []
        self._window: tuple[int, int, int] | None = None
        self._has_closed = False

    async def play(self) -> Result:
        """Play the load and say what was seen."""
        shapes = {"closed": self._closed, "open": self._open, "streams": self._streams}
        try:
            async with asyncio.timeout(self.load.timeout_s):
                await self._connect()
                await shapes[self.load.shape]()
                await self.over.wait()
        except TimeoutError:
            self.errors.append(f"not done within {self.load.timeout_s:g} s: {self.completed} of {self._wanted} answers")
        except OSError as error:
            self.errors.append(f"can't connect: {error}")
        finally:
            for connection in self._all:
                connection.transport.abort()
        return self._concluded()

    @property
    def _wanted(self) -> int:
        return self.load.connections if self.load.shape == "streams" else self.load.warm + self.load.requests

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        if self.order.pid is not None:
            self.result.memory_before_bytes = memory_bytes(self.order.pid)
        while (missing := self.load.connections - len(self._all)) > 0:
            batch = [
                loop.create_connection(lambda: Connection(self._began, self._ended, self._end), "127.0.0.1", self.order.port)
                for _ in range(min(missing, _CONNECT_BATCH))
            ]
            self._all += [connection for _, connection in await asyncio.gather(*batch)]
        self.idle = list(self._all)

    async def _closed(self) -> None:
        if not self.load.warm:
            self._open_window()
        while self.idle:
            self._send(self.idle.pop(), time.monotonic_ns())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        chance = random.Random(_SEED)
        at_ns = time.monotonic_ns() + _LEAD_NS
        schedule = []
        for _ in range(self._wanted):
            at_ns += round(chance.expovariate(self.load.rate_per_s) * 1e9)
            schedule.append(at_ns)
        if not self.load.warm:
            self._open_window()

        if self.load.rate_per_s > _MANY_PER_S:
            self._arrive_by_ticks(deque(schedule))
            return

        def tick() -> None:  # a thread sleeps to the microsecond; the loop's own timers have steps of a millisecond
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                for due_ns in schedule:
                    time.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
                    loop.call_soon_threadsafe(self._arrive, due_ns)

        threading.Thread(target=tick, daemon=True).start()

    def _arrive_by_ticks(self, schedule: deque[int]) -> None:
        """All that are due, each millisecond: a thread for each of so many would cost more than the requests do."""
        now_ns = time.monotonic_ns()
        while schedule and schedule[0] <= now_ns:
            self._arrive(schedule.popleft())
        if schedule and not self.over.is_set():
            asyncio.get_running_loop().call_later(_TICK_S, self._arrive_by_ticks, schedule)

    def _arrive(self, due_ns: int) -> None:
        if self.idle:
            self._send(self.idle.pop(), due_ns)
        else:
            self.due.append(due_ns)

    async def _streams(self) -> None:
        for number, connection in enumerate(self.idle):
            self._send(connection, time.monotonic_ns())
            if number % _BEGIN_BATCH == _BEGIN_BATCH - 1:
                await asyncio.sleep(_BATCH_S)
        self.idle = []

    def _send(self, connection: Connection, due_ns: int) -> None:
        self.sent += 1
        connection.send(self.request, self.events, due_ns)

    def _began(self, connection: Connection) -> None:
        self.begun += 1
        if self.load.shape == "streams" and self.begun == self.load.connections:
            asyncio.get_running_loop().call_later(_SETTLE_S, self._open_window)

    def _ended(self, connection: Connection, call: Call) -> None:
        self.completed += 1
        if call.error is not None:
            self.errors.append(call.error)
            self.over.set()
            return
        if self.load.shape == "streams":
            self._stream_ended(call)
            return
        if self.over.is_set():
            return
        if self.completed > self.load.warm:
            self.measured.append(call)
        if self.completed == self.load.warm:
            self._open_window()
        if self.completed == self._wanted:
            self._close_window()
            self.over.set()
        elif self.load.shape == "open" and not self.due:
            self.idle.append(connection)
        elif self.load.shape == "open":
            self._send(connection, self.due.popleft())
        else:
            # On and on: as many are under way when the window ends as there were when it began.
            self._send(connection, time.monotonic_ns())

    def _stream_ended(self, call: Call) -> None:
        if self._window is None and not self.errors:
            self.errors.append("the first stream ended before the last one had begun: the script is too short")
        self._close_window()
        self.measured.append(call)
        if self.completed == self.load.connections:
            self.over.set()

    def _open_window(self) -> None:
        for connection in self._all:
            connection.begin_window()
        self._window = (time.monotonic_ns(), self._cpu_ns(), self._events())
        if self.load.shape == "streams" and self.load.window_s is not None:
            asyncio.get_running_loop().call_later(self.load.window_s, self._leave)

    def _leave(self) -> None:
        """The window's time is up: what the streams have brought until now is what was measured."""
        if not self._has_closed:
            self._close_window()
            self.measured += [call for connection in self._all if (call := connection.call) is not None]
            self.over.set()

    def _close_window(self) -> None:
        if self._window is None or self._has_closed:
            return
        self._has_closed = True
        now_ns, cpu, result = time.monotonic_ns(), self._cpu_ns(), self.result
        result.units = self._events() - self._window[2] if self.load.shape == "streams" else self.load.requests
        result.window_s = (now_ns - self._window[0]) / 1e9
        result.rate_per_s = result.units / max(result.window_s, 1e-9)
        if self.order.pid is not None:
            result.cpu_us_per_unit = (cpu - self._window[1]) / max(result.units, 1) / 1000
            result.memory_open_bytes = memory_bytes(self.order.pid)

    def _cpu_ns(self) -> int:
        return cpu_ns(self.order.pid) if self.order.pid is not None else 0

    def _events(self) -> int:
        return sum(connection.events_seen for connection in self._all) if self.events else 0

    def _expected(self) -> float:
        """How many events a stream's script sends in the window."""
        return self.load.connections * self.result.window_s / (self.gap_ms / 1000) if self.gap_ms else 0.0

    def _concluded(self) -> Result:
        if self.errors:
            return Result(failed=self.errors[0], errors=len(self.errors), requests=self.completed)
        if self.load.shape == "streams" and self.result.units < _KEEPS_UP * self._expected():
            reason = f"it falls behind: {self.result.units} of {self._expected():.0f} events came in the window"
            return Result(failed=reason, errors=1)
        if (self.result.cpu_us_per_unit or 0.0) < 0.0:
            return Result(failed="processes ended while they were measured", errors=1)
        self.result.requests = len(self.measured)
        self.result.first_byte = spread(call.first_ns - call.due_ns for call in self.measured)
        delays_ns = [delay for call in self.measured for delay in call.delays_ns[call.before_window :]]
        self.result.event_delay = spread(delays_ns) if delays_ns else None
        return self.result


async def play(order: Order) -> Result:
    """Play one load on the running loop."""
    return await Run(order).play()


if __name__ == "__main__":
    gc.disable()
    seen = uvloop.run(play(msgspec.json.decode(sys.argv[1], type=Order)))
    sys.stdout.write(msgspec.json.encode(seen).decode() + "\n")
