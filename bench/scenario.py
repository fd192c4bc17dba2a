"""Defines the scenarios of the benchmark: their points, the load of each, and the budget."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from bench.script import Script

_LIMIT: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?: (?P<system>[a-z-]+))?")

_NEED_CONTROL: Final = frozenset({"rate_per_s", "sustained_per_s"})

PlanName = Literal["quick", "bench", "compare", "all"]
METRICS: Final = (
    "cpu_us", "rate_per_s", "sustained_per_s", "start_s", "rest_mib", "stream_kib", "overhead_p50_us", "overhead_p99_us",
    *(f"{what}_{figure}" for what in ("first_byte", "delay") for figure in ("p50_us", "p90_us", "p99_us", "p99_ms", "max_ms")),
)  # fmt: skip


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The load that is sent; `scenarios.yaml` explains each shape."""

    shape: Literal["closed", "open", "streams", "search", "none"] = "closed"
    connections: int = 20
    requests: int = 0
    warm_up: int = msgspec.field(default=0, name="warm")
    rate_per_s: float = 0.0
    window_s: float | None = None
    prompt_bytes: int = 64
    max_tokens: bool = True
    endpoint: Literal["chat/completions", "messages", "messages/count_tokens"] = "chat/completions"
    max_p99_ms: float = msgspec.field(default=0.0, name="most_ms")
    hostile: str = ""  # missing in the files of older runs
    reloads: int = 0  # missing in the files of older runs
    timeout_s: float = 40.0


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One point of measurement: a scenario with the changes of one of its points."""

    scenario: str
    title: str
    name: str
    provider: Script
    tls: bool
    load: Load
    gateway: dict[str, Any]
    more_models: int
    accounts: int = 0  # missing in the files of older runs
    fresh: bool
    report: tuple[str, ...]
    systems: tuple[str, ...]
    rounds: int

    @property
    def key(self) -> str:
        """The name that the budget uses: `stream@100`, or `delay` for a scenario with one point."""
        return f"{self.scenario}@{self.name}" if self.name else self.scenario

    def includes(self, system: str) -> bool:
        """True if the point is measured for that system.

        It is measured for the systems that it names; otherwise for all but the interpreted gateway. The direct connection is
        the control for every `added` metric.
        """
        if system == "direct":
            return any(metric.startswith("added_") or metric in _NEED_CONTROL for metric in self.report)
        return system in self.systems if self.systems else system != "gateway-interpreted"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """An upper bound: `at_most` in the row's unit, or, with `of`, `at_most` times that system's value in the same run."""

    at_most: float
    of: str | None = None


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the budget: a metric at the point `of`, or its ratio to the same metric at the point `over`."""

    row: str
    of: str
    metric: str
    unit: str = ""
    over: str | None = None
    must: str | None = None
    aim: str | None = None

    def limit(self, kind: Literal["must", "aim"]) -> Limit | None:
        """The limit of this kind. `1.4 nginx` is a multiple of nginx's value, `0.7` a value. Raises ValueError."""
        text = self.must if kind == "must" else self.aim
        if text is None:
            return None
        match = _LIMIT.fullmatch(text)
        if match is None:
            raise ValueError(f"{self.row}: {text!r} is neither a number nor a number and a system")
        return Limit(at_most=float(match["number"]), of=match["system"])


class SlowSystem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reduced load of a system that is much slower than the others: a share of the requests, fewer rounds, and no point
    with more than `max_connections`."""

    share: float
    rounds: int
    max_connections: int = msgspec.field(name="most_connections")


class Scenarios(msgspec.Struct, frozen=True):
    """The points of a plan, the budget, and the systems that get a reduced load."""

    points: tuple[Point, ...]
    budget: tuple[BudgetRow, ...]
    slow: dict[str, SlowSystem]

    def only(self, names: Sequence[str]) -> Scenarios:
        """Keep only the named scenarios and points. Raises KeyError with the first unknown name."""
        for name in names:
            if not any(name in (point.scenario, point.key) for point in self.points):
                raise KeyError(name)
        points = tuple(point for point in self.points if {point.scenario, point.key} & set(names))
        return Scenarios(points, self.budget, self.slow)

    def scenario_names(self) -> str:
        """The names of the scenarios, separated by commas."""
        return ", ".join(dict.fromkeys(point.scenario for point in self.points))

    def load_for(self, point: Point, system: str) -> Load:
        """The load of a point for a system. A slow system gets less of a closed load, but enough to use every connection."""
        load, slow = point.load, self.slow.get(system)
        if slow is None or load.shape != "closed":
            return load
        requests = min(load.requests, max(math.ceil(load.requests * slow.share), 10 * load.connections))
        warm_up = min(load.warm_up, max(math.ceil(load.warm_up * slow.share), 2 * load.connections))
        return msgspec.structs.replace(load, requests=requests, warm_up=warm_up)

    def rounds_for(self, point: Point, system: str) -> int:
        """The number of rounds of a point for a system; 0 if the point would take a slow system too long."""
        slow = self.slow.get(system)
        if slow is None:
            return point.rounds
        return min(slow.rounds, point.rounds) if point.fresh or point.load.connections <= slow.max_connections else 0
