"""What image jobs cost: how soon one is taken in, what one weighs while it is under way, and what streams notice of a thousand.

    python -m bench.jobs [--seconds 20] [--rounds 5]

The figures are of the installed gateway, over loopback, with accounts: a job is on disk before it is acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.client import request_bytes
from bench.load import Order, Result
from bench.processes import Process, answers, cpu_ns, free_port, memory_bytes
from bench.scenario import Load
from bench.systems.contract import Place
from bench.systems.gateway import Gateway
from bench.systems.target import Target, start
from bench.systems.till import KEY

_RATE_PER_S: Final = 200
_JOBS: Final = 1000
_AT_ONCE: Final = 50
_CONNECTIONS: Final = 64
_MUST_MS: Final = 5.0
_MUST_KIB: Final = 8.0
_STREAM: Final = "stream-200-10ms-by-1ms"
_QUICK_S: Final = 2.0
_SLOW_S: Final = 240.0
_PLACES: Final = {"image_concurrent": 20_000, "image_queue": 20_000}
_NEVER_MET: Final = dict.fromkeys(("rpm", "per_model_rpm", "tpm", "max_request_tokens"), 10**12)


class Caller:
    """Connections over which jobs are handed in."""

    def __init__(self, port: int, model: str) -> None:
        body = json.dumps({"model": model, "prompt": "A lighthouse at dusk, in oil"}).encode()
        self._request = (
            b"POST /v1/images/generations HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
        )
        self._port = port
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self, connections: int) -> None:
        """Connect."""
        for _ in range(connections):
            self._idle.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    def borrow(self, other: Caller) -> None:
        """Use the connections of another."""
        self._idle = other._idle

    async def submit(self, due: float) -> float:
        """Hand a job in that was due at this moment; how many seconds later it is acknowledged. Raises RuntimeError."""
        reader, writer = await self._idle.get()
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        took = time.monotonic() - due
        self._idle.put_nowait((reader, writer))
        if b" 202 " not in head[:20]:
            raise RuntimeError(f"a job was not taken in: {body[:200]!r}")
        return took


async def submissions(port: int, seconds: float) -> list[float]:
    """How soon jobs are taken in that come at a steady rate, in seconds."""
    caller = Caller(port, "quick")
    await caller.open(_CONNECTIONS)
    loop, tasks = asyncio.get_running_loop(), []
    began = time.monotonic() + 0.1
    for at in range(round(_RATE_PER_S * seconds)):
        due = began + at / _RATE_PER_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(loop.create_task(caller.submit(due)))
    return sorted(await asyncio.gather(*tasks))


async def fill(port: int, model: str, count: int, look: Callable[[], None] = lambda: None) -> None:
    """Have so many jobs under way; `look` is called before, when all connections have been used, and after."""
    warm, caller = Caller(port, "quick"), Caller(port, model)
    await warm.open(_AT_ONCE)
    await asyncio.gather(*(warm.submit(time.monotonic()) for _ in range(2 * _AT_ONCE)))
    caller.borrow(warm)
    await asyncio.sleep(_QUICK_S + 1.0)
    look()
    for _ in range(0, count, _AT_ONCE):
        await asyncio.gather(*(caller.submit(time.monotonic()) for _ in range(_AT_ONCE)))
    await asyncio.sleep(1.0)
    look()


def streams(target: Target) -> Result:
    """A hundred streams through the gateway."""
    load = Load(shape="streams", connections=100, window_s=1.2)
    order = Order(load=load, port=target.port, model=_STREAM, headers=target.headers, pid=target.pid)
    line = [sys.executable, "-m", "bench.load", msgspec.json.encode(order).decode()]
    done = subprocess.run(line, capture_output=True, check=True, preexec_fn=_on_other_core)
    result = msgspec.json.decode(done.stdout, type=Result)
    if result.failed:
        raise RuntimeError(f"the streams failed: {result.failed}")
    return result


def _on_other_core() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _document(provider: int, quick: int, slow: int) -> dict[str, Any]:
    def source(name: str, port: int, dialect: str) -> dict[str, Any]:
        return {"name": name, "base_url": f"http://127.0.0.1:{port}", "dialect": dialect, "api_key": "bench"}

    def model(name: str, source: str) -> dict[str, Any]:
        pool = [{"provider": source, "model": "owner/app/v1", "timeouts": {"first_byte": "300s"}}]
        return {"id": name, "output_modalities": ["image"], "price": {"image": 0.05}, "pool": pool}

    return {
        "providers": [
            {"name": "bench", "base_url": f"http://127.0.0.1:{provider}/v1", "dialect": "openai", "api_key": "bench"},
            source("quick", quick, "fal_queue"), source("slow", slow, "fal_queue"), source("at-once", slow, "openai_images"),
        ],
        "models": [
            *({"id": one, "pool": [{"provider": "bench", "model": one}]} for one in ("short", _STREAM)),
            model("quick", "quick"), model("slow", "slow"), model("at-once", "at-once"),
        ],
        "fallbacks": {},
        "tiers": [{"tier": 0, "min_purchased": 0, **_NEVER_MET, **_PLACES}],
    }  # fmt: skip


class Bench:
    """The providers, and gateways in front of them."""

    def __init__(self, home: Path) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._core: int | None = cores[0] if len(cores) > 1 else None
        other = cores[-1] if len(cores) > 1 else None
        self._home = home
        self._ports = [free_port() for _ in range(3)]
        text, quick, slow = self._ports
        lines = (("bench.provider", text), ("bench.image_provider", quick, _QUICK_S), ("bench.image_provider", slow, _SLOW_S))
        self._providers = [
            Process([sys.executable, "-m", *map(str, line)], home / f"provider-{at}", other) for at, line in enumerate(lines)
        ]
        self._providers[0].wait_until(lambda: answers(self._ports[0], request_bytes(self._ports[0], "short", stream=False)))

    @contextmanager
    def gateway(self) -> Iterator[Target]:
        """One that has just been started."""
        place = Place(
            provider_port=self._ports[0], core=self._core, models=("short", _STREAM), bytecode=self._home, accounts=1,
            gateway=_document(*self._ports),
        )  # fmt: skip
        target = start(Gateway(), place)
        try:
            yield target
        finally:
            target.stop()

    def stop(self) -> None:
        """End the providers."""
        for provider in self._providers:
            provider.stop()


def taken_in(bench: Bench, seconds: float) -> bool:
    """Print how soon jobs are taken in; whether that is soon enough."""
    with bench.gateway() as target:
        assert target.pid is not None
        before = cpu_ns(target.pid)
        times = asyncio.run(submissions(target.port, seconds))
        cpu_us = (cpu_ns(target.pid) - before) / 1e3 / len(times)
    p50, p99 = (times[len(times) * share // 100] * 1e3 for share in (50, 99))
    most = times[-1] * 1e3
    print(f"{len(times)} jobs at {_RATE_PER_S}/s: taken in after {p50:.2f} ms (p50), {p99:.2f} ms (p99), {most:.1f} ms (most)")
    print(f"a job of {_QUICK_S:g} s costs {cpu_us:.0f} µs of processor time until it is taken in, and looked at")
    return p99 <= _MUST_MS


def weight(bench: Bench, model: str) -> bool:
    """Print what a job under way weighs; whether that is little enough."""
    with bench.gateway() as target:
        pid = target.pid
        assert pid is not None
        seen: list[int] = []
        asyncio.run(fill(target.port, model, _JOBS, lambda: seen.append(memory_bytes(pid))))
        kib = (seen[1] - seen[0]) / 1024 / _JOBS
    print(f"{_JOBS} jobs under way ({model}): {kib:.1f} KiB each")
    return kib <= _MUST_KIB


def beside_streams(bench: Bench, rounds: int) -> None:
    """Print what a hundred streams cost and how late their events are, with jobs under way and without."""
    seen: dict[str, list[Result]] = {"without jobs": [], f"with {_JOBS} jobs": []}
    for _ in range(rounds):
        for at, found in enumerate(seen.values()):
            with bench.gateway() as target:
                streams(target)
                if at:
                    asyncio.run(fill(target.port, "slow", _JOBS))
                found.append(streams(target))
    for what, found in seen.items():
        cpu = statistics.median(one.cpu_us_per_unit or 0.0 for one in found)
        delays = [one.event_delay for one in found if one.event_delay is not None]
        p50, p99 = (statistics.median(getattr(one, name) for one in delays) for name in ("p50", "p99"))
        print(f"100 streams {what}: {cpu:.1f} µs of processor time an event, delay p50 {p50:.0f} µs, p99 {p99:.0f} µs")


def main() -> int:
    """Measure and print; returns the exit code, 1 where a must is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long jobs come in (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="of streams, with jobs and without (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobs-") as home:
        bench = Bench(Path(home))
        try:
            kept = [taken_in(bench, options.seconds), weight(bench, "slow"), weight(bench, "at-once")]
            beside_streams(bench, options.rounds)
        finally:
            bench.stop()
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
