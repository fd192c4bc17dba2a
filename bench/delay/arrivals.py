"""Opens streams for a while, and writes when each of their events came, and how late.

    python -m bench.delay.arrivals JSON

Beside the streams it sends short requests at a rate, so that there is something to log and to charge. A mixed load has prompts
of 100 KB and of 1 MB among them, requests to be translated, and groups of callers who leave in the middle of a stream.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
from array import array
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import uvloop

from bench.client import Connection, Headers, RequestTiming, request_bytes
from bench.script import parse

_BATCH: Final = 50
_BATCH_S: Final = 0.01
_SETTLE_S: Final = 0.5
_SHORT_CONNECTIONS: Final = 8
_LEAVERS: Final = 50
_LEAVE_S: Final = 1.0
MIXED_MODELS: Final = ("short-in-anthropic",)


_C = TypeVar("_C", bound=Connection)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The streams to open at a port, the seconds to look at, and the file for what was seen."""

    port: int
    model: str
    streams: int
    seconds: float
    out: str
    headers: Headers = ()
    short_rate_per_s: float = 0.0
    is_mixed: bool = False


class Arrivals(msgspec.Struct, frozen=True):
    """The events of a task, in the order of their coming: the nanosecond at which each came, and its delay."""

    came_ns: array[int]
    delay_ns: array[int]

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(self.came_ns.tobytes() + self.delay_ns.tobytes())


def read(path: Path) -> Arrivals:
    """Read what a task has written."""
    data = path.read_bytes()
    came_ns, delay_ns = array("q"), array("q")
    came_ns.frombytes(data[: len(data) // 2])
    delay_ns.frombytes(data[len(data) // 2 :])
    return Arrivals(came_ns, delay_ns)


class _Stream(Connection):
    """A stream whose events are noted, each with its time."""

    seen: Arrivals

    def on_body(self, body: bytes) -> None:
        """Note the events of the block."""
        timing = self.timing
        if timing is None:
            return
        super().on_body(body)
        for delay in timing.delays_ns:
            self.seen.came_ns.append(self._now_ns)
            self.seen.delay_ns.append(delay)
        timing.delays_ns.clear()


class Watcher:
    """Runs one task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.seen = Arrivals(array("q"), array("q"))
        self.errors: list[str] = []
        self._idle: list[Connection] = []
        self._short = itertools.cycle(self._short_requests())

    async def run(self) -> None:
        """Open the streams, and watch them."""
        task = self._task
        script = parse(task.model)
        assert script is not None
        request = request_bytes(task.port, task.model, stream=True, headers=task.headers)
        connections = [await self._connect(_Stream) for _ in range(task.streams)]
        self._idle = [await self._connect(Connection) for _ in range(_SHORT_CONNECTIONS)]
        warm_up = Arrivals(array("q"), array("q"))
        for at, connection in enumerate(connections):
            connection.seen = warm_up
            connection.send(request, script.events, 0)
            if at % _BATCH == _BATCH - 1:
                await asyncio.sleep(_BATCH_S)
        others = [asyncio.create_task(self._send_short())]
        if task.is_mixed:
            others.append(asyncio.create_task(self._leave(request)))
        await asyncio.sleep(_SETTLE_S)
        for connection in connections:
            connection.seen = self.seen
        await asyncio.sleep(task.seconds)
        for other in others:
            other.cancel()
        for one in (*connections, *self._idle):
            one.timing = None
            one.transport.abort()

    async def _connect(self, kind: type[_C]) -> _C:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: kind(_ignore, self._on_end, b""), "127.0.0.1", self._task.port)
        return made

    def _on_end(self, connection: Connection, timing: RequestTiming) -> None:
        if timing.error is not None:
            self.errors.append(timing.error)
        else:
            self._idle.append(connection)

    def _short_requests(self) -> list[bytes]:
        """The requests beside the streams, in their order."""

        def of(model: str, prompt_bytes: int) -> bytes:
            return request_bytes(
                self._task.port, model, stream=False, prompt_bytes=prompt_bytes, headers=self._task.headers
            )  # fmt: skip

        short = of("short", 64)
        if not self._task.is_mixed:
            return [short]
        return [*[short] * 40, of("short", 100_000), *[of(model, 64) for model in MIXED_MODELS] * 5, of("short", 1_000_000)]

    async def _leave(self, request: bytes) -> None:
        """Have a group of callers begin streams, and leave together in the middle of them, again and again."""
        while True:
            group = [await self._connect(Connection) for _ in range(_LEAVERS)]
            for one in group:
                one.send(request, 0, 0)
            await asyncio.sleep(_LEAVE_S)
            for one in group:
                one.timing = None
                one.transport.abort()

    async def _send_short(self) -> None:
        """Send at the rate; a request that finds no idle connection is left out."""
        rate = self._task.short_rate_per_s
        while rate > 0:
            await asyncio.sleep(1 / rate)
            if self._idle:
                self._idle.pop().send(next(self._short), 0, 0)


def _ignore(_: Connection) -> None: ...


def main() -> int:
    """Run the task of the command line; returns the exit code."""
    task = msgspec.json.decode(sys.argv[1], type=Task)
    watcher = Watcher(task)
    uvloop.run(watcher.run())
    if watcher.errors:
        sys.stderr.write(f"{len(watcher.errors)} requests failed: {watcher.errors[0]}\n")
        return 1
    watcher.seen.save(Path(task.out))
    return 0


if __name__ == "__main__":
    gc.disable()
    sys.exit(main())
