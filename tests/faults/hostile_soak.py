"""Measures good callers without and with hostile ones beside them, by turns, and compares what the gateway holds at both ends.

The hostile callers are processes of the lowest priority, and the gateway has a core for itself where there are several: so they
compete for the gateway and hardly for the processor. On a core that it shares, a flood's ratio would be the scheduler's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.answer import ENDS
from bench.client import Connection, RequestTiming, request_bytes
from bench.harness import assign_cores, start_provider
from bench.histogram import LatencySummary, summarize
from bench.hostile.answers import ANSWERS
from bench.hostile.attack import start_hostile_provider
from bench.hostile.bodies import BODIES
from bench.processes import Process, preexec, raise_file_limit
from bench.results import Cores
from bench.systems.accounts import KEY
from bench.systems.contract import Deployment
from bench.systems.gateway import Gateway
from tests.faults.observed_gateway import State
from tests.processes import ROOT, free_port

STREAM, EVENTS = "stream-100-20ms-by-1ms", 100
SLOW_MODEL = "stream-5000-2ms-of-2000b"
STREAMS, SHORT, SHORT_PAUSE_S = 20, 4, 0.05
PHASE_S, WARM_UP_S, SETTLE_S, MAX_SETTLE_S = 30.0, 12.0, 3.0, 90.0
MAX_RATIO = 2.0
MAX_LATE_MS = 50.0
MAX_GROWTH_MIB = 64.0
KINDS = ("bodies", "answers", "connections")
LIMITS = {"head_timeout": "3s", "body_timeout": "3s", "write_timeout": "3s", "keep_alive": "5s", "max_connections": 2000}
HEADER = "| good callers (ms) | beside | p50 without | p50 with | p99 without | p99 with | ratio | max with |"
HELD = ("tasks", "sockets", "in_flight", "held", "buffered", "threads", "children", "waiting")


class Times:
    """The times of the good callers in the phases of one kind, in nanoseconds."""

    def __init__(self) -> None:
        self.first_bytes: list[int] = []
        self.lateness: list[int] = []
        self.gaps: list[int] = []
        self.errors: Counter[str] = Counter()

    def add(self, timing: RequestTiming) -> None:
        """Add the times of a request that has ended."""
        if timing.error is not None:
            self.errors[timing.error] += 1
            return
        self.first_bytes.append(timing.first_byte_ns - timing.due_ns)
        self.lateness += timing.delays_ns
        self.gaps += [abs(later - earlier) for earlier, later in itertools.pairwise(timing.delays_ns)]

    def summaries(self) -> dict[str, LatencySummary]:
        """The summaries by what is measured."""
        kinds = (("first byte", self.first_bytes), ("event, late by", self.lateness), ("event, jitter", self.gaps))
        return {name: summarize(values) for name, values in kinds if values}


class GoodCallers:
    """Good callers, who stream and ask without a pause. Their times go to `times`, if there are any."""

    def __init__(self, port: int) -> None:
        self._port = port
        headers = (("x-api-key", KEY),)
        self._stream = request_bytes(port, STREAM, stream=True, headers=headers)
        self._short = request_bytes(port, "short", stream=False, headers=headers)
        self._tasks: list[asyncio.Task[None]] = []
        self.times: Times | None = None

    def begin(self) -> None:
        """Begin to call."""
        kinds = [(self._stream, EVENTS, 0.0)] * STREAMS + [(self._short, 0, SHORT_PAUSE_S)] * SHORT
        self._tasks = [asyncio.ensure_future(self._call(*kind)) for kind in kinds]

    async def end(self) -> None:
        """Leave."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self, request: bytes, events: int, pause_s: float) -> None:
        ended: asyncio.Queue[RequestTiming] = asyncio.Queue()
        connection: Connection | None = None
        try:
            while True:
                if connection is None or connection.transport.is_closing():
                    _, connection = await asyncio.get_running_loop().create_connection(
                        lambda: Connection(lambda _: None, lambda _, done: ended.put_nowait(done), ENDS["openai"]),
                        "127.0.0.1", self._port,
                    )  # fmt: skip
                times = self.times
                connection.send(request, events, time.monotonic_ns())
                timing = await ended.get()
                if times is not None and (times is self.times or timing.error is not None):
                    times.add(timing)
                if timing.error is not None:
                    connection.transport.abort()
                    await asyncio.sleep(0.1)
                await asyncio.sleep(pause_s)
        finally:
            if connection is not None:
                connection.transport.abort()


class Observed:
    """A gateway in another process, which tells its state."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def state(self) -> State:
        """Its state. Raises RuntimeError if it has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        async with asyncio.timeout(MAX_SETTLE_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the gateway has died")
        return msgspec.json.decode(line, type=State)

    async def settled(self, like: State | None = None) -> State:
        """Its state once nobody is connected, and it holds no more than before; or the last one, after a while."""
        due = time.monotonic() + MAX_SETTLE_S
        while True:
            state = await self.state()
            if not (state.connections or state.in_flight or state.waiting) and (like is None or not grown(like, state)):
                return state
            if time.monotonic() > due:
                return state
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def observed(
    directory: Path, provider: int, hostile: int, limits: Mapping[str, object] = LIMITS, *, core: int | None = None
) -> AsyncIterator[Observed]:
    """A gateway in front of these two providers, on this core; 0 means that there is no hostile one."""
    deployment = Deployment(
        provider_port=provider, core=None, models=("short", "short-in-anthropic", STREAM, SLOW_MODEL), bytecode=directory,
        accounts=1, hostile_port=hostile, gateway={"limits": dict(limits)},
    )  # fmt: skip
    (file,) = map(Path, Gateway().prepare(directory, 0, deployment))
    document = json.loads(file.read_text())
    for entry in document["providers"]:
        entry |= {"keep_alive": "2s", "warm_connections": 0}
    file.write_text(json.dumps(document))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.observed_gateway", str(directory), cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(ROOT)])},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, preexec_fn=preexec(core),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Observed(process, int(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.contextmanager
def hostile_callers(directory: Path, port: int, phase: int, kinds: Iterable[str], core: int | None = None) -> Iterator[None]:
    """Hostile callers of these kinds during the block, on this core."""
    caller = [sys.executable, "-m", "bench.hostile.caller", str(port), KEY]
    commands = {
        "bodies": [*caller, "0.2", "10", *_rotated([*BODIES], phase)],
        "answers": [*caller, "0.2", "2", *_rotated([*ANSWERS], phase)],
        "connections": [sys.executable, "-m", "tests.faults.hostile_connections", str(port), KEY, SLOW_MODEL],
    }
    processes: dict[str, Process] = {}
    try:
        for name in kinds:
            processes[name] = Process(commands[name], directory / f"{name}-{phase}", core)
        yield
        for name, process in processes.items():
            if not process.is_alive():
                raise RuntimeError(f"the hostile {name} ended: {process.output_tail()}")
    finally:
        for process in processes.values():
            process.stop()


def _rotated(names: Sequence[str], by: int) -> list[str]:
    """The names from another one on, so that a short phase does not always reach the same ones."""
    at = by * 7 % len(names)
    return [*names[at:], *names[:at]]


def grown(before: State, after: State) -> list[str]:
    """The things of which the gateway holds more than before."""
    more = [name for name in HELD if getattr(after, name) > getattr(before, name)]
    return more + (["memory_mib"] if after.memory_mib > before.memory_mib + MAX_GROWTH_MIB else [])


class Result(NamedTuple):
    """The times without and with hostile callers, and the state of the gateway at both ends."""

    without: Times
    beside: Mapping[str, Times]  # by the kind of the hostile callers
    before: State
    after: State
    sent: Counter[str]


def endings(directory: Path) -> Counter[str]:
    """The number of hostile requests by name and ending."""
    lines = (line for file in directory.glob("*-[1-9]*") for line in file.read_text().splitlines())
    return Counter(line for line in lines if not line.endswith(": begun"))


async def measure(minutes: float, kinds: Sequence[str], cores: Cores) -> Result:
    """Run for so many minutes, half of them with hostile callers, one kind after the other. Raises RuntimeError if one ends."""
    phases = max(len(kinds), round(minutes * 60 / PHASE_S / 2))
    seconds = minutes * 60 / phases / 2
    without, beside = Times(), {kind: Times() for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ports = free_port(), free_port()
        processes: list[Process] = []
        try:
            processes.append(start_provider(directory / "provider", cores.provider, ports[0]))
            processes.append(start_hostile_provider(directory / "hostile-provider", cores.load, ports[1]))
            async with observed(directory, *ports, core=cores.system) as gateway:
                good = GoodCallers(gateway.port)
                good.begin()
                with hostile_callers(directory, gateway.port, 0, kinds, cores.load):
                    await asyncio.sleep(min(seconds, WARM_UP_S))
                await good.end()
                before = await gateway.settled()
                for phase in range(1, 2 * phases + 1):
                    good.begin()
                    await asyncio.sleep(SETTLE_S)
                    kind = kinds[phase // 2 % len(kinds)] if phase % 2 == 0 else None
                    good.times = without if kind is None else beside[kind]
                    with hostile_callers(directory, gateway.port, phase, [] if kind is None else [kind], cores.load):
                        await asyncio.sleep(seconds)
                        good.times = None
                    await asyncio.sleep(SETTLE_S)
                    await good.end()
                    _log(f"{phase} of {2 * phases} phases: {await gateway.state()}")
                after = await gateway.settled(before)
        finally:
            for process in processes:
                process.stop()
        return Result(without, beside, before, after, endings(directory))


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def broken_promises(result: Result) -> list[str]:
    """The promises that were not kept, in words.

    Misused connections cost nearly nothing, so p99 stays within `MAX_RATIO`. A hostile body or answer takes its share of the
    loop, as a good one of its size would; then no event is later than `MAX_LATE_MS`.
    """
    broken = [f"a good caller failed: {reason} ({count})" for reason, count in _errors(result).items()]
    without = result.without.summaries()
    for kind, times in result.beside.items():
        beside = times.summaries()
        for name, one in without.items():
            if name not in beside:
                broken.append(f"{name}, beside hostile {kind}: nothing was measured")
            elif kind == "connections" and beside[name].p99 > MAX_RATIO * one.p99:
                broken.append(f"{name}, beside hostile {kind}: p99 is more than {MAX_RATIO:g} x that without")
            elif kind != "connections" and beside[name].maximum > 1000 * MAX_LATE_MS:
                broken.append(f"{name}, beside hostile {kind}: more than {MAX_LATE_MS:g} ms")
    broken += [f"{name} is not back where it began" for name in grown(result.before, result.after)]
    return broken if without else [*broken, "no good caller was served"]


def _errors(result: Result) -> Counter[str]:
    return sum((times.errors for times in result.beside.values()), result.without.errors)


def times_table(without: Times, beside: Mapping[str, Times]) -> list[str]:
    """The lines of a table of the good callers' times, without and beside each kind of others."""
    lines = [HEADER, "|---|---|--:|--:|--:|--:|--:|--:|"]
    for name, one in without.summaries().items():
        for kind, times in beside.items():
            other = times.summaries().get(name)
            if other is not None:
                shown = (one.p50, other.p50, one.p99, other.p99)
                figures = [f"{value / 1000:.2f}" for value in shown]
                figures += [f"{other.p99 / one.p99:.2f}", f"{other.maximum / 1000:.1f}"]
                lines.append(f"| {name} ({other.count}) | {kind} | " + " | ".join(figures) + " |")
    return lines


def report(result: Result) -> str:
    """The tables, as Markdown."""
    lines = times_table(result.without, result.beside)
    lines += ["", "| held | at the beginning | at the end |", "|---|--:|--:|"]
    for name in State.__struct_fields__:
        lines.append(f"| {name} | {getattr(result.before, name)} | {getattr(result.after, name)} |")
    sent = ", ".join(f"{name} ({count})" for name, count in sorted(result.sent.items()))
    return "\n".join([*lines, "", f"hostile, and how each was answered: {sent}"])


async def main(minutes: float, kinds: Sequence[str]) -> int:
    """Run and print; returns 0 if every promise was kept."""
    raise_file_limit()
    cores = assign_cores(pin=True)
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    result = await measure(minutes, kinds, cores)
    print(report(result))
    broken = broken_promises(result)
    print("\n".join(broken) if broken else "every promise was kept")
    return int(bool(broken))
