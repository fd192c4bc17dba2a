"""The counts of instructions: profiles are read as callgrind writes them, idle time is taken off, and the budget holds."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from bench.instructions import __main__ as command
from bench.instructions.counting import Count, count, missing_program
from bench.instructions.profile import Function, Profile, per_unit, read, shares
from bench.instructions.report import Budget, difference, exceeded, table, where
from bench.processes import ROOT
from bench.systems.nginx import Nginx

# As valgrind 3.19 writes it: names once, then by number; positions also relative; a call's cost on the line after it.
PROFILE = """\
# callgrind format
version: 1
thread: 1
positions: line
events: Ir
summary: 1360

ob=(1) /lib/kyma_proxy__mypyc.so
fl=(1) ???
fn=(1) CPyDef_gateway___serve
10 100
+2 20
cob=(2) /lib/libpython3.11.so.1.0
cfi=(2) object.c
cfn=(2) PyObject_GetAttr
calls=7 30
* 240
cfn=(1)
calls=1 10
-1 999

ob=(2)
fl=(2)
fn=(2)
30 200
cob=(3) /lib/libc.so.6
cfn=(3) malloc
calls=7 1
31 40

ob=(3)
fn=(3)
1 40

totals: 1360
"""
SERVE = Function("CPyDef_gateway___serve", "/lib/kyma_proxy__mypyc.so")
GET = Function("PyObject_GetAttr", "/lib/libpython3.11.so.1.0")
MALLOC = Function("malloc", "/lib/libc.so.6")


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """The profile above."""
    path = tmp_path / "counted.1-01"
    path.write_text(PROFILE)
    return read([path])


def test_a_profile_has_what_each_function_takes_with_and_without_what_it_calls(profile: Profile) -> None:
    assert profile.own == {SERVE: 120, GET: 200, MALLOC: 40}
    assert profile.inclusive == {SERVE: 360, GET: 240, MALLOC: 40}  # not the call of itself
    assert profile.calls == {GET: 7, MALLOC: 7, SERVE: 1}
    assert profile.total == 360


def test_the_profiles_of_all_threads_are_added_up(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"counted.1-0{number}").write_text(PROFILE)
    assert read(tmp_path.iterdir()).total == 720


def test_each_instruction_is_for_one_thing(profile: Profile) -> None:
    found = shares(profile)
    assert found == {
        "compiled functions of ours": 120, "the interpreter: attribute access": 200, "the C library": 40,
    }  # fmt: skip
    assert found.total() == profile.total


def test_what_an_idle_system_does_anyway_is_no_part_of_a_request(profile: Profile) -> None:
    idle = Profile(Counter({MALLOC: 10}), Counter({MALLOC: 10}), Counter())
    one = per_unit(profile, idle, share=2.0, units=10)
    assert one.own == {SERVE: 12, GET: 20, MALLOC: 2}


def counted(total: int) -> Count:
    one = Profile(Counter({SERVE: total}), Counter({SERVE: total}), Counter())
    return Count(one, one)


@pytest.mark.parametrize(("total", "is_over"), [(1000, False), (1020, False), (1021, True)])
def test_the_budget_is_exceeded_beyond_its_tolerance(total: int, *, is_over: bool) -> None:
    budget = Budget(tolerance=0.02, instructions={"plain": {"short": 1000}})
    assert bool(exceeded({"plain": {"short": counted(total), "event": counted(10**9)}}, budget)) is is_over


def test_the_budget_names_rows_and_loads_that_there_are() -> None:
    budget = msgspec.yaml.decode((ROOT / "bench" / "budget.yaml").read_bytes(), type=Budget)
    rows = {row.name for row in command.rows(Nginx())}
    assert budget.instructions.keys() <= rows
    assert {load for loads in budget.instructions.values() for load in loads} <= {"short", "event", "prompt"}


def test_a_comparison_shows_what_has_changed_function_by_function() -> None:
    text = difference({"plain": {"short": counted(1000)}}, {"plain": {"short": counted(900)}})
    assert "plain, a short request: 1,000 -> 900 (-10.0%)" in text
    assert "| -100 | 1,000 | 900 | gateway.serve |" in text


def test_the_tables_have_a_line_for_each_row() -> None:
    counts = {"plain": {"short": counted(1000)}}
    assert "| plain | 1,000 |  |  |" in table(counts)
    assert "| 1,000 | 1,000 | gateway.serve |" in where("plain", "short", counts["plain"]["short"])


@pytest.mark.skipif(missing_program() is not None or Nginx().command() is None, reason="needs valgrind and nginx")
def test_a_real_server_is_counted(tmp_path: Path) -> None:
    row = next(row for row in command.rows(Nginx()) if row.name == "nginx")
    counts = asyncio.run(count(row, ["short", "event"], tmp_path))
    short, event = (counts[load].whole.total for load in ("short", "event"))
    assert 10_000 < short < 100_000
    assert 1_000 < event < 10_000
    assert re.search(r"\| nginx \| [\d,]+ \|", table({"nginx": counts}))
