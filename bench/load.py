"""The load generator: it sends one load, measures from outside, and prints what it saw as JSON.

A load has one of three shapes. `closed`: so many connections, each sends its next request when it has its answer.
`open`: requests come on a schedule, and their time counts from when they were due, whoever is late. `streams`: so many
streamed answers at once; what is measured lies between the last one's beginning, and a moment to settle, and the
first one's end.
Anything wrong (a status, a cut or short stream, a time-out) makes the result `failed`, with the reason and no figures.

    python -m bench.load '{"shape": "closed", "port": 8080, "model": "short", "connections": 32, "requests": 1000}'
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
import threading
import time
from typing import Final, Literal

import msgspec
import uvloop

from bench.client import Call, Connection, request_bytes
from bench.processes import cpu_ns, memory_bytes
from bench.report import Spread, spread
from bench.script import parse

_CONNECT_BATCH: Final = 100
_BEGIN_BATCH: Final = 50
_BATCH_S: Final = 0.005
_LEAD_NS: Final = 20_000_000
_SETTLE_S: Final = 0.1
_SEED: Final = 1


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. `pid` is the process whose processor time and memory are read at the window's two ends."""

    shape: Literal["closed", "open", "streams"]
    port: int
    model: str
    connections: int
    requests: int = 0
    warm: int = 0
    rate_per_s: float = 0.0
    prompt_bytes: int = 64
    timeout_s: float = 30.0
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
    first_byte_us: Spread | None = None
    event_delay_us: Spread | None = None


class Run:
    """One load under way. `measured` holds the calls of the window; the rest is warm-up."""

    def __init__(self, load: Load) -> None:
        script = parse(load.model)
        self.load = load
        self.events = script.events if script is not None else 0
        self.request = request_bytes(load.port, load.model, stream=self.events > 0, prompt_bytes=load.prompt_bytes)
        self.measured: list[Call] = []
        self.errors: list[str] = []
        self.idle: list[Connection] = []
        self.due: list[int] = []
        self.begun = self.sent = self.completed = 0
        self.over = asyncio.Event()
        self.result = Result()
        self._all: list[Connection] = []
        self._window: tuple[int, int, int] | None = None

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
        if self.load.pid is not None:
            self.result.memory_before_bytes = memory_bytes(self.load.pid)
        while (missing := self.load.connections - len(self._all)) > 0:
            batch = [
                loop.create_connection(lambda: Connection(self._began, self._ended), "127.0.0.1", self.load.port)
                for _ in range(min(missing, _CONNECT_BATCH))
            ]
            self._all += [connection for _, connection in await asyncio.gather(*batch)]
        self.idle = list(self._all)

    async def _closed(self) -> None:
        if not self.load.warm:
            self._open_window()
        while self.idle and self.sent < self._wanted:
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

        def tick() -> None:  # a thread sleeps to the microsecond; the loop's own timers have steps of a millisecond
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                for due_ns in schedule:
                    time.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
                    loop.call_soon_threadsafe(self._arrive, due_ns)

        threading.Thread(target=tick, daemon=True).start()

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
        if self.load.shape == "streams":
            self._stream_ended(call)
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
            self._send(connection, self.due.pop(0))
        elif self.sent < self._wanted:
            self._send(connection, time.monotonic_ns())

    def _stream_ended(self, call: Call) -> None:
        if not self.measured:
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

    def _close_window(self) -> None:
        if self._window is None:
            return
        now_ns, cpu, result = time.monotonic_ns(), self._cpu_ns(), self.result
        result.units = self._events() - self._window[2] if self.load.shape == "streams" else self.load.requests
        result.window_s = (now_ns - self._window[0]) / 1e9
        result.rate_per_s = result.units / max(result.window_s, 1e-9)
        if self.load.pid is not None:
            result.cpu_us_per_unit = (cpu - self._window[1]) / max(result.units, 1) / 1000
            result.memory_open_bytes = memory_bytes(self.load.pid)

    def _cpu_ns(self) -> int:
        return cpu_ns(self.load.pid) if self.load.pid is not None else 0

    def _events(self) -> int:
        return sum(connection.events_seen for connection in self._all) if self.events else 0

    def _concluded(self) -> Result:
        if self.errors:
            return Result(failed=self.errors[0], errors=len(self.errors), requests=self.completed)
        self.result.requests = len(self.measured)
        self.result.first_byte_us = spread([(call.first_ns - call.due_ns) / 1000 for call in self.measured])
        delays_us = [delay / 1000 for call in self.measured for delay in call.delays_ns[call.before_window :]]
        self.result.event_delay_us = spread(delays_us) if delays_us else None
        return self.result


async def play(load: Load) -> Result:
    """Play one load on the running loop."""
    return await Run(load).play()


if __name__ == "__main__":
    gc.disable()
    seen = uvloop.run(play(msgspec.json.decode(sys.argv[1], type=Load)))
    sys.stdout.write(msgspec.json.encode(seen).decode() + "\n")
