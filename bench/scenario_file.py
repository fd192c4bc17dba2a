"""Reads files of scenarios, such as `scenarios.yaml`. Reading is strict, and each mistake has its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from bench.scenario import METRICS, BudgetRow, Load, PlanName, Point, Scenarios, SlowSystem
from bench.script import Script
from bench.statistics import MIN_CONCLUSIVE_ROUNDS
from bench.yaml_lines import Step, YamlFile, did_you_mean

FILE: Final = Path(__file__).with_name("scenarios.yaml")
_T = TypeVar("_T")


class _PlanOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rounds: int
    points: tuple[str, ...] = ()
    more: dict[str, int] = {}
    requests: int | None = None


class _Changes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    provider: dict[str, Any] = {}
    load: dict[str, Any] = {}
    gateway: dict[str, Any] = {}
    more_models: int = 0
    accounts: int = 0


class _Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario. `rounds` is for one that is not divided into plans: it belongs to each of them."""

    name: str
    title: str
    report: tuple[str, ...]
    plans: dict[PlanName, _PlanOptions] | None = None
    rounds: int = MIN_CONCLUSIVE_ROUNDS
    provider: dict[str, Any] = {}
    load: dict[str, Any] = {}
    systems: tuple[str, ...] = ()
    fresh: bool = False
    points: dict[str, dict[str, Any]] = {}

    def options(self, plan: PlanName) -> _PlanOptions | None:
        """The options of a plan; None if the scenario is not part of it."""
        return _PlanOptions(self.rounds) if self.plans is None else self.plans.get(plan)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scenarios: list[Any]
    defaults: dict[str, Any] | None = None
    budget: tuple[BudgetRow, ...] = ()
    slow: dict[str, SlowSystem] | None = None


def read(plan: PlanName, path: Path = FILE) -> Scenarios:
    """Reads the scenarios of a plan. A file without `defaults` or `slow` has those of the shipped one.

    Raises FileError with all mistakes and their lines, and OSError.
    """
    file = YamlFile(path)
    content = file.convert(file.data, _File)
    if content is None:
        file.check()
    assert content is not None
    shipped = content if path == FILE else msgspec.convert(YamlFile(FILE).data, _File)
    reader = _Reader(file, content.defaults if content.defaults is not None else shipped.defaults or {}, plan)
    points = [point for at, value in enumerate(content.scenarios) for point in reader.points(value, at)]
    _check_budget(file, content, reader.metrics)
    file.check()
    slow = content.slow if content.slow is not None else shipped.slow or {}
    return Scenarios(tuple(points), content.budget, slow)


class _Reader:
    """Reads one scenario after the other; mistakes are noted in the file."""

    def __init__(self, file: YamlFile, defaults: dict[str, Any], plan: PlanName) -> None:
        self._file = file
        self._defaults = file.convert(defaults, _Changes, "defaults") or _Changes()
        self._plan = plan
        self.metrics: dict[str, tuple[str, ...]] = {}
        """The metrics of each point that was read, whether it is part of the plan or not."""

    def points(self, value: Any, at: int) -> list[Point]:
        """The points of the scenario that are part of the plan. Mistakes in others are noted too."""
        place = ("scenarios", at)
        scenario = self._file.convert(value, _Scenario, *place)
        if scenario is None:
            self._check_parts(value, *place)
            return []
        self._check_metrics(scenario, *place)
        options = scenario.options(self._plan)
        made = []
        for name, raw in (scenario.points or {"": {}}).items():
            where = (*place, "points", name) if scenario.points else place
            self.metrics[f"{scenario.name}@{name}" if name else scenario.name] = scenario.report
            changes = self._file.convert(raw, _Changes, *where)
            point = None if changes is None else self._point(scenario, name, changes, options or _PlanOptions(1), *where)
            if point is not None and options is not None and (not options.points or name in options.points):
                made.append(point)
        return made

    def _check_parts(self, value: Any, *place: Step) -> None:
        """Look for further mistakes in a scenario that has one, so that they are all told at once."""
        for member, kind in (("load", Load), ("provider", Script)):
            part = value.get(member) if isinstance(value, dict) else None
            if isinstance(part, dict):
                self._file.convert({key: one for key, one in part.items() if key != "tls"}, kind, *place, member)

    def _check_metrics(self, scenario: _Scenario, *place: Step) -> None:
        for number, metric in enumerate(scenario.report):
            if metric.removeprefix("added_") not in METRICS:
                known = [prefix + one for one in METRICS for prefix in ("", "added_")]
                self._file.add(f"there is no metric `{metric}`{did_you_mean(metric, known)}", *place, "report", number)

    def _point(self, scenario: _Scenario, name: str, changes: _Changes, options: _PlanOptions, *where: Step) -> Point | None:
        limit = {} if options.requests is None else {"requests": options.requests}
        if not scenario.fresh and (changes.gateway or changes.more_models or changes.accounts):
            self._file.add("a point that changes the gateway's configuration needs `fresh: true` in its scenario", *where)
        provider = {**scenario.provider, **changes.provider}
        script = self._merged("provider", Script, scenario, changes, {}, *where)
        load = self._merged("load", Load, scenario, changes, limit, *where)
        if script is None or load is None:
            return None
        self._check_load(load, script, *where)
        return Point(
            scenario=scenario.name,
            title=f"{scenario.title}: {name}" if name else scenario.title,
            name=name,
            provider=script,
            tls=bool(provider.get("tls", False)),
            load=load,
            gateway=changes.gateway,
            more_models=changes.more_models,
            accounts=changes.accounts,
            fresh=scenario.fresh,
            report=scenario.report,
            systems=scenario.systems,
            rounds=options.more.get(name, options.rounds),
        )

    def _merged(
        self, member: str, kind: type[_T], scenario: _Scenario, changes: _Changes, more: dict[str, Any], *where: Step
    ) -> _T | None:  # fmt: skip
        """The defaults with what the scenario and the point change. What is wrong is noted where it stands."""
        parts = [
            (getattr(changes, member), where),
            (getattr(scenario, member), where[:2]),
            (getattr(self._defaults, member), ()),
        ]
        before = len(self._file.problems)
        merged = more
        for part, place in parts:
            own = {key: value for key, value in part.items() if key != "tls"}  # it is no part of the script
            self._file.convert(own, kind, *place, member)
            merged = {**own, **merged}
        return self._file.convert(merged, kind, *where, member) if len(self._file.problems) == before else None

    def _check_load(self, load: Load, script: Script, *where: Step) -> None:
        """Note what can't be sent."""
        needs = {
            "`requests`": load.shape in ("closed", "open") and load.requests < 1,
            "`rate_per_s`": load.shape == "open" and load.rate_per_s <= 0,
            "`most_ms`": load.shape == "search" and load.max_p99_ms <= 0,
            "`connections`": load.connections < 1,
            "a provider with `events`": load.shape == "streams" and script.events < 1,
        }
        for what, is_missing in needs.items():
            if is_missing:
                self._file.add(f"a load of the shape `{load.shape}` needs {what}", *where, "load")


def _check_budget(file: YamlFile, content: _File, metrics: dict[str, tuple[str, ...]]) -> None:
    for at, row in enumerate(content.budget):
        for kind in ("must", "aim"):
            try:
                row.limit("must" if kind == "must" else "aim")
            except ValueError as error:
                file.add(str(error), "budget", at, kind)
        for member, key in (("of", row.of), ("over", row.over)):
            if key is not None and key not in metrics:
                file.add(f"there is no point `{key}`{did_you_mean(key, metrics)}", "budget", at, member)
            elif key is not None and row.metric not in metrics[key]:
                file.add(f"the point `{key}` does not report `{row.metric}`", "budget", at, "metric")
