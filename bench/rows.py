"""What is measured: the lines of the budget, the load behind each, and how often.

A measure is taken of one system at a time; the rounds go A B C A B C, so that a disturbance meets all alike.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from bench.load import Load, Result
from bench.processes import before_exec
from bench.report import Limit, Row
from bench.systems import ROOT, Place, Target, start

_FAR_S: Final = 15.0
_FLAT: Final = {"must": Limit(at_most=1.2), "aim": Limit(at_most=1.05)}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of each."""

    name: str
    rounds: int
    requests: int
    events: int
    arrivals: int
    prompts: int
    memory_rounds: int
    growth_rounds: int
    streams: tuple[int, ...]


QUICK: Final = Plan(
    name="quick", rounds=2, requests=5_000, events=60, arrivals=150, prompts=60,
    memory_rounds=1, growth_rounds=1, streams=(1, 100, 1000),
)  # fmt: skip
NORMAL: Final = Plan(
    name="default", rounds=5, requests=15_000, events=120, arrivals=300, prompts=150,
    memory_rounds=2, growth_rounds=3, streams=(1, 100, 1000),
)  # fmt: skip
FULL: Final = msgspec.structs.replace(NORMAL, name="full", rounds=10, memory_rounds=3, streams=(1, 100, 1000, 5000))


class Bench(msgspec.Struct, kw_only=True):
    """The run: what is planned, where it happens, and the systems that stay up for the whole of it."""

    plan: Plan
    place: Place
    load_core: int | None
    targets: dict[str, Target] = {}
    starts_s: dict[str, list[float]] = {}

    def target(self, name: str) -> Target:
        """The system that stays up, started where it is not there. Raises RuntimeError."""
        target = self.targets.get(name)
        if target is None or (target.process is not None and not target.process.alive()):
            if target is not None:
                target.stop()
            target = self.targets[name] = start(name, self.place)
        return target

    def play(self, target: Target, load: Load) -> Result:
        """Play a load against a system, from a process of its own. Raises RuntimeError where anything is wrong."""
        load = msgspec.structs.replace(load, port=target.port, pid=target.process.pid if target.process else None)
        command = [sys.executable, "-m", "bench.load", msgspec.json.encode(load).decode()]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=load.timeout_s + _FAR_S,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=before_exec(self.load_core),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError("the load generator hangs") from None
        if done.returncode:
            raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-300:]}")
        result = msgspec.json.decode(done.stdout, type=Result)
        if result.failed is not None:
            raise RuntimeError(f"{result.failed} ({result.errors} errors)")
        return result

    def stop(self) -> None:
        """End all systems."""
        for target in self.targets.values():
            target.stop()
        self.targets.clear()


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that are filled by one load. `take` returns a value a row; it raises RuntimeError where it has none."""

    rows: tuple[Row, ...]
    systems: tuple[str, ...] = ("gateway", "nginx", "envoy")
    rounds: int
    take: Callable[[Bench, str], tuple[float, ...]]


def _load(shape: str, model: str, connections: int, **more: int | float) -> Load:
    return msgspec.convert({"shape": shape, "port": 0, "model": model, "connections": connections, **more}, Load)


def _cpu_us(result: Result) -> float:
    if result.cpu_us_per_unit is None or result.cpu_us_per_unit <= 0:
        raise RuntimeError("its processor time can't be read")
    return result.cpu_us_per_unit


def _short(plan: Plan) -> Load:
    return _load("closed", "short", 32, requests=plan.requests, warm=500)


def _stream_model(streams: int, events: int) -> str:
    """A script of 10,000 events a second, 100 each 10 ms, whatever the number of streams (one stream: 1,000)."""
    if streams == 1:
        return f"stream-{events * 10}-1ms"
    if streams <= 100:
        return f"stream-{events}-10ms"
    gap_ms = streams // 10
    return f"stream-{max(events * 10 // gap_ms, 3) + 1 + streams // 500}-{gap_ms}ms-by-10ms"


def _take_short(bench: Bench, name: str) -> tuple[float, ...]:
    return (_cpu_us(bench.play(bench.target(name), _short(bench.plan))),)


def _take_event(bench: Bench, name: str) -> tuple[float, ...]:
    load = _load("streams", _stream_model(100, bench.plan.events), 100)
    return (_cpu_us(bench.play(bench.target(name), load)),)


def _take_delay(bench: Bench, name: str) -> tuple[float, ...]:
    delay = bench.play(bench.target(name), _load("streams", f"stream-{bench.plan.events}-10ms-by-1ms", 100)).event_delay_us
    if delay is None:
        raise RuntimeError("no event was seen")
    return delay.p50, delay.p99


def _take_first_byte(bench: Bench, name: str) -> tuple[float, ...]:
    load = _load("open", "stream-3-10ms", 32, requests=bench.plan.arrivals, warm=60, rate_per_s=250.0)
    first = bench.play(bench.target(name), load).first_byte_us
    if first is None:
        raise RuntimeError("no answer was seen")
    return (first.p50,)


def _take_prompt(bench: Bench, name: str) -> tuple[float, ...]:
    load = _load("closed", "short", 4, requests=bench.plan.prompts, warm=10, prompt_bytes=1_000_000)
    return (_cpu_us(bench.play(bench.target(name), load)),)


def _take_memory(bench: Bench, name: str) -> tuple[float, ...]:
    target = start(name, bench.place)
    try:
        bench.play(target, _load("closed", "short", 8, requests=200))
        seen = bench.play(target, _load("streams", "stream-5-500ms-by-10ms", 1000))
    finally:
        target.stop()
    if not seen.memory_open_bytes or not seen.memory_before_bytes:
        raise RuntimeError("its memory can't be read")
    return (seen.memory_before_bytes / 2**20, (seen.memory_open_bytes - seen.memory_before_bytes) / 1000 / 1024)


def _take_streams(bench: Bench, name: str) -> tuple[float, ...]:
    """The cost of an event at each size, and each size's over the one before."""
    costs = [
        _cpu_us(bench.play(bench.target(name), _load("streams", _stream_model(streams, bench.plan.events), streams)))
        for streams in bench.plan.streams
    ]
    return tuple(more / less for less, more in zip(costs, costs[1:], strict=False))


def _take_models(bench: Bench, name: str) -> tuple[float, ...]:
    """The cost of a short request with 1,000 models in the configuration, over that with 10."""
    costs = []
    for count in (10, 1000):
        more = tuple(f"another-{number}" for number in range(count - 1))
        target = start(name, msgspec.structs.replace(bench.place, models=(*more, "short")))
        try:
            costs.append(_cpu_us(bench.play(target, _short(bench.plan))))
        finally:
            target.stop()
    return (costs[1] / costs[0],)


def _take_start(bench: Bench, name: str) -> tuple[float, ...]:
    target = start(name, bench.place)
    target.stop()
    return (target.start_s or 0.0,)


def scripts(plan: Plan) -> tuple[str, ...]:
    """The models that the gateway's configuration has to name."""
    streams = {_stream_model(count, plan.events) for count in plan.streams} | {_stream_model(100, plan.events)}
    fixed = {f"stream-{plan.events}-10ms-by-1ms", "stream-3-10ms", "stream-5-500ms-by-10ms"}
    return ("short", *sorted(streams | fixed))


def measures(plan: Plan) -> list[Measure]:
    """All that is measured, in order."""
    with_direct = ("direct", "gateway", "nginx", "envoy")
    nginx, envoy = "nginx", "envoy"
    steps = zip(plan.streams, plan.streams[1:], strict=False)
    return [
        Measure(
            rows=(
                Row(
                    key="start_s",
                    title="Start to first answer",
                    unit="s",
                    must=Limit(at_most=0.7),
                    aim=Limit(at_most=0.4),
                ),
            ),
            rounds=max(2, plan.rounds - 1),
            take=_take_start,
        ),
        Measure(
            rows=(
                Row(
                    key="short_cpu_us",
                    title="CPU per short request",
                    unit="µs",
                    must=Limit(at_most=1.0, of=envoy),
                    aim=Limit(at_most=2.5, of=nginx),
                ),
            ),
            rounds=plan.rounds,
            take=_take_short,
        ),
    ]
