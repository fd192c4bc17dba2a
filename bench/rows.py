"""The budget: the rows of the table with what each must keep and what it aims for; and how much a plan measures."""

from __future__ import annotations

import itertools
from typing import Final

import msgspec

from bench.report import Limit, Row

MODELS: Final = (10, 1000)
OPEN_STREAMS: Final = 1000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of each. `streams` are the sizes at which an event is priced."""

    name: str
    rounds: int
    requests: int
    events: int
    arrivals: int
    prompts: int
    memory_rounds: int
    growth_rounds: int
    streams: tuple[int, ...] = (1, 100, 1000)


QUICK: Final = Plan(
    name="quick", rounds=2, requests=4_000, events=60, arrivals=150, prompts=50, memory_rounds=1, growth_rounds=1
)
NORMAL: Final = Plan(
    name="default", rounds=7, requests=12_000, events=100, arrivals=300, prompts=100, memory_rounds=2, growth_rounds=2
)
FULL: Final = msgspec.structs.replace(
    NORMAL, name="full", rounds=10, memory_rounds=3, growth_rounds=4, streams=(1, 100, 1000, 5000)
)


def _limit(text: str) -> Limit:
    """`1.4 nginx` is a ratio, `0.7` a value."""
    number, _, other = text.partition(" ")
    return msgspec.convert({"at_most": float(number), "of": other or None}, Limit)


def _row(key: str, title: str, unit: str, must: str, aim: str, *, added: bool = False) -> Row:
    return Row(key=key, title=title, unit=unit, must=_limit(must), aim=_limit(aim), added=added)


START: Final = _row("start_s", "start to first answer", "s", "0.7", "0.4")
SHORT: Final = _row("short_cpu_us", "CPU per short request", "µs", "1 envoy", "2.5 nginx")
EVENT: Final = _row("event_cpu_us", "CPU per streamed event, 100 streams", "µs", "1.4 nginx", "1.1 nginx")
DELAY_P50: Final = _row("event_delay_p50_us", "added delay per event, p50", "µs", "1.5 nginx", "1 nginx", added=True)
DELAY_P99: Final = _row("event_delay_p99_us", "added delay per event, p99", "µs", "1.5 nginx", "1 nginx", added=True)
FIRST_BYTE: Final = _row("first_byte_us", "added time to first byte, p50", "µs", "3 nginx", "2 nginx", added=True)
PROMPT: Final = _row("prompt_cpu_us", "CPU per prompt of 1 MB", "µs", "3 nginx", "2 nginx")
MEMORY: Final = _row("memory_kib", "memory per open stream", "KiB", "1 nginx", "8")
RESTING: Final = Row(key="memory_mib", title="memory at rest", unit="MiB")
MODELS_GROWTH: Final = _row("models_growth", "CPU per short request, 1,000 models ÷ 10", "", "1.2", "1.05")


def streams_growth(plan: Plan) -> tuple[Row, ...]:
    """One row for each step between the plan's sizes."""
    return tuple(
        _row(f"streams_growth_{more}", f"CPU per streamed event, {more:,} streams ÷ {less:,}", "", "1.2", "1.05")
        for less, more in itertools.pairwise(plan.streams)
    )
