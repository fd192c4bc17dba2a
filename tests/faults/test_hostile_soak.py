"""The hostile soak judges what it has measured: each promise that was not kept is named, and nothing else."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from bench.client import RequestTiming
from tests.faults.hostile_soak import HELD, MAX_GROWTH_MIB, Result, Times, broken_promises, grown, report
from tests.faults.observed_gateway import State

STATE = State(
    memory_mib=80.0, tasks=2, sockets=9, connections=0, in_flight=0, held=0, buffered=0, threads=5, children=1, waiting=0
)  # fmt: skip


def times(late_ns: int, *, errors: tuple[str, ...] = ()) -> Times:
    made = Times()
    for error in (None, *errors):
        timing = RequestTiming(1000)
        timing.first_byte_ns, timing.delays_ns, timing.error = 1000 + late_ns, [late_ns, 3 * late_ns], error
        made.add(timing)
    return made


def result(beside: Times, after: State = STATE, kind: str = "connections") -> Result:
    return Result(times(1_000_000), {kind: beside}, STATE, after, Counter({"members: 400": 2}))


def test_nearly_twice_as_late_is_in_time_and_the_report_says_so() -> None:
    made = result(times(1_900_000))
    assert broken_promises(made) == []
    assert "| first byte (1) | connections | 1.00 | 1.90 | 1.00 | 1.90 | 1.90 | 1.9 |" in report(made)
    assert "members: 400 (2)" in report(made)


def test_later_than_that_is_a_broken_promise_of_each_measure() -> None:
    assert len(broken_promises(result(times(2_100_000)))) == 3


def test_beside_hostile_bodies_and_answers_no_event_is_late() -> None:
    for kind in ("bodies", "answers"):
        assert broken_promises(result(times(16_000_000), kind=kind)) == []
        assert f"event, late by, beside hostile {kind}: more than 50 ms" in broken_promises(
            result(times(17_000_000), kind=kind)
        )


def test_a_kind_beside_which_nothing_was_measured_is_named() -> None:
    assert len(broken_promises(result(Times()))) == 3


def test_a_good_caller_who_failed_is_named_with_the_reason() -> None:
    assert broken_promises(result(times(1_000_000, errors=("status 503",) * 2))) == ["a good caller failed: status 503 (2)"]


@pytest.mark.parametrize("name", HELD)
def test_whatever_is_not_given_back_is_named(name: str) -> None:
    more = msgspec.structs.replace(STATE, **{name: getattr(STATE, name) + 1})
    assert broken_promises(result(times(1_000_000), more)) == [f"{name} is not back where it began"]
    assert grown(more, STATE) == []


def test_memory_may_grow_a_little() -> None:
    assert grown(STATE, msgspec.structs.replace(STATE, memory_mib=80.0 + MAX_GROWTH_MIB)) == []
    assert grown(STATE, msgspec.structs.replace(STATE, memory_mib=81.0 + MAX_GROWTH_MIB)) == ["memory_mib"]


def test_without_any_good_answer_nothing_is_proven() -> None:
    assert broken_promises(Result(Times(), {}, STATE, STATE, Counter())) == ["no good caller was served"]
