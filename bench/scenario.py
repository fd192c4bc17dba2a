"""What is measured, as `scenarios.yaml` says it: read strictly, so that a misspelt word is an error and not a default."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from bench.script import Script

FILE: Final = Path(__file__).with_name("scenarios.yaml")
_LIMIT: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?: (?P<system>[a-z-]+))?")

_CONTROLLED: Final = frozenset({"rate_per_s", "sustained_per_s"})

PlanName = Literal["quick", "bench", "compare", "all"]


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent; `scenarios.yaml` explains each shape."""

    shape: Literal["closed", "open", "streams", "search", "none"] = "closed"
    connections: int = 20
    requests: int = 0
    warm: int = 0
    rate_per_s: float = 0.0
    window_s: float | None = None
    prompt_bytes: int = 64
    max_tokens: bool = True
    endpoint: Literal["chat/completions", "messages", "messages/count_tokens"] = "chat/completions"
    most_ms: float = 0.0
    timeout_s: float = 40.0


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is measured: a scenario with one of its points laid over it."""

    scenario: str
    title: str
    name: str
    provider: Script
    tls: bool
    load: Load
    gateway: dict[str, Any]
    more_models: int
    accounts: int
    fresh: bool
    report: tuple[str, ...]
    systems: tuple[str, ...]
    rounds: int

    @property
    def key(self) -> str:
        """How the budget names it: `stream@100`, or `delay` where the scenario has but one point."""
        return f"{self.scenario}@{self.name}" if self.name else self.scenario

    def takes(self, system: str) -> bool:
        """Whether it is measured of that system: of those that are named, or of all but the interpreted gateway.

        The direct connection is the control of all that is `added`.
        """
        if system == "direct":
            return any(metric.startswith("added_") or metric in _CONTROLLED for metric in self.report)
        return system in self.systems if self.systems else system != "gateway-interpreted"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """`at_most` times another system's value in the same run, or `at_most` itself, in the row's unit."""

    at_most: float
    of: str | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the budget: a metric at a point, or what it has become there `over` another point."""

    row: str
    of: str
    metric: str
    unit: str = ""
    over: str | None = None
    must: str | None = None
    aim: str | None = None

    def limit(self, kind: Literal["must", "aim"]) -> Limit | None:
        """What the row must keep, or aims for. `1.4 nginx` is a multiple, `0.7` a value."""
        text = self.must if kind == "must" else self.aim
        if text is None:
            return None
        match = _LIMIT.fullmatch(text)
        if match is None:
            raise ValueError(f"{self.row}: {text!r} is neither a number nor a number and a system")
        return Limit(at_most=float(match["number"]), of=match["system"])


class _Taking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rounds: int
    points: tuple[str, ...] = ()
    more: dict[str, int] = {}
    requests: int | None = None


class Slow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of a system that needs much longer than the others: a share of the requests, fewer rounds, and
    nothing with more connections."""

    share: float
    rounds: int
    most_connections: int


class _Changes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    provider: dict[str, Any] = {}
    load: dict[str, Any] = {}
    gateway: dict[str, Any] = {}
    more_models: int = 0
    accounts: int = 0


class _Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    title: str
    report: tuple[str, ...]
    plans: dict[PlanName, _Taking]
    provider: dict[str, Any] = {}
    load: dict[str, Any] = {}
    systems: tuple[str, ...] = ()
    fresh: bool = False
    points: dict[str, _Changes] = {}


_ONE_POINT: Final = {"": _Changes()}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    defaults: _Changes
    scenarios: tuple[_Scenario, ...]
    budget: tuple[Row, ...]
    slow: dict[str, Slow] = {}


class Scenarios(msgspec.Struct, frozen=True):
    """What a plan measures, the budget it is judged by, and who gets a share of the requests only."""

    points: tuple[Point, ...]
    budget: tuple[Row, ...]
    slow: dict[str, Slow]

    def only(self, names: Sequence[str]) -> Scenarios:
        """Those of these names alone, each a scenario's or a point's. Raises KeyError with a name that is none."""
        for name in names:
            if not any(name in (point.scenario, point.key) for point in self.points):
                raise KeyError(name)
        points = tuple(point for point in self.points if {point.scenario, point.key} & set(names))
        return Scenarios(points, self.budget, self.slow)

    def names(self) -> str:
        """The scenarios' names, for a reader."""
        return ", ".join(dict.fromkeys(point.scenario for point in self.points))

    def load_for(self, point: Point, system: str) -> Load:
        """The point's load; of a closed one less for a slow system, but so much that every connection is used."""
        load, slow = point.load, self.slow.get(system)
        if slow is None or load.shape != "closed":
            return load
        requests = min(load.requests, max(math.ceil(load.requests * slow.share), 10 * load.connections))
        warm = min(load.warm, max(math.ceil(load.warm * slow.share), 2 * load.connections))
        return msgspec.structs.replace(load, requests=requests, warm=warm)

    def rounds_for(self, point: Point, system: str) -> int:
        """How often the point is measured of a system; not at all where it would take a slow one too long."""
        slow = self.slow.get(system)
        if slow is None:
            return point.rounds
        return min(slow.rounds, point.rounds) if point.fresh or point.load.connections <= slow.most_connections else 0


def read(plan: PlanName, path: Path = FILE) -> Scenarios:
    """What the plan measures. Raises msgspec.ValidationError or ValueError, with the place."""
    file = msgspec.yaml.decode(path.read_bytes(), type=_File)
    points = [
        _point(file.defaults, scenario, name, changes, taking)
        for scenario in file.scenarios
        if (taking := scenario.plans.get(plan)) is not None
        for name, changes in (scenario.points or _ONE_POINT).items()
        if not taking.points or name in taking.points
    ]
    for row in file.budget:
        row.limit("must"), row.limit("aim")
    return Scenarios(tuple(points), file.budget, file.slow)


def _point(defaults: _Changes, scenario: _Scenario, name: str, changes: _Changes, taking: _Taking) -> Point:
    load = {**defaults.load, **scenario.load, **changes.load}
    if taking.requests is not None:
        load["requests"] = taking.requests
    if not scenario.fresh and (changes.gateway or changes.more_models or changes.accounts):
        raise ValueError(f"{scenario.name}: what changes the gateway's configuration needs `fresh: true`")
    provider = {**scenario.provider, **changes.provider}
    tls = bool(provider.pop("tls", False))
    return Point(
        scenario=scenario.name,
        title=f"{scenario.title}: {name}" if name else scenario.title,
        name=name,
        provider=msgspec.convert(provider, Script),
        tls=tls,
        load=msgspec.convert(load, Load),
        gateway=changes.gateway,
        more_models=changes.more_models,
        accounts=changes.accounts,
        fresh=scenario.fresh,
        report=scenario.report,
        systems=scenario.systems,
        rounds=taking.more.get(name, taking.rounds),
    )
