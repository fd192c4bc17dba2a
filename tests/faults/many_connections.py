"""Measures good callers without and with thousands of idle connections beside them, and how much memory each of these takes.

    python -m tests.faults.many_connections PORT COUNT

opens so many, in a process of its own: every other one sends a request first, and the others the first byte of one. It writes
a line as soon as each of them was accepted or refused, and holds them until it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import uvloop

from bench.harness import start_provider
from bench.processes import raise_file_limit
from tests.faults.hostile_soak import MAX_RATIO, SETTLE_S, GoodCallers, Observed, Times, grown, observed, times_table
from tests.faults.observed_gateway import State
from tests.processes import ROOT, free_port

SPARE_FILES = 1000
"""Of the gateway and of each process here, beside the idle connections."""
REFUSED = 500
"""More than there are places for."""
AT_ONCE = 50
PHASE_S = 15.0
MAX_KIB = 16.0
IDLE_S, MAX_OPENING_S = "10m", 120.0
REFUSAL_S = 1.0
"""By then a refusal has come, also to who has not sent a whole request."""
LOWEST_PRIORITY = 19
HEALTH = b"GET /v1/health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


class Opened(msgspec.Struct, frozen=True):
    """The number of connections that are open, that got a 503, and that were closed without a word."""

    open: int
    refused: int
    closed: int


class Idle(asyncio.Protocol):
    """An idle connection. Its caller asks for the gateway's health, or begins to."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.status = ""
        self.is_closed = False
        self.answered = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the status of the first answer."""
        self.status = self.status or data[9:12].decode("latin-1")
        self.answered.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it was closed."""
        self.is_closed = True
        self.answered.set()

    def leave(self) -> None:
        """Close it without a word."""
        if self._transport is not None:
            self._transport.abort()


def _same(one: Idle) -> Idle:
    return one


async def hold(port: int, count: int) -> list[Idle]:
    """Open the connections, a few at once; returns them once those that asked were answered."""
    held: list[Idle] = []
    loop = asyncio.get_running_loop()
    for start in range(0, count, AT_ONCE):
        some = [Idle(HEALTH if number % 2 else HEALTH[:1]) for number in range(start, min(count, start + AT_ONCE))]
        await asyncio.gather(*(loop.create_connection(functools.partial(_same, one), "127.0.0.1", port) for one in some))
        await asyncio.gather(*(one.answered.wait() for one in some[1::2]))
        held += some
    return held


def opened(held: list[Idle]) -> Opened:
    """Counts the connections by their state."""
    refused = sum(one.status == "503" for one in held)
    return Opened(sum(not one.is_closed for one in held), refused, sum(one.is_closed and not one.status for one in held))


@contextlib.asynccontextmanager
async def idle_connections(port: int, count: int) -> AsyncIterator[asyncio.Future[Opened]]:
    """So many idle connections during the block. Yields the future of their number, which is known once all were tried."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.many_connections", str(port), str(count), cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(ROOT)])}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def read() -> Opened:
        assert process.stdout is not None
        async with asyncio.timeout(MAX_OPENING_S):
            return msgspec.json.decode(await process.stdout.readline(), type=Opened)

    reading = asyncio.ensure_future(read())
    try:
        yield reading
    finally:
        reading.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()


class Result(NamedTuple):
    """The times of good callers without and with idle connections, and afterwards; and the gateway's states.

    It was full twice. Memory that was freed is kept, so only the first time shows the memory of a connection, and only the
    second time shows growth.
    """

    without: Times
    beside: Times
    afterwards: Times
    places: int
    opened: Opened
    cold: State
    first: State
    before: State
    full: State
    after: State

    @property
    def kib_each(self) -> float:
        """The memory of an idle connection."""
        more = self.first.memory_mib - self.cold.memory_mib
        return more * 1024 / max(1, self.first.connections - self.cold.connections)


async def measure(places: int, seconds: float) -> Result:
    """Open a connection for each place, and some more. Raises RuntimeError if there are not enough descriptors."""
    limit, count = raise_file_limit(), places + REFUSED
    if limit < count + SPARE_FILES:
        raise RuntimeError(f"{places} connections need {count + SPARE_FILES} open files, and the limit is {limit}")
    limits = {"max_connections": places, "head_timeout": IDLE_S, "keep_alive": IDLE_S}
    without, beside, afterwards = Times(), Times(), Times()
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        provider = start_provider(directory / "provider", None, port)
        try:
            async with observed(directory, port, 0, limits) as gateway:
                good = GoodCallers(gateway.port)
                await _called(good, None, seconds)
                cold = await gateway.settled()
                async with idle_connections(gateway.port, count) as opening:
                    await opening
                    first = await _idle(gateway)
                before = await gateway.settled()
                await _called(good, without, seconds)
                good.begin()
                await asyncio.sleep(SETTLE_S)
                good.times = beside
                async with idle_connections(gateway.port, count) as opening:
                    await asyncio.sleep(seconds)
                    found = await opening
                    good.times = None
                    await good.end()
                    full = await _idle(gateway)
                await gateway.settled()
                await _called(good, afterwards, SETTLE_S)
                after = await gateway.settled(before)
        finally:
            provider.stop()
    return Result(without, beside, afterwards, places, found, cold, first, before, full, after)


async def _called(good: GoodCallers, times: Times | None, seconds: float) -> None:
    """Let the good callers call for a while."""
    good.begin()
    await asyncio.sleep(SETTLE_S)
    good.times = times
    await asyncio.sleep(seconds)
    good.times = None
    await good.end()


async def _idle(gateway: Observed) -> State:
    """The gateway's state once no request is in flight."""
    while (state := await gateway.state()).in_flight:
        await asyncio.sleep(0.1)
    return state


def broken_promises(result: Result) -> list[str]:
    """The promises that were not kept, in words."""
    found = result.opened
    errors = result.without.errors + result.beside.errors + result.afterwards.errors
    broken = [f"a good caller failed: {reason} ({count})" for reason, count in errors.items()]
    if not (result.without.first_bytes and result.afterwards.first_bytes):
        broken.append("no good caller was served")
    without, beside = result.without.summaries(), result.beside.summaries()
    for name, one in without.items():
        if name not in beside or beside[name].p99 > MAX_RATIO * one.p99:
            broken.append(f"{name}: p99 is more than {MAX_RATIO:g} x that without idle connections")
    if result.full.connections > result.places:
        broken.append(f"there were {result.full.connections} connections, and {result.places} places")
    if found.open != result.full.connections:
        broken.append(f"{found.open} connections stayed open, and the gateway knows {result.full.connections}")
    if found.refused + found.closed < REFUSED:
        broken.append(f"{found.refused + found.closed} connections were refused, and {REFUSED} were too many")
    if result.kib_each > MAX_KIB:
        broken.append(f"an idle connection takes {result.kib_each:.1f} KiB, more than {MAX_KIB:g}")
    return broken + [f"{name} is not back where it began" for name in grown(result.before, result.after)]


def report(result: Result) -> str:
    """The tables, as Markdown."""
    found = result.opened
    lines = times_table(result.without, {"idle": result.beside})
    lines += ["", "| held | cold | full | at the beginning | full again | at the end |", "|---|--:|--:|--:|--:|--:|"]
    for name in State.__struct_fields__:
        values = (getattr(state, name) for state in result[5:])
        lines.append(f"| {name} | " + " | ".join(map(str, values)) + " |")
    lines += [
        "",
        f"{result.places} places: {found.open} connections stayed open, {found.refused} got a 503, "
        f"{found.closed} were closed without a word; {result.kib_each:.1f} KiB for each idle one",
    ]
    return "\n".join(lines)


async def main(places: int, seconds: float = PHASE_S) -> int:
    """Run and print; returns 0 if every promise was kept."""
    result = await measure(places, seconds)
    print(report(result))
    broken = broken_promises(result)
    print("\n".join(broken) if broken else "every promise was kept")
    return int(bool(broken))


async def _hold_until_ended(port: int, count: int) -> None:
    held = await hold(port, count)
    await asyncio.sleep(REFUSAL_S)
    print(msgspec.json.encode(opened(held)).decode(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    os.nice(LOWEST_PRIORITY)
    raise_file_limit()
    uvloop.run(_hold_until_ended(int(sys.argv[1]), int(sys.argv[2])))
