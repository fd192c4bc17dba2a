"""The analysis and the report of a run: statistics, ratios, verdicts and tables. No process is started."""

from __future__ import annotations

import itertools
import math
import random
import re
from pathlib import Path

import pytest

from bench import analysis, beside, compare, figures, plots, report, results, scenario
from bench import scenario_file as scenarios_of
from bench.histogram import PERCENTILES, merge, percentiles, summarize
from bench.processes import ROOT
from bench.results import Cores, Measurement, Run, Samples
from bench.scenario import BudgetRow, Limit, Load, Point
from bench.script import End, Script, parse
from bench.statistics import Interval, interval, quantile, ratios
from bench.yaml_lines import FileError
from kyma_proxy import __version__

PUBLISHED = ROOT / "docs" / "benchmarks"
COST = BudgetRow(row="cost", unit="µs", of="short@20", metric="cpu_us", must="1.5 nginx", aim="8")
SIX_ROUNDS = [1.0] * 6
ENDS: tuple[End, ...] = ("done", "stall", "cut")


def point(name: str = "short", variant: str = "20", report: tuple[str, ...] = ("cpu_us",)) -> Point:
    return Point(
        scenario=name, title="Short request", name=variant, provider=Script(), tls=False, load=Load(), gateway={},
        more_models=0, accounts=0, fresh=False, report=report, systems=(), rounds=1,
    )  # fmt: skip


def run_of(*measurements: Measurement, budget: tuple[BudgetRow, ...] = (COST,), absent: dict[str, str] | None = None) -> Run:
    titles = {"direct": "direct", "gateway": "gateway", "nginx": "nginx", "envoy": "Envoy", "base": "base"}
    return Run(
        at="2026-01-01", commit="abc", plan="bench", machine={"cores": 2, "processor": "CPU", "kernel": "Linux"}, versions={},
        titles=titles, cores=Cores(), absent=absent or {}, budget=budget, measurements=list(measurements),
    )  # fmt: skip


def costs(**values: list[float]) -> Measurement:
    return Measurement(point=point(), samples={name: Samples(values={"cpu_us": rounds}) for name, rounds in values.items()})


def test_a_quantile_is_interpolated_between_its_neighbours() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([0.0, 10.0], 0.0) == 0.0
    assert quantile([0.0, 10.0], 1.0) == 10.0


@pytest.mark.parametrize(
    ("count", "low", "high", "is_conclusive"),
    [(1, 0, 0, False), (5, 0, 4, False), (6, 0, 5, True), (8, 0, 7, True), (10, 1, 8, True)],
)
def test_the_confidence_interval_has_the_ranks_of_the_sign_test(count: int, low: int, high: int, is_conclusive: bool) -> None:
    found = interval([float(value) for value in reversed(range(count))])
    assert (found.low, found.high, found.is_conclusive) == (low, high, is_conclusive)


def test_the_confidence_interval_includes_the_median_in_95_percent_of_the_cases() -> None:
    chance = random.Random(1)
    included = sum(not interval([chance.expovariate(1.0) for _ in range(10)]).excludes(math.log(2)) for _ in range(2000))
    assert included / 2000 >= 0.95


def test_histograms_keep_three_digits_and_can_be_merged() -> None:
    low, high = summarize(range(1, 50_001)), summarize(range(50_001, 100_001))
    both = percentiles(merge([low.histogram, high.histogram]))
    assert (low.count, high.count) == (50_000, 50_000)
    assert low.p50 == pytest.approx(25.0, rel=1e-3)
    assert both[PERCENTILES.index(50.0)] == pytest.approx(50.0, rel=1e-3)
    assert both[PERCENTILES.index(99.9)] == pytest.approx(99.9, rel=1e-3)


def test_ratios_are_computed_pair_by_pair() -> None:
    """A disturbance that affects both systems in one round does not change the ratio."""
    run = run_of(costs(gateway=[10.0, 50.0, 12.0], nginx=[10.0, 50.0, 10.0]))
    ratio = analysis.ratio_to(run, COST, "nginx")
    assert ratio is not None
    assert ratio.median == 1.0
    assert analysis.ratio_to(run, COST, "envoy") is None


def test_an_added_metric_is_the_difference_to_the_direct_connection_in_the_same_round() -> None:
    samples = {
        "gateway": Samples(values={"delay_p50_us": [30.0, 130.0]}),
        "direct": Samples(values={"delay_p50_us": [10.0, 100.0]}),
    }
    measurement = Measurement(point=point(report=("added_delay_p50_us",)), samples=samples)
    assert analysis.values(measurement, "gateway", "added_delay_p50_us") == [20.0, 30.0]
    assert analysis.values(measurement, "direct", "added_delay_p50_us") == [10.0, 100.0]
    measurement.samples["direct"] = Samples(failed="incomplete stream")
    assert analysis.values(measurement, "gateway", "added_delay_p50_us") == []


def test_a_zero_denominator_gives_no_ratio() -> None:
    assert ratios([30.0, 30.0], [0.0, 10.0]) == []


@pytest.mark.parametrize(
    ("values", "limit", "expected"),
    [
        ({"gateway": [14.0] * 6, "nginx": [10.0] * 6}, Limit(at_most=1.5, of="nginx"), "kept"),
        ({"gateway": [16.0] * 6, "nginx": [10.0] * 6}, Limit(at_most=1.5, of="nginx"), "missed"),
        ({"gateway": [14.0, 16.0] * 3 + [14.0], "nginx": [10.0] * 7}, Limit(at_most=1.5, of="nginx"), "kept, inconclusive"),
        ({"gateway": [15.0]}, Limit(at_most=1.5, of="nginx"), "–"),
        ({"gateway": [8.0]}, Limit(at_most=8), "kept, inconclusive"),
        ({"gateway": [8.1]}, Limit(at_most=8), "missed, inconclusive"),
        ({"nginx": [10.0]}, Limit(at_most=8), "failed"),
    ],
)
def test_a_budget_verdict_follows_from_the_median_and_its_interval(
    values: dict[str, list[float]], limit: Limit, expected: str
) -> None:
    assert analysis.budget_verdict(run_of(costs(**values)), COST, limit) == expected


def test_a_growth_row_is_the_ratio_of_two_points_pair_by_pair() -> None:
    row = BudgetRow(row="growth", of="short@1000", over="short@20", metric="cpu_us", must="1.2")
    many = Measurement(point=point(variant="1000"), samples={"gateway": Samples(values={"cpu_us": [11.0, 55.0]})})
    run = run_of(costs(gateway=[10.0, 50.0]), many, budget=(row,))
    assert analysis.budget_values(run, row, "gateway") == [1.1, 1.1]
    assert "| growth | 1.10 |" in report.budget(run)


def test_the_report_shows_a_failure_as_failed_and_never_as_a_number() -> None:
    measurement = costs(nginx=[2.0])
    measurement.samples["gateway"] = Samples(failed="status 502")
    text = report.markdown(run_of(measurement))
    assert "| cost (µs) | failed | – | ≤ 1.5 × nginx: failed | ≤ 8: failed |" in text.replace("| – | – |", "| – |")
    assert "| 20 CPU (µs) | failed | 2.00 (2.00–2.00) |" in text
    assert "- *gateway failed* at Short request: status 502" in text


def test_the_report_says_how_to_install_a_missing_system() -> None:
    assert "- Envoy was not installed: make bench-peers" in report.markdown(run_of(absent={"envoy": "make bench-peers"}))


def test_the_published_report_and_the_summary_in_the_readme_are_those_of_the_published_run() -> None:
    run = results.read(PUBLISHED / "run.json")
    assert run.measurements
    plots_of = dict(re.findall(r"!\[(.*)\]\((.*)\)", (PUBLISHED / "README.md").read_text()))
    assert set(plots_of.values()) == {path.name for path in PUBLISHED.glob("*.svg")}
    assert (PUBLISHED / "README.md").read_text() == report.markdown(run, plots_of) + "\n"
    page = (ROOT / "README.md").read_text()
    assert report.put_summary(page, report.summary(run, "docs/benchmarks/glance.svg", __version__)) == page


def test_each_figure_says_of_which_machine_and_commit_it_is(tmp_path: Path) -> None:
    run = run_of(costs(gateway=[10.0], nginx=[5.0]))
    run.versions = {"gateway": "kyma-proxy 9.9 (compiled, Python 3.11)"}
    plots.write_plots(run, tmp_path)
    named = "Measured on 2 cores of CPU, version 9.9, commit abc, 2026-01-01"
    for text in (report.markdown(run), *report.summary(run, "cost.svg", "9.9").values(), (tmp_path / "cost.svg").read_text()):
        assert named in text
    assert "older" not in "".join(report.summary(run, "cost.svg", "9.9").values())


def test_a_summary_of_another_version_says_that_it_is_older() -> None:
    run = run_of(costs(gateway=[10.0]))
    run.versions = {"gateway": "kyma-proxy 9.9 (compiled, Python 3.11)"}
    for text in report.summary(run, "cost.svg", "10.0").values():
        assert "which is older than this tree (version 10.0)" in text


def test_a_summary_needs_its_places_in_the_page() -> None:
    begin, end = "<!-- benchmark: plot -->", "<!-- end of benchmark: plot -->"
    assert report.put_summary(f"a\n{begin}\nold\n{end}\nb", {"plot": "new"}) == f"a\n{begin}\n\nnew\n\n{end}\nb"
    for page in ("", begin, f"{end} {begin}"):
        with pytest.raises(ValueError, match="no place"):
            report.put_summary(page, {"plot": "new"})


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("added_delay_p99_us", "added delay, 99th percentile (µs)"),
        ("first_byte_p50_us", "first byte, median (µs)"),
        ("delay_p99_ms", "delay, 99th percentile (ms)"),
        ("delay_max_ms", "delay max (ms)"),
        ("cpu_us", "CPU (µs)"),
    ],
)
def test_a_percentile_is_called_by_its_whole_name(short: str, full: str) -> None:
    assert figures.label(short) == full


def test_no_table_and_no_plot_of_the_published_report_has_a_short_word_for_a_percentile() -> None:
    for path in (PUBLISHED / "README.md", *PUBLISHED.glob("*.svg")):
        text = re.sub(r"<(?:path|use|g|clipPath)\b[^>]*>", "", path.read_text())
        assert re.findall(r"\bp(?:50|9\d)(?:\.\d+)?\b", text) == [], path.name


def test_a_system_that_failed_is_named_in_the_tables_and_in_the_plots(tmp_path: Path) -> None:
    measurement = costs(gateway=[10.0] * 6, nginx=[5.0] * 6)
    measurement.samples["envoy"] = Samples(failed="it falls behind")
    run = run_of(measurement)
    assert report.headline(run).splitlines()[-1] == "| Envoy | failed |"
    assert "- *Envoy failed* at Short request: it falls behind" in report.summary(run, "cost.svg", "1")["table"]
    plots.write_plots(run, tmp_path)
    shown = re.findall(r">\s*([^<>]*?)\s*</text>", (tmp_path / "cost.svg").read_text())
    assert {"Envoy", "failed"} <= set(shown)


def test_a_value_that_is_many_times_the_others_is_cut_off_and_written(tmp_path: Path) -> None:
    plots.write_plots(run_of(costs(gateway=[10.0] * 6, nginx=[5.0] * 6, envoy=[8000.0] * 6)), tmp_path)
    text = (tmp_path / "cost.svg").read_text()
    assert "8,000 →" in text
    assert "10.0" in text


def test_a_ratio_is_explained_where_the_pairs_and_the_medians_disagree() -> None:
    moved = run_of(
        costs(gateway=[10.0, 10.0, 40.0], nginx=[10.0, 20.0, 20.0])
    )  # the pairs are 1, 0.5, 2; the medians 10 and 20
    text = report.budget(moved)
    assert "| 1.00 × † (0.50–2.00) |" in text
    assert "- cost, ÷ nginx: 1.00 by pairs, 0.50 by medians" in text
    assert "†" not in report.budget(run_of(costs(gateway=[10.0] * 6, nginx=[5.0] * 6)))


def test_two_runs_are_shown_side_by_side_with_their_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = run_of(costs(gateway=[10.0] * 6, nginx=[5.0] * 6)), run_of(costs(gateway=[30.0] * 6, nginx=[10.0] * 6))
    other.machine = {"cores": 1, "processor": "Another CPU", "kernel": "Linux"}
    other.others_cores = 0.7
    for name, run in (("one", one), ("other", other)):
        run.save(tmp_path / name)
    assert beside.main([str(tmp_path / "one"), str(tmp_path / "other")]) == 0
    text = capsys.readouterr().out
    assert "| machine | 2 cores of CPU | 1 core of Another CPU |" in text
    assert "| cost | nginx | 2.00 × (2.00–2.00) | 3.00 × (3.00–3.00) |" in text
    assert "| Short request, CPU (µs) | gateway | 10.0 (10.0–10.0) | 30.0 (30.0–30.0) | 3.00 |" in text
    assert "0.7: **not quiet**" in text


def test_runs_without_a_common_point_are_said_to_have_none() -> None:
    text = beside.side_by_side(run_of(costs(gateway=[1.0])), run_of())
    assert text.count("Nothing is in both.") == 2


@pytest.mark.parametrize("content", [None, "", "{}", "# A page"])
def test_a_file_that_is_not_of_a_run_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    assert beside.main([str(path), str(PUBLISHED / "run.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: ")


def test_the_report_of_an_interrupted_run_says_that_it_is_not_complete() -> None:
    run = run_of(costs(gateway=[1.0]))
    run.interrupted = True
    assert "not complete" in report.markdown(run)


def test_the_budget_table_shows_ratios_and_verdicts() -> None:
    line = report.budget(run_of(costs(gateway=[9.0, 12.0, 10.0], nginx=[10.0] * 3))).splitlines()[2]
    assert (
        line == "| cost (µs) | 10.0 | 1.00 × (0.90–1.20) | – | ≤ 1.5 × nginx: kept, inconclusive | ≤ 8: missed, inconclusive |"
    )


@pytest.mark.parametrize(
    ("own", "added", "hops", "verdict"),
    [
        (50.0, 150.0, 90.0, "agree"),
        (150.0, 150.0, 90.0, "disagree: the gateway counts more than it adds"),
        (10.0, 500.0, 90.0, "disagree"),
        (130.0, 150.0, 90.0, "disagree"),
    ],
)
def test_the_gateways_own_overhead_is_compared_with_the_measurement_from_outside(
    own: float, added: float, hops: float, verdict: str
) -> None:
    first_bytes = {"direct": 20.0, "gateway": 20.0 + added, "nginx": 20.0 + hops}
    samples = {name: Samples(values={"first_byte_p50_us": [value]}) for name, value in first_bytes.items()}
    samples["gateway"].values["overhead_p50_us"] = [own]
    check = analysis.cross_check(Measurement(point=point(), samples=samples))
    assert check is not None
    assert check.verdict == verdict
    assert analysis.cross_check(costs(gateway=[1.0])) is None


def test_a_report_that_is_made_again_has_the_same_bytes(tmp_path: Path) -> None:
    measurement = Measurement(
        point=point("delay", ""),
        samples={"gateway": Samples(values={}, histograms={"delay": summarize(range(1, 1000)).histogram})},
    )
    run = run_of(costs(gateway=[10.0], nginx=[5.0]), measurement)
    run.save(tmp_path / "run.json")
    reports = []
    for directory in (tmp_path / "first", tmp_path / "second"):
        directory.mkdir()
        again = results.read(tmp_path / "run.json")
        text = report.markdown(again, plots.write_plots(again, directory))
        reports.append((text, {path.name: path.read_bytes() for path in directory.iterdir()}))
    assert reports[0] == reports[1]
    assert set(reports[0][1]) == {"cost.svg"}
    assert "](cost.svg)" in reports[0][0]


@pytest.mark.parametrize(
    ("own", "base", "verdict"),
    [
        ([1.1] * 6, SIX_ROUNDS, "regression"),
        ([0.9] * 6, SIX_ROUNDS, "improvement"),
        ([0.9, 1.1] * 3, SIX_ROUNDS, "within the noise"),
        ([2.0] * 5, SIX_ROUNDS[:5], "too few rounds"),
    ],
)
def test_a_difference_is_a_regression_only_outside_the_noise(own: list[float], base: list[float], verdict: str) -> None:
    compared = compare.comparisons(run_of(costs(gateway=own, base=base)))
    assert [one.verdict for one in compared] == [verdict]
    assert compare.table(compared).splitlines()[2].endswith(f"| {verdict} |")
    assert compare.exit_code(compared) == (verdict == "regression")


def test_a_failed_comparison_has_a_reason_and_exit_code_1() -> None:
    measurement = costs(base=[1.0])
    measurement.samples["gateway"] = Samples(failed="status 502")
    compared = compare.comparisons(run_of(measurement))
    assert compared[0].verdict == "failed: gateway: status 502"
    assert compare.exit_code(compared) == 1


def test_a_higher_rate_is_an_improvement() -> None:
    ratio = Interval(1.2, 1.3, 1.4, is_conclusive=True)
    assert compare.ratio_verdict(ratio, higher_is_better=True) == "improvement"
    assert compare.ratio_verdict(ratio, higher_is_better=False) == "regression"


def test_every_budget_row_names_a_measured_point_and_metric() -> None:
    points = {point.key: point for point in scenarios_of.read("all").points}
    for row in scenarios_of.read("all").budget:
        for key in filter(None, (row.of, row.over)):
            assert row.metric in points[key].report, row.row


@pytest.mark.parametrize("plan", ["quick", "bench", "compare", "all"])
def test_every_plan_can_be_read_and_every_script_has_a_model_id(plan: scenario.PlanName) -> None:
    points = scenarios_of.read(plan).points
    assert len({point.key for point in points}) == len(points) > 0
    for one in points:
        assert parse(one.provider.model) is not None


def test_an_error_in_the_scenarios_is_reported_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "scenarios.yaml"
    path.write_text(scenarios_of.FILE.read_text().replace("connections: 1,", "conections: 1,", 1))
    with pytest.raises(FileError, match="conections"):
        scenarios_of.read("all", path)
    path.write_text(scenarios_of.FILE.read_text().replace("must: 1 envoy", "must: cheap", 1))
    with pytest.raises(FileError, match="neither a number"):
        scenarios_of.read("all", path)


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
            for tick, size, first, end in itertools.product((1, 10), (0, 500), (0, 50), ENDS)
        ),
    ],
)
def test_the_model_id_of_a_script_is_parsed_to_the_same_script(script: Script) -> None:
    assert parse(script.model) == script


@pytest.mark.parametrize("model", ["stream-0-10ms", "stream-5-0ms", "error-200", "gpt-5", "short-in-french", "short-after-0ms"])
def test_other_model_ids_are_no_scripts(model: str) -> None:
    assert parse(model) is None


def test_a_slow_system_gets_fewer_requests_and_rounds() -> None:
    scenarios = scenarios_of.read("all")
    point = next(point for point in scenarios.points if point.key == "short@20")
    assert scenarios.load_for(point, "nginx") == point.load
    assert scenarios.load_for(point, "litellm").requests < point.load.requests / 10
    for point in scenarios.points:
        for name in scenarios.slow:
            load = scenarios.load_for(point, name)
            if load.shape == "closed" and scenarios.rounds_for(point, name):
                assert load.requests >= min(point.load.requests, 10 * load.connections)
                assert load.warm_up >= min(point.load.warm_up, 2 * load.connections)
    many = next(point for point in scenarios.points if point.key == "stream@5000")
    assert scenarios.rounds_for(many, "litellm") == 0
    point = next(point for point in scenarios.points if point.key == "short@20")
    assert scenarios.rounds_for(point, "litellm") < scenarios.rounds_for(point, "nginx") == 10
