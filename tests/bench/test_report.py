"""The bench's report is made from what was measured alone: statistics, ratios, verdicts and tables, without a process."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import msgspec
import pytest

from bench import compare, plots, report, results, scenario, verdicts
from bench.histogram import CURVE, curve, merged, spread
from bench.results import Measured, Roles, Run, Taken
from bench.scenario import Limit, Load, Point, Row
from bench.script import Script, parse
from bench.statistics import Interval, interval, quantile, ratios

COST = Row(row="cost", unit="µs", of="short@20", metric="cpu_us", must="1.5 nginx", aim="8")
SIX = [1.0] * 6


def point(name: str = "short", variant: str = "20", report: tuple[str, ...] = ("cpu_us",)) -> Point:
    return Point(
        scenario=name, title="Short request", name=variant, provider=Script(), tls=False, load=Load(), gateway={},
        more_models=0, accounts=0, fresh=False, report=report, systems=(), rounds=1,
    )  # fmt: skip


def a_run(*measured: Measured, budget: tuple[Row, ...] = (COST,), absent: dict[str, str] | None = None) -> Run:
    titles = {"direct": "direct", "gateway": "gateway", "nginx": "nginx", "envoy": "Envoy", "base": "base"}
    return Run(
        at="2026-01-01", commit="abc", plan="bench", machine={"cores": 2, "processor": "CPU", "kernel": "Linux"}, versions={},
        titles=titles, cores=Roles(), absent=absent or {}, budget=budget, measured=list(measured),
    )  # fmt: skip


def costs(**values: list[float]) -> Measured:
    return Measured(point=point(), taken={name: Taken(values={"cpu_us": seen}) for name, seen in values.items()})


def test_a_quantile_lies_between_its_neighbours() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([0.0, 10.0], 0.0) == 0.0
    assert quantile([0.0, 10.0], 1.0) == 10.0


@pytest.mark.parametrize(
    ("count", "low", "high", "is_sure"),
    [(1, 0, 0, False), (5, 0, 4, False), (6, 0, 5, True), (8, 0, 7, True), (10, 1, 8, True)],
)
def test_the_interval_lies_between_the_ranks_of_the_sign_test(count: int, low: int, high: int, is_sure: bool) -> None:
    seen = interval([float(value) for value in reversed(range(count))])
    assert (seen.low, seen.high, seen.is_sure) == (low, high, is_sure)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    chance = random.Random(1)
    held = sum(not interval([chance.expovariate(1.0) for _ in range(10)]).excludes(math.log(2)) for _ in range(2000))
    assert held / 2000 >= 0.95


def test_a_histogram_keeps_three_digits_and_adds_up() -> None:
    low, high = spread(range(1, 50_001)), spread(range(50_001, 100_001))
    both = curve(merged([low.histogram, high.histogram]))
    assert (low.count, high.count) == (50_000, 50_000)
    assert low.p50 == pytest.approx(25.0, rel=1e-3)
    assert both[CURVE.index(50.0)] == pytest.approx(50.0, rel=1e-3)
    assert both[CURVE.index(99.9)] == pytest.approx(99.9, rel=1e-3)


def test_a_ratio_is_taken_pair_by_pair() -> None:
    """A round that disturbed both systems alike leaves the ratio as it is."""
    run = a_run(costs(gateway=[10.0, 50.0, 12.0], nginx=[10.0, 50.0, 10.0]))
    ratio = verdicts.ratio(run, COST, "nginx")
    assert ratio is not None
    assert ratio.middle == 1.0
    assert verdicts.ratio(run, COST, "envoy") is None


def test_what_is_added_is_over_the_direct_value_of_the_same_round() -> None:
    taken = {"gateway": Taken(values={"delay_p50_us": [30.0, 130.0]}), "direct": Taken(values={"delay_p50_us": [10.0, 100.0]})}
    measured = Measured(point=point(report=("added_delay_p50_us",)), taken=taken)
    assert verdicts.values(measured, "gateway", "added_delay_p50_us") == [20.0, 30.0]
    assert verdicts.values(measured, "direct", "added_delay_p50_us") == [10.0, 100.0]
    measured.taken["direct"] = Taken(failed="a short stream")
    assert verdicts.values(measured, "gateway", "added_delay_p50_us") == []


def test_there_is_no_ratio_to_nothing() -> None:
    assert ratios([30.0, 30.0], [0.0, 10.0]) == []


@pytest.mark.parametrize(
    ("values", "limit", "expected"),
    [
        ({"gateway": [14.0] * 6, "nginx": [10.0] * 6}, Limit(at_most=1.5, of="nginx"), "kept"),
        ({"gateway": [16.0] * 6, "nginx": [10.0] * 6}, Limit(at_most=1.5, of="nginx"), "missed"),
        ({"gateway": [14.0, 16.0] * 3 + [14.0], "nginx": [10.0] * 7}, Limit(at_most=1.5, of="nginx"), "kept, not surely"),
        ({"gateway": [15.0]}, Limit(at_most=1.5, of="nginx"), "–"),
        ({"gateway": [8.0]}, Limit(at_most=8), "kept, not surely"),
        ({"gateway": [8.1]}, Limit(at_most=8), "missed, not surely"),
        ({"nginx": [10.0]}, Limit(at_most=8), "failed"),
    ],
)
def test_a_verdict(values: dict[str, list[float]], limit: Limit, expected: str) -> None:
    assert verdicts.verdict(a_run(costs(**values)), COST, limit) == expected


def test_growth_is_one_point_over_another_pair_by_pair() -> None:
    row = Row(row="growth", of="short@1000", over="short@20", metric="cpu_us", must="1.2")
    many = Measured(point=point(variant="1000"), taken={"gateway": Taken(values={"cpu_us": [11.0, 55.0]})})
    run = a_run(costs(gateway=[10.0, 50.0]), many, budget=(row,))
    assert verdicts.row_values(run, row, "gateway") == [1.1, 1.1]
    assert "| growth | 1.10 |" in report.budget(run)


def test_a_failure_is_shown_as_failed_and_never_as_a_number() -> None:
    measured = costs(nginx=[2.0])
    measured.taken["gateway"] = Taken(failed="status 502")
    text = report.markdown(a_run(measured))
    assert "| cost (µs) | failed | – | ≤ 1.5 × nginx: failed | ≤ 8: failed |" in text.replace("| – | – |", "| – |")
    assert "| 20 CPU (µs) | failed | 2.00 (2.00–2.00) |" in text
    assert "- gateway failed at *Short request*: status 502" in text


def test_what_is_absent_says_how_to_get_it() -> None:
    assert "- Envoy was absent. Run make bench-peers." in report.markdown(a_run(absent={"envoy": "Run make bench-peers."}))


def test_an_interrupted_run_says_so() -> None:
    run = a_run(costs(gateway=[1.0]))
    run.interrupted = True
    assert "not complete" in report.markdown(run)


def test_the_budget_shows_ratios_and_verdicts() -> None:
    line = report.budget(a_run(costs(gateway=[9.0, 12.0, 10.0], nginx=[10.0] * 3))).splitlines()[2]
    assert line == "| cost (µs) | 10.0 | 1.00 × (0.90–1.20) | – | ≤ 1.5 × nginx: kept, not surely | ≤ 8: missed, not surely |"


@pytest.mark.parametrize(
    ("own", "added", "hops", "verdict"),
    [
        (50.0, 150.0, 90.0, "agree"),
        (150.0, 150.0, 90.0, "disagree: the gateway counts more than there was"),
        (10.0, 500.0, 90.0, "disagree"),
        (130.0, 150.0, 90.0, "disagree"),
    ],
)
def test_the_gateways_own_count_is_held_against_what_was_seen_from_outside(
    own: float, added: float, hops: float, verdict: str
) -> None:
    seen = {"direct": 20.0, "gateway": 20.0 + added, "nginx": 20.0 + hops}
    taken = {name: Taken(values={"first_byte_p50_us": [value]}) for name, value in seen.items()}
    taken["gateway"].values["overhead_p50_us"] = [own]
    check = verdicts.cross_check(Measured(point=point(), taken=taken))
    assert check is not None
    assert check.verdict == verdict
    assert verdicts.cross_check(costs(gateway=[1.0])) is None


def test_the_report_is_the_same_each_time_it_is_made(tmp_path: Path) -> None:
    measured = Measured(
        point=point("delay", ""), taken={"gateway": Taken(values={}, histograms={"delay": spread(range(1, 1000)).histogram})}
    )
    run = a_run(costs(gateway=[10.0], nginx=[5.0]), measured)
    run.keep(tmp_path / "run.json")
    made = []
    for directory in (tmp_path / "first", tmp_path / "second"):
        directory.mkdir()
        again = results.read(tmp_path / "run.json")
        text = report.markdown(again, plots.draw(again, directory))
        made.append((text, {path.name: path.read_bytes() for path in directory.iterdir()}))
    assert made[0] == made[1]
    assert set(made[0][1]) == {"cost.svg", "delay.svg"}
    assert "](cost.svg)" in made[0][0]


@pytest.mark.parametrize(
    ("own", "base", "verdict"),
    [
        ([1.1] * 6, SIX, "dearer"),
        ([0.9] * 6, SIX, "cheaper"),
        ([0.9, 1.1] * 3, SIX, "within the noise"),
        ([2.0] * 5, SIX[:5], "too few rounds"),
    ],
)
def test_a_difference_counts_only_outside_the_noise(own: list[float], base: list[float], verdict: str) -> None:
    found = compare.lines(a_run(costs(gateway=own, base=base)))
    assert [line.verdict for line in found] == [verdict]
    assert compare.table(found).splitlines()[2].endswith(f"| {verdict} |")
    assert compare.exit_code(found) == (verdict == "dearer")


def test_a_comparison_that_failed_says_so_and_is_no_success() -> None:
    measured = costs(base=[1.0])
    measured.taken["gateway"] = Taken(failed="status 502")
    found = compare.lines(a_run(measured))
    assert found[0].verdict == "failed: gateway: status 502"
    assert compare.exit_code(found) == 1


def test_a_higher_rate_is_no_dearer() -> None:
    seen = Interval(1.2, 1.3, 1.4, is_sure=True)
    assert compare.judged(seen, higher_is_better=True) == "cheaper"
    assert compare.judged(seen, higher_is_better=False) == "dearer"


def test_every_row_of_the_budget_names_a_point_and_a_metric_that_are_measured() -> None:
    points = {point.key: point for point in scenario.read("all").points}
    for row in scenario.read("all").budget:
        for key in filter(None, (row.of, row.over)):
            assert row.metric in points[key].report, row.row


@pytest.mark.parametrize("plan", ["quick", "bench", "compare", "all"])
def test_every_plan_can_be_read_and_every_script_is_a_model_id(plan: scenario.PlanName) -> None:
    points = scenario.read(plan).points
    assert len({point.key for point in points}) == len(points) > 0
    for one in points:
        assert parse(one.provider.model) is not None


def test_a_misspelt_scenario_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "scenarios.yaml"
    path.write_text(scenario.FILE.read_text().replace("connections: 1,", "conections: 1,", 1))
    with pytest.raises(msgspec.ValidationError, match="conections"):
        scenario.read("all", path)
    path.write_text(scenario.FILE.read_text().replace("must: 1 envoy", "must: cheap", 1))
    with pytest.raises(ValueError, match="neither a number"):
        scenario.read("all", path)


@pytest.mark.parametrize(
    "script",
    [
        Script(),
        Script(first_ms=20),
        Script(status=503),
        Script(dialect="anthropic"),
        Script(events=200, gap_ms=10, tick_ms=10),
        *(
            Script(events=5, gap_ms=10, tick_ms=tick, event_bytes=size, first_ms=first, end=end)
            for tick, size, first, end in itertools.product((1, 10), (0, 500), (0, 50), ("done", "stall", "cut"))
        ),
    ],
)
def test_a_script_and_its_model_id_are_the_same(script: Script) -> None:
    assert parse(script.model) == script


@pytest.mark.parametrize("model", ["stream-0-10ms", "stream-5-0ms", "error-200", "gpt-5", "short-in-french", "short-after-0ms"])
def test_any_other_model_id_is_no_script(model: str) -> None:
    assert parse(model) is None


def test_a_slow_system_is_asked_for_less() -> None:
    scenarios = scenario.read("all")
    point = next(point for point in scenarios.points if point.key == "short@20")
    assert scenarios.load_for(point, "nginx") == point.load
    assert scenarios.load_for(point, "litellm").requests < point.load.requests / 10
    for point in scenarios.points:
        for name in scenarios.slow:
            load = scenarios.load_for(point, name)
            if load.shape == "closed" and scenarios.rounds_for(point, name):
                assert load.requests >= min(point.load.requests, 10 * load.connections)
                assert load.warm >= min(point.load.warm, 2 * load.connections)
    many = next(point for point in scenarios.points if point.key == "stream@5000")
    assert scenarios.rounds_for(many, "litellm") == 0
    point = next(point for point in scenarios.points if point.key == "short@20")
    assert scenarios.rounds_for(point, "litellm") < scenarios.rounds_for(point, "nginx") == 10
