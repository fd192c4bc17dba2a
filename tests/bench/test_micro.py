"""The microbenchmarks measure something, a case that fails is no figure, and the table is a function of the JSON."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench.micro import builds, child, measuring, report
from bench.micro.builds import ROOT
from bench.micro.cases import CASES, Case, chosen
from bench.micro.child import count, serve, taken, time
from bench.micro.findings import Counted, Failed, Found, Said, Timed
from bench.micro.report import Build, Figure, Row, Run

FOUND = Timed(2.0, 100.0)


def measured(operation: Callable[[], object]) -> Found:
    return FOUND if operation() else Failed("unseen")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_does_something_every_time(case: Case) -> None:
    operation = case.make()
    assert all(operation() for _ in range(3))


def test_a_case_has_a_name_of_its_own_and_is_chosen_by_it_or_by_its_part() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert chosen([]) == CASES
    assert [case.name for case in chosen(["plan", "patch.1kb"])] == ["patch.1kb", "plan.four", "plan.one", "plan.layers"]
    with pytest.raises(ValueError, match=r"there is no pla; the parts are counters, "):
        chosen(["pla"])


def test_what_two_counts_have_in_common_is_gone_in_their_difference() -> None:
    start_up, operation = 305_584_861, 1037
    few, many = (start_up + number * operation for number in (50, 1050))
    assert measuring.per_operation(few, 50, many, 1050) == operation


@pytest.mark.parametrize(("few", "many"), [((100, 1), (100, 2)), ((100, 1), (90, 2)), ((100, 2), (200, 2))])
def test_counts_that_make_no_sense_are_no_figure(few: tuple[int, int], many: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="operations"):
        measuring.per_operation(*few, *many)


def test_a_figure_comes_from_the_logs_of_both_processes(tmp_path: Path) -> None:
    for number, instructions in ((7, 1_000), (8, 9_000)):
        (tmp_path / f"log.{number}").write_text(f"==1== Events    : Ir\n==1== Collected : {instructions}\n==1== \n")
    (tmp_path / "log.9").write_text("==1== Callgrind, a call-graph generating cache profiler\n")
    assert measuring.figure(Counted(1, 7, 5, 8), tmp_path) == Figure(value=2000.0)
    assert measuring.figure(Counted(1, 7, 5, 9), tmp_path).failed == "callgrind has not said how many instructions there were"
    assert measuring.figure(Counted(1, 7, 5, 10), tmp_path).value is None
    assert measuring.figure(Failed("a reason"), tmp_path) == Figure(failed="a reason")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_case_that_fails_has_a_reason_and_the_others_are_measured(tmp_path: Path) -> None:
    cases = [
        Case("one.good", "", lambda: lambda: True),
        Case("one.unmade", "", lambda: 1 // 0),  # type: ignore[arg-type, return-value]
        Case("one.raising", "", lambda: lambda: 1 % 0),
        Case("one.empty", "", lambda: lambda: b""),
        Case("one.deadly", "", lambda: lambda: os._exit(3)),
        Case("one.killed", "", lambda: lambda: os.kill(os.getpid(), 9)),
        Case("two.good", "", lambda: lambda: True),
    ]
    with (tmp_path / "said").open("w+b") as out:
        serve(cases, measured, out.fileno())
        out.seek(0)
        said = [msgspec.json.decode(line, type=Said) for line in out]
    assert {each.name: each.found for each in said} == {
        "one.good": FOUND,
        "one.unmade": Failed("ZeroDivisionError: integer division or modulo by zero"),
        "one.raising": Failed("ZeroDivisionError: integer modulo by zero"),
        "one.empty": Failed("the operation gave nothing"),
        "one.deadly": Failed("its process ended with exit code 3"),
        "one.killed": Failed("its process ended with signal SIGKILL"),
        "two.good": FOUND,
    }


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_case_is_counted_by_two_processes_and_timed_over_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_COUNTED_S", 0.0)
    monkeypatch.setattr(child, "_ROUNDS", 3)
    case = chosen(["read_head.1mb"])[0]
    counted, timed = taken(case, count).found, taken(case, time).found
    assert isinstance(counted, Counted)
    assert (counted.few, counted.many, counted.few_process == counted.many_process) == (1, 2, False)
    assert isinstance(timed, Timed)
    assert timed.ratio > 1


def test_cases_that_the_process_does_not_come_to_have_failed() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "proxy"), str(ROOT)))}
    figures = dict(measuring.measure(["no.such", "plan.one"], environment, counts=False))
    assert len(figures) == 2
    assert all(figure.failed and "there is no no.such" in figure.failed for figure in figures.values())


def test_an_installed_build_of_another_tree_is_noticed(tmp_path: Path) -> None:
    for file, text in {"tree/a.py": "1", "tree/b.py": "2", "tree/c.py": "3", "other/a.py": "1", "other/b.py": "x"}.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    assert builds.differing(tmp_path / "tree", tmp_path / "other") == 2
    assert builds.differing(tmp_path / "tree", tmp_path / "tree") == 0


def run(*rows: Row, builds: tuple[Build, ...]) -> Run:
    return Run(
        at="2026-07-06",
        commit="abc",
        python="3.11.7",
        machine="Linux",
        unit=report.INSTRUCTIONS,
        builds=[*builds],
        rows=[*rows],
    )


def test_the_table_is_a_function_of_the_json() -> None:
    rows = (
        Row(name="a.b", title="a part", figures={"installed": Figure(value=500.4), "source": Figure(value=1000.2)}),
        Row(name="a.c", title="another", figures={"installed": Figure(failed="no luck"), "source": Figure(value=7.0)}),
    )
    made = run(*rows, builds=(Build(name="installed", suffix=".so", differing=2), Build(name="source", suffix=".py")))
    assert report.table(msgspec.json.decode(msgspec.json.encode(made), type=Run)) == (
        "kyma-proxy abc, 2026-07-06, Python 3.11.7, Linux; instructions per operation.\n"
        "installed: kyma_proxy.gateway is a .so file; 2 of its files are not those of the tree.\n"
        "source: kyma_proxy.gateway is a .py file.\n\n"
        "| case |  | installed, instructions | source, instructions | installed ÷ source |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| a.b | a part | 500 | 1,000 | 0.50 |\n"
        "| a.c | another | failed | 7 | – |\n\n"
        "Failed:\n\n- a.c, installed: no luck"
    )
    assert made.has_failed


def test_a_build_that_can_not_be_imported_is_a_failure_without_figures() -> None:
    broken = run(Row(name="a.b", title="", figures={}), builds=(Build(name="installed", failed="ImportError: no proxy"),))
    assert broken.has_failed
    assert report.table(broken).endswith("| a.b |  | – |\n\nFailed:\n\n- installed: ImportError: no proxy")
    assert not run(Row(name="a.b", title="", figures={"source": Figure(value=1.0)}), builds=(Build(name="source"),)).has_failed
