"""The microbenchmarks: each case does something, a failed case gives no figure, and the JSON alone gives the table."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench.micro import builds, report, runner
from bench.micro.cases import CASES, Case, select_cases
from bench.micro.child import count_instructions, measure_case, measure_time, run_cases
from bench.micro.report import Build, Figure, Row, Run
from bench.micro.results import CaseResult, Failure, InstructionCounts, RelativeTime, Result
from bench.processes import ROOT

MEASURED = RelativeTime(2.0, 100.0)


def measure(operation: Callable[[], object]) -> Result:
    return MEASURED if operation() else Failure("the operation returned nothing this time")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_operation_of_every_case_returns_something_each_time(case: Case) -> None:
    operation = case.make()
    assert all(operation() for _ in range(3))


def test_cases_have_unique_names_and_are_selected_by_name_or_part() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert select_cases([]) == CASES
    assert [case.name for case in select_cases(["plan", "patch.1kb"])] == ["patch.1kb", "plan.four", "plan.one", "plan.layers"]
    with pytest.raises(ValueError, match=r"there is no case pla; the parts are breaker, counters, "):
        select_cases(["pla"])


def test_the_difference_of_two_counts_excludes_the_start_up() -> None:
    start_up, operation = 305_584_861, 1037
    few, many = (start_up + number * operation for number in (50, 1050))
    assert runner.per_operation(few, 50, many, 1050) == operation


@pytest.mark.parametrize(("few", "many"), [((100, 1), (100, 2)), ((100, 1), (90, 2)), ((100, 2), (200, 2))])
def test_inconsistent_counts_give_no_figure(few: tuple[int, int], many: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="operations"):
        runner.per_operation(*few, *many)


def test_a_figure_is_read_from_the_logs_of_both_processes(tmp_path: Path) -> None:
    for number, instructions in ((7, 1_000), (8, 9_000)):
        (tmp_path / f"log.{number}").write_text(f"==1== Events    : Ir\n==1== Collected : {instructions}\n==1== \n")
    (tmp_path / "log.9").write_text("==1== Callgrind, a call-graph generating cache profiler\n")
    assert runner.figure_of(InstructionCounts(1, 7, 5, 8), tmp_path) == Figure(value=2000.0)
    assert runner.figure_of(InstructionCounts(1, 7, 5, 9), tmp_path).failed == "callgrind wrote no instruction count"
    assert runner.figure_of(InstructionCounts(1, 7, 5, 10), tmp_path).value is None
    assert runner.figure_of(Failure("a reason"), tmp_path) == Figure(failed="a reason")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_failed_case_has_a_reason_and_the_others_are_measured(tmp_path: Path) -> None:
    cases = [
        Case("one.good", "", lambda: lambda: True),
        Case("one.unprepared", "", lambda: 1 // 0),  # type: ignore[arg-type, return-value]
        Case("one.raising", "", lambda: lambda: 1 % 0),
        Case("one.empty", "", lambda: lambda: b""),
        Case("one.deadly", "", lambda: lambda: os._exit(3)),
        Case("one.killed", "", lambda: lambda: os.kill(os.getpid(), 9)),
        Case("two.good", "", lambda: lambda: True),
    ]
    with (tmp_path / "results").open("w+b") as out:
        run_cases(cases, measure, out.fileno())
        out.seek(0)
        results = [msgspec.json.decode(line, type=CaseResult) for line in out]
    assert {each.name: each.result for each in results} == {
        "one.good": MEASURED,
        "one.unprepared": Failure("ZeroDivisionError: integer division or modulo by zero"),
        "one.raising": Failure("ZeroDivisionError: integer modulo by zero"),
        "one.empty": Failure("the operation returned nothing"),
        "one.deadly": Failure("the process ended with exit code 3"),
        "one.killed": Failure("the process ended with signal SIGKILL"),
        "two.good": MEASURED,
    }


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_case_is_counted_in_two_processes_and_timed_relative_to_the_reference() -> None:
    case = select_cases(["routing_fields.1mb"])[0]
    counted = measure_case(case, functools.partial(count_instructions, min_s=0.0)).result
    timed = measure_case(case, functools.partial(measure_time, rounds=3)).result
    assert isinstance(counted, InstructionCounts)
    assert (counted.few, counted.many, counted.few_process == counted.many_process) == (1, 2, False)
    assert isinstance(timed, RelativeTime)
    assert timed.ratio > 1


def test_cases_that_the_measuring_process_does_not_reach_have_failed() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "proxy"), str(ROOT)))}
    figures = dict(runner.measure_cases(["no.such", "plan.one"], environment, counts=False))
    assert len(figures) == 2
    assert all(figure.failed and "there is no case no.such" in figure.failed for figure in figures.values())


def test_the_files_that_differ_from_an_installed_build_are_counted(tmp_path: Path) -> None:
    for file, text in {"tree/a.py": "1", "tree/b.py": "2", "tree/c.py": "3", "other/a.py": "1", "other/b.py": "x"}.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    assert builds.count_differing(tmp_path / "tree", tmp_path / "other") == 2
    assert builds.count_differing(tmp_path / "tree", tmp_path / "tree") == 0


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


def test_the_table_can_be_made_again_from_the_json() -> None:
    rows = (
        Row(name="a.b", title="a part", figures={"installed": Figure(value=500.4), "source": Figure(value=1000.2)}),
        Row(name="a.c", title="another", figures={"installed": Figure(failed="a reason"), "source": Figure(value=7.0)}),
    )
    original = run(*rows, builds=(Build(name="installed", suffix=".so", differing=2), Build(name="source", suffix=".py")))
    assert report.table(msgspec.json.decode(msgspec.json.encode(original), type=Run)) == (
        "kyma-proxy abc, 2026-07-06, Python 3.11.7, Linux; instructions per operation.\n"
        "installed: kyma_proxy.gateway is a .so file; 2 of its files differ from the tree.\n"
        "source: kyma_proxy.gateway is a .py file.\n\n"
        "| case |  | installed, instructions | source, instructions | installed ÷ source |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| a.b | a part | 500 | 1,000 | 0.50 |\n"
        "| a.c | another | failed | 7 | – |\n\n"
        "Failed:\n\n- a.c, installed: a reason"
    )
    assert original.has_failed


def test_a_build_that_can_not_be_imported_fails_the_run_without_figures() -> None:
    broken = run(Row(name="a.b", title="", figures={}), builds=(Build(name="installed", failed="ImportError: no kyma_proxy"),))
    assert broken.has_failed
    assert report.table(broken).endswith("| a.b |  | – |\n\nFailed:\n\n- installed: ImportError: no kyma_proxy")
    assert not run(Row(name="a.b", title="", figures={"source": Figure(value=1.0)}), builds=(Build(name="source"),)).has_failed
