"""Scenarios of one's own: they are measured as the shipped ones are, and each mistake in them is told with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import results, suite
from bench.forecast import Forecast, in_words
from bench.scenario_file import read
from tests.bench.test_suite import relay
from tests.processes import ROOT

OWN_SCENARIOS = """
scenarios:
  - name: mine
    title: My own load
    report: [cpu_us, rate_per_s]
    load: {connections: 2, requests: 20, warm: 2}
    rounds: 2
"""
WITH_POINTS = f"""{OWN_SCENARIOS.replace("warm", "wram")}\
    points:
      a:
        load: {{shape: square}}
      b: {{laod: {{}}}}
"""
WITH_BUDGET = f"""{OWN_SCENARIOS}\
budget:
  - {{row: r, of: mime, metric: cpu_us}}
  - {{row: r, of: mine, metric: start_s, must: x}}
"""


@pytest.mark.timeout(120)
def test_scenarios_of_ones_own_are_measured_and_the_time_that_is_left_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "mine.yaml", tmp_path / "run.json"
    file.write_text(OWN_SCENARIOS)
    code = suite.main(
        ["--scenarios", str(file), "--systems", "one", "--no-pin", "--out", str(out)], systems={"one": relay("one")}
    )
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "## My own load" in shown.out
    assert "## The budget" not in shown.out
    assert "|  |\n" not in shown.out
    assert [len(one.samples["one"].values["cpu_us"]) for one in results.read(out).measurements] == [2]
    first, second = (line for line in shown.err.splitlines() if "round" in line)
    assert "left" not in first
    assert "; about 10 s left" in second


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("scenarios: [", ["1: this is not YAML"]),
        ("scenarios: 5", ["1: expected a list"]),
        ("", ["1: expected a mapping"]),
        ("scenarios:\n  - {name: a, title: A}", ["2: object missing required field `report`"]),
        (OWN_SCENARIOS.replace("cpu_us", "cpu_ms"), ["5: there is no metric `cpu_ms`; did you mean `cpu_us`?"]),
        (OWN_SCENARIOS.replace("connections", "conections"), ["6: there is no key `conections` here; did you mean `connecti"]),
        (OWN_SCENARIOS.replace("2, requests: 20", "two, requests: 20"), ["6: expected a whole number, got a text"]),
        (OWN_SCENARIOS.replace("20", "0"), ["6: a load of the shape `closed` needs `requests`"]),
        (OWN_SCENARIOS + "    provider: {evnts: 3}\n", ["8: there is no key `evnts` here; did you mean `events`?"]),
        (OWN_SCENARIOS.replace("title", "titel").replace("20,", "many,"), ["4: there is no key `titel`", "6: expected"]),
        (OWN_SCENARIOS.replace("requests", "window_s: long, requests"), ["6: expected a number or nothing, got a text"]),
        (OWN_SCENARIOS + "    rounds: 3\n", ["8: the key `rounds` is here twice"]),
        (WITH_POINTS, ["6: there is no key `wram`", "10: `square` is none of its values; there", "11: there is no"]),
        (WITH_BUDGET, ["9: there is no point `mime`; did", "10: the point `mine` does not report `start_s`", "10: r: 'x'"]),
    ],
)  # fmt: skip
def test_each_mistake_in_scenarios_is_told_with_its_line_and_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problems: list[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert suite.main(["--scenarios", str(file), "--out", str(tmp_path / "run.json")]) == 2
    lines = capsys.readouterr().err.splitlines()
    for problem in problems:
        assert any(line.startswith(f"{file}:{problem}") for line in lines), lines
    assert not (tmp_path / "run.json").exists()


def test_the_scenarios_that_the_page_about_performance_shows_can_be_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "PERFORMANCE.md").read_text()
    (text,) = re.findall(r"```yaml\n(scenarios:.*?)```", page, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text)
    (point,) = read("bench", tmp_path / "mine.yaml").points
    assert (point.key, point.rounds, point.load.connections, point.provider.events) == ("mine", 10, 50, 300)


def test_scenarios_that_are_not_there_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.main(["--scenarios", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/none.yaml: no such file or directory\n"


def test_the_time_that_is_left_is_that_of_samples_of_the_same_kind() -> None:
    timing = Forecast()
    assert timing.seconds_left({("a", "one"): 3}) is None
    timing.note(("a", "one"), 2.0)
    timing.note(("a", "two"), 10.0)
    timing.note(("a", "one"), 4.0)
    assert timing.seconds_left({("a", "one"): 2, ("b", "two"): 1}) == pytest.approx(2 * 3.0 + 10.0)
    assert timing.seconds_left({("b", "three"): 1}) == pytest.approx((3.0 + 10.0) / 2)
    assert in_words(timing.seconds_left({})) == "; about 10 s left"
    assert in_words(600.0) == "; about 10 min left"
