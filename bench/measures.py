"""How each row is measured: the load behind it, of which systems, and how often.

A measure is taken of one system at a time; the rounds go A B C A B C, so that a disturbance meets all alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import msgspec

from bench import rows
from bench.bench import Bench
from bench.load import Load, Result
from bench.report import Row
from bench.rows import Plan
from bench.systems import start

_PROXIES: Final = ("gateway", "nginx", "envoy")
_STREAMS: Final = 100
_CONNECTIONS: Final = 32


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that one load fills. `take` returns a value for each; it raises RuntimeError where it has none."""

    rows: tuple[Row, ...]
    rounds: int
    take: Callable[[Bench, str], tuple[float, ...]]
    systems: tuple[str, ...] = _PROXIES


def measures(plan: Plan) -> list[Measure]:
    """All that is measured, in order."""
    rounds, direct = plan.rounds, ("direct", *_PROXIES)
    return [
        Measure(rows=(rows.SHORT,), rounds=rounds, take=_short),
        Measure(rows=(rows.EVENT,), rounds=rounds, take=_event),
        Measure(rows=(rows.DELAY_P50, rows.DELAY_P99), rounds=rounds, take=_delay, systems=direct),
        Measure(rows=(rows.FIRST_BYTE,), rounds=rounds, take=_first_byte, systems=direct),
        Measure(rows=(rows.PROMPT,), rounds=rounds, take=_prompt),
        Measure(rows=(rows.RESTING, rows.MEMORY), rounds=plan.memory_rounds, take=_memory),
        Measure(rows=rows.streams_growth(plan), rounds=plan.growth_rounds, take=_streams, systems=("gateway", "nginx")),
        Measure(rows=(rows.MODELS_GROWTH,), rounds=plan.growth_rounds, take=_models, systems=("gateway",)),
        Measure(rows=(rows.START,), rounds=max(3, rounds), take=_start),
    ]


def scripts(plan: Plan) -> tuple[str, ...]:
    """The models that the gateway's configuration has to name."""
    streams = {_stream_script(count, plan.events) for count in (*plan.streams, _STREAMS)}
    return ("short", *sorted(streams | {_spread_script(plan), "stream-3-10ms", "stream-5-500ms-by-10ms"}))


def _stream_script(streams: int, events: int) -> str:
    """10,000 events a second, 100 of them each 10 ms, whatever the number of streams; from one stream 1,000."""
    if streams == 1:
        return f"stream-{events * 10}-1ms"
    if streams <= _STREAMS:
        return f"stream-{events}-10ms"
    gap_ms, opening_ms = streams // 10, streams // 2
    return f"stream-{(opening_ms + events * 10) // gap_ms + 2}-{gap_ms}ms-by-10ms"


def _spread_script(plan: Plan) -> str:
    """20 events a second from each stream, spread evenly: little waits for its turn, so a delay is the system's."""
    return f"stream-{plan.events // 4 + 4}-50ms-by-1ms"


def _load(shape: str, model: str, connections: int, **more: float) -> Load:
    return msgspec.convert({"shape": shape, "port": 0, "model": model, "connections": connections, **more}, Load)


def _short_load(plan: Plan) -> Load:
    return _load("closed", "short", _CONNECTIONS, requests=plan.requests, warm=500)


def _cpu_us(result: Result) -> float:
    if not result.cpu_us_per_unit:
        raise RuntimeError("its processor time can't be read")
    return result.cpu_us_per_unit


def _short(bench: Bench, name: str) -> tuple[float, ...]:
    return (_cpu_us(bench.play(bench.target(name), _short_load(bench.plan))),)


def _event(bench: Bench, name: str) -> tuple[float, ...]:
    load = _load("streams", _stream_script(_STREAMS, bench.plan.events), _STREAMS)
    return (_cpu_us(bench.play(bench.target(name), load)),)


def _delay(bench: Bench, name: str) -> tuple[float, ...]:
    delay = bench.play(bench.target(name), _load("streams", _spread_script(bench.plan), _STREAMS)).event_delay_us
    if delay is None:
        raise RuntimeError("no event was seen")
    return delay.p50, delay.p99


def _first_byte(bench: Bench, name: str) -> tuple[float, ...]:
    load = _load("open", "stream-3-10ms", _CONNECTIONS, requests=bench.plan.arrivals, warm=60, rate_per_s=250)
    first = bench.play(bench.target(name), load).first_byte_us
    if first is None:
        raise RuntimeError("no answer was seen")
    return (first.p50,)


def _prompt(bench: Bench, name: str) -> tuple[float, ...]:
    load = _load("closed", "short", 4, requests=bench.plan.prompts, warm=10, prompt_bytes=1_000_000)
    return (_cpu_us(bench.play(bench.target(name), load)),)


def _memory(bench: Bench, name: str) -> tuple[float, ...]:
    """Of a system that was just started, after 200 short requests: at rest, and for each of 1,000 streams."""
    target = start(name, bench.place)
    try:
        bench.play(target, _load("closed", "short", 8, requests=200))
        seen = bench.play(target, _load("streams", "stream-5-500ms-by-10ms", rows.OPEN_STREAMS))
    finally:
        target.stop()
    if not seen.memory_open_bytes or not seen.memory_before_bytes:
        raise RuntimeError("its memory can't be read")
    for_streams = seen.memory_open_bytes - seen.memory_before_bytes
    return seen.memory_before_bytes / 2**20, for_streams / rows.OPEN_STREAMS / 1024


def _streams(bench: Bench, name: str) -> tuple[float, ...]:
    """The cost of an event at each size, over that at the size before."""
    costs = [
        _cpu_us(bench.play(bench.target(name), _load("streams", _stream_script(streams, bench.plan.events), streams)))
        for streams in bench.plan.streams
    ]
    return tuple(more / less for less, more in itertools.pairwise(costs))


def _models(bench: Bench, name: str) -> tuple[float, ...]:
    """The cost of a short request with many models in the configuration, over that with few."""
    costs = []
    for count in rows.MODELS:
        models = (*(f"another-{number}" for number in range(count - 1)), "short")
        target = start(name, msgspec.structs.replace(bench.place, models=models))
        try:
            costs.append(_cpu_us(bench.play(target, _short_load(bench.plan))))
        finally:
            target.stop()
    return (costs[1] / costs[0],)


def _start(bench: Bench, name: str) -> tuple[float, ...]:
    target = start(name, bench.place)
    target.stop()
    return (target.start_s or 0.0,)
