"""Measures image jobs: the time until one is accepted, its memory while it runs, and the effect of a thousand on streams.

    python -m bench.jobs [--seconds 20] [--rounds 5]

The figures are of the installed gateway, over loopback, with accounts: a job is on disk before it is acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.harness import generate_load, start_provider
from bench.load import LoadResult, Workload
from bench.processes import Process, cpu_ns, free_port, memory_bytes
from bench.scenario import Load
from bench.systems.accounts import KEY, UNLIMITED_TIER
from bench.systems.contract import Deployment
from bench.systems.gateway import Gateway
from bench.systems.target import Target, start

_RATE_PER_S: Final = 200
_JOBS: Final = 1000
_BATCH: Final = 50
_CONNECTIONS: Final = 64
_MAX_P99_MS: Final = 5.0
_MAX_JOB_KIB: Final = 8.0
_STREAM: Final = "stream-200-10ms-by-1ms"
_QUICK_S: Final = 2.0
_SLOW_S: Final = 240.0
_TIER: Final = {**UNLIMITED_TIER, "image_concurrent": 20_000, "image_queue": 20_000}


class JobClient:
    """Submits jobs over a fixed set of connections."""

    def __init__(self, port: int, model: str) -> None:
        body = json.dumps({"model": model, "prompt": "A lighthouse at dusk, in oil"}).encode()
        self._request = (
            b"POST /v1/images/generations HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
        )
        self._port = port
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self, connections: int) -> None:
        """Open the connections."""
        for _ in range(connections):
            self._idle.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    def share_connections(self, other: JobClient) -> None:
        """Use the connections of another client."""
        self._idle = other._idle

    async def submit(self, due: float) -> float:
        """Submit a job that was due at this time; returns the seconds until it is acknowledged. Raises RuntimeError."""
        reader, writer = await self._idle.get()
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        took = time.monotonic() - due
        self._idle.put_nowait((reader, writer))
        if b" 202 " not in head[:20]:
            raise RuntimeError(f"a job was not accepted: {body[:200]!r}")
        return took


async def submission_times(port: int, seconds: float) -> list[float]:
    """Submit jobs at a steady rate; returns the sorted seconds until each is acknowledged, from its scheduled time."""
    client = JobClient(port, "quick")
    await client.open(_CONNECTIONS)
    loop, tasks = asyncio.get_running_loop(), []
    start_s = time.monotonic() + 0.1
    for at in range(round(_RATE_PER_S * seconds)):
        due = start_s + at / _RATE_PER_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(loop.create_task(client.submit(due)))
    return sorted(await asyncio.gather(*tasks))


async def start_jobs(port: int, model: str, count: int, measure: Callable[[], None] = lambda: None) -> None:
    """Start jobs that keep running. `measure` is called after the warm-up of all connections, and when all jobs run."""
    warm_up, client = JobClient(port, "quick"), JobClient(port, model)
    await warm_up.open(_BATCH)
    await asyncio.gather(*(warm_up.submit(time.monotonic()) for _ in range(2 * _BATCH)))
    client.share_connections(warm_up)
    await asyncio.sleep(_QUICK_S + 1.0)
    measure()
    for _ in range(0, count, _BATCH):
        await asyncio.gather(*(client.submit(time.monotonic()) for _ in range(_BATCH)))
    await asyncio.sleep(1.0)
    measure()


def measure_streams(target: Target, core: int | None) -> LoadResult:
    """Measure a hundred streams through the gateway. Raises RuntimeError."""
    load = Load(shape="streams", connections=100, window_s=1.2)
    result = generate_load(Workload(load=load, port=target.port, model=_STREAM, headers=target.headers, pid=target.pid), core)
    if result.failed:
        raise RuntimeError(f"the streams failed: {result.failed}")
    return result


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
        "tiers": [_TIER],
    }  # fmt: skip


class Harness:
    """The providers, and gateways in front of them. The gateway has a core for itself, if there are two."""

    def __init__(self, home: Path) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._core: int | None = cores[0] if len(cores) > 1 else None
        self.load_core = cores[-1] if len(cores) > 1 else None
        self._home = home
        self._ports = [free_port() for _ in range(3)]
        self._providers: list[Process] = []

    def start(self) -> None:
        """Start the providers. Raises RuntimeError."""
        text, quick, slow = self._ports
        for port, seconds in ((quick, _QUICK_S), (slow, _SLOW_S)):
            command = [sys.executable, "-m", "bench.image_provider", str(port), str(seconds)]
            self._providers.append(Process(command, self._home / f"provider-{port}", self.load_core))
        self._providers.append(start_provider(self._home / "provider", self.load_core, text))

    @contextmanager
    def gateway(self) -> Iterator[Target]:
        """A gateway that has just been started."""
        deployment = Deployment(
            provider_port=self._ports[0], core=self._core, models=("short", _STREAM), bytecode=self._home, accounts=1,
            gateway=_document(*self._ports),
        )  # fmt: skip
        target = start(Gateway(), deployment)
        try:
            yield target
        finally:
            target.stop()

    def stop(self) -> None:
        """End the providers."""
        for provider in self._providers:
            provider.stop()


def measure_submission(harness: Harness, seconds: float) -> bool:
    """Print the time until jobs are accepted; returns True if its p99 is within the limit."""
    with harness.gateway() as target:
        assert target.pid is not None
        cpu_before_ns = cpu_ns(target.pid)
        times = asyncio.run(submission_times(target.port, seconds))
        cpu_us = (cpu_ns(target.pid) - cpu_before_ns) / 1e3 / len(times)
    p50, p99 = (times[len(times) * percent // 100] * 1e3 for percent in (50, 99))
    max_ms = times[-1] * 1e3
    figures = f"{p50:.2f} ms (median), {p99:.2f} ms (99th percentile), {max_ms:.1f} ms (longest)"
    print(f"{len(times)} jobs at {_RATE_PER_S}/s: accepted after {figures}")
    print(f"a job of {_QUICK_S:g} s costs {cpu_us:.0f} µs of CPU time, from its submission to its polling")
    return p99 <= _MAX_P99_MS


def measure_memory(harness: Harness, model: str) -> bool:
    """Print the memory of a running job; returns True if it is within the limit."""
    with harness.gateway() as target:
        pid = target.pid
        assert pid is not None
        memory: list[int] = []
        asyncio.run(start_jobs(target.port, model, _JOBS, lambda: memory.append(memory_bytes(pid))))
        kib = (memory[1] - memory[0]) / 1024 / _JOBS
    print(f"{_JOBS} running jobs ({model}): {kib:.1f} KiB each")
    return kib <= _MAX_JOB_KIB


def measure_beside_streams(harness: Harness, rounds: int) -> None:
    """Print the CPU time and the delay of the events of a hundred streams, with running jobs and without."""
    results: dict[str, list[LoadResult]] = {"without jobs": [], f"with {_JOBS} jobs": []}
    for _ in range(rounds):
        for with_jobs, samples in enumerate(results.values()):
            with harness.gateway() as target:
                measure_streams(target, harness.load_core)  # the warm-up
                if with_jobs:
                    asyncio.run(start_jobs(target.port, "slow", _JOBS))
                samples.append(measure_streams(target, harness.load_core))
    for label, samples in results.items():
        cpu_us = statistics.median(one.cpu_us_per_unit or 0.0 for one in samples)
        delays = [one.event_delay for one in samples if one.event_delay is not None]
        p50, p99 = (statistics.median(getattr(one, name) for one in delays) for name in ("p50", "p99"))
        delay = f"median delay {p50:.0f} µs, 99th percentile {p99:.0f} µs"
        print(f"100 streams {label}: {cpu_us:.1f} µs of CPU time an event, {delay}")


def main() -> int:
    """Measure and print; returns the exit code: 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long jobs are submitted (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of streams, with jobs and without (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobs-") as home:
        harness = Harness(Path(home))
        try:
            harness.start()
            kept = [
                measure_submission(harness, options.seconds),
                measure_memory(harness, "slow"),
                measure_memory(harness, "at-once"),
            ]
            measure_beside_streams(harness, options.rounds)
        finally:
            harness.stop()
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
