"""Measures replacements: a gateway's process gives way to another again and again, under 10-second streams and short requests.

    python -m bench.replacements [--replacements 20] [--rate 200] [--streams 50] [--accounts 1] [--tree]

Every other short request has a connection of its own. Nobody may be refused, no stream may be cut: then the exit code is 0. The
delays of the streams' events and the times to the first byte of the short requests are compared with those of the same traffic
before, in which nothing is replaced. Everything runs on the same processors, so the starting processes are part of the delay.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import uvloop

from bench.answer import ENDS
from bench.client import Connection, Headers, RequestTiming, request_bytes
from bench.harness import start_provider
from bench.histogram import LatencySummary, summarize
from bench.processes import Process, free_port, is_answering, raise_file_limit
from bench.systems.contract import Deployment
from bench.systems.gateway import INTERPRETED, Gateway
from bench.systems.target import start

_STREAM: Final = "stream-200-50ms-by-1ms"
_EVENTS: Final = 200
_KEPT: Final = 10
_TICK_S: Final = 0.001
_PATIENCE_S: Final = 60.0
_REST_S: Final = 0.5


class Traffic:
    """Streams, one after the other on each of some connections, and short requests at a constant rate."""

    def __init__(self, port: int, headers: Headers) -> None:
        self._port = port
        self._stream = request_bytes(port, _STREAM, stream=True, headers=headers)
        self._short = request_bytes(port, "short", stream=False, headers=headers)
        self._is_over = False
        self._running = 0
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self.errors: Counter[str] = Counter()
        self.streams: list[RequestTiming] = []
        self.requests: list[RequestTiming] = []

    async def run(self, streams: int, rate_per_s: float, during: Callable[[], asyncio.Future[None]]) -> None:
        """Run for as long as `during` takes, and then until every request has its answer."""
        kept = [await self._connect(self._end_stream) for _ in range(streams)]
        self._idle = [await self._connect(self._end_kept) for _ in range(_KEPT)]
        everything = [*kept, *self._idle]
        for at, connection in enumerate(kept):
            self._send_stream(connection)
            if at % 10 == 9:
                await asyncio.sleep(0.05)
        arrivals = asyncio.ensure_future(self._arrive(rate_per_s))
        await during()
        self._is_over = True
        await arrivals
        async with asyncio.timeout(_PATIENCE_S):
            while self._running or self._opening:
                await asyncio.sleep(0.02)
        for connection in everything:
            connection.transport.abort()

    async def _connect(self, on_end: Callable[[Connection, RequestTiming], None]) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(lambda _: None, on_end, ENDS["openai"]), "127.0.0.1", self._port
        )
        return connection

    def _send_stream(self, connection: Connection) -> None:
        self._running += 1
        connection.send(self._stream, _EVENTS, time.monotonic_ns())

    def _end_stream(self, connection: Connection, timing: RequestTiming) -> None:
        self._note("stream", timing, self.streams)
        if not self._is_over and timing.error is None:
            self._send_stream(connection)

    async def _arrive(self, rate_per_s: float) -> None:
        start_ns, interval_ns = time.monotonic_ns(), 1e9 / rate_per_s
        for number in itertools.count():
            due_ns = start_ns + round(number * interval_ns)
            while time.monotonic_ns() < due_ns:
                await asyncio.sleep(_TICK_S)
            if self._is_over:
                return
            self._running += 1
            if number % 2 and self._idle:
                self._idle.pop().send(self._short, 0, due_ns)
            else:
                task = asyncio.ensure_future(self._send_fresh(due_ns))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    async def _send_fresh(self, due_ns: int) -> None:
        try:
            connection = await self._connect(self._end_fresh)
        except OSError as error:
            self._running -= 1
            self.errors[f"request: refused: {error.strerror}"] += 1
            return
        connection.send(self._short, 0, due_ns)

    def _end_fresh(self, connection: Connection, timing: RequestTiming) -> None:
        self._note("request", timing, self.requests)
        connection.transport.close()

    def _end_kept(self, connection: Connection, timing: RequestTiming) -> None:
        self._note("request", timing, self.requests)
        if timing.error is None:
            self._idle.append(connection)

    def _note(self, kind: str, timing: RequestTiming, measured: list[RequestTiming]) -> None:
        self._running -= 1
        if timing.error is None:
            measured.append(timing)
        else:
            self.errors[f"{kind}: {timing.error}"] += 1

    def delays(self) -> LatencySummary:
        """The delays of all events."""
        return summarize(delay for timing in self.streams for delay in timing.delays_ns)

    def first_bytes(self) -> LatencySummary:
        """The times to the first byte of the short requests."""
        return summarize(timing.first_byte_ns - timing.due_ns for timing in self.requests)


class Place:
    """The address at which one gateway serves after the other."""

    def __init__(self, system: Gateway, deployment: Deployment) -> None:
        self._system, self._deployment = system, deployment
        target = start(system, deployment)
        assert target.process is not None
        assert target.home is not None
        self._target, self._home = target, target.home
        self.port, self.headers = target.port, target.headers
        self._processes = [target.process]
        self.took_s: list[float] = []

    async def replace(self) -> None:
        """Start a process that takes the place of the one that serves; returns once it serves. Raises RuntimeError."""
        log = self._home / f"output-{len(self._processes)}"
        line = [*(self._system.command() or ()), str(self._home / "gateway.yaml"), "--replace"]
        process = Process(line, log, self._deployment.core, self._system.environment(self._deployment))
        self._processes.append(process)
        due = time.monotonic() + _PATIENCE_S
        while b" serves " not in log.read_bytes():
            if not process.is_alive() or time.monotonic() > due:
                raise RuntimeError(f"a process does not take the place of another: {process.output_tail()}")
            await asyncio.sleep(0.01)
        self.took_s.append(process.age_s())

    def left(self) -> int:
        """The number of processes that were replaced and have not ended, although nobody is served by them any more."""
        return sum(not process.ends_within(5.0) for process in self._processes[:-1])

    def stop(self) -> None:
        """End all of them."""
        for process in self._processes[1:]:
            process.stop()
        self._target.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code: 1 if somebody was refused or cut, or an old process stays."""
    parser = argparse.ArgumentParser(prog="python -m bench.replacements", description=__doc__.partition("\n")[0])
    parser.add_argument("--replacements", type=int, default=20, help="how often (default: 20)")
    parser.add_argument("--rate", type=float, default=200.0, help="short requests a second (default: 200)")
    parser.add_argument("--streams", type=int, default=50, help="streams of 10 seconds at once (default: 50)")
    parser.add_argument("--accounts", type=int, default=0, help="callers have keys, of so many accounts (default: none)")
    parser.add_argument("--tree", action="store_true", help="the gateway as it is in this tree, not compiled")
    options = parser.parse_args(arguments)
    raise_file_limit()
    gc.disable()
    with tempfile.TemporaryDirectory(prefix="replacements-") as home:
        os.environ["XDG_RUNTIME_DIR"] = home
        port = free_port()
        provider, place = start_provider(Path(home) / "provider", None, port), None
        deployment = Deployment(
            provider_port=port, core=None, models=("short", _STREAM), bytecode=Path(home), accounts=options.accounts
        )
        try:
            place = Place(INTERPRETED if options.tree else Gateway(), deployment)
            assert is_answering(place.port, request_bytes(place.port, "short", stream=False, headers=place.headers))
            return uvloop.run(_measure(place, options))
        finally:
            if place is not None:
                place.stop()
            provider.stop()


async def _measure(place: Place, options: argparse.Namespace) -> int:
    quiet, busy = Traffic(place.port, place.headers), Traffic(place.port, place.headers)

    async def replace_all() -> None:
        for _ in range(options.replacements):
            await asyncio.sleep(_REST_S)
            await place.replace()

    started = time.monotonic()
    await quiet.run(options.streams, options.rate, lambda: asyncio.ensure_future(asyncio.sleep(max(5.0, options.replacements))))
    await busy.run(options.streams, options.rate, lambda: asyncio.ensure_future(replace_all()))
    left = place.left()
    took = sorted(place.took_s)
    print(
        f"{options.replacements} replacements, {options.streams} streams of 10 s, {options.rate:g} requests a second"
        + (f", {options.accounts} accounts" if options.accounts else "")
        + f": {time.monotonic() - started:.0f} s"
    )
    print(
        f"{len(busy.streams)} streams whole, {len(busy.requests)} requests answered, {busy.errors.total()} refused or cut; "
        f"a new process serves after {took[len(took) // 2]:.2f} s ({took[0]:.2f} to {took[-1]:.2f})"
    )
    for name, before, after in (
        ("delay of an event", quiet.delays(), busy.delays()),
        ("first byte of a short request", quiet.first_bytes(), busy.first_bytes()),
    ):  # fmt: skip
        print(
            f"{name}, ms: {_figures(before)} without, {_figures(after)} with replacements "
            f"(99th percentile × {after.p99 / before.p99:.2f})"
        )
    for error, count in (quiet.errors + busy.errors).most_common(10):
        print(f"{count} × {error}")
    if left:
        print(f"{left} processes that were replaced have not ended")
    return int(bool(left or quiet.errors or busy.errors))


def _figures(found: LatencySummary) -> str:
    return f"{found.p50 / 1000:.2f} / {found.p99 / 1000:.2f} / {found.maximum / 1000:.1f}"


if __name__ == "__main__":
    sys.exit(main())
