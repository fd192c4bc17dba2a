"""When a source rests, for how long, and how it comes back; time and chance are arguments."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.routing.breaker import (
    BASE_OPEN_S,
    MAX_HINT_S,
    MAX_OPEN_S,
    STALE_S,
    BreakerTable,
    CircuitBreaker,
    FirstByteTimes,
    HourlyCounts,
    points_of,
)
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from tests.factories import default_snapshot, snapshot

REFUSED = AttemptFailure(FailureKind.CONNECT, "alpha", "no connection: refused")
LATE = AttemptFailure(FailureKind.FIRST_BYTE_TIMEOUT, "alpha", "no first byte within 60 s")


def status(code: int, retry_after: int | None = None) -> AttemptFailure:
    return AttemptFailure(FailureKind.STATUS, "alpha", f"answered {code}", code, retry_after)


def attempt(health: CircuitBreaker, now: float, failed: AttemptFailure | None, chance: float = 0.0) -> bool:
    """Ask the source where it admits that, and say whether it did."""
    if not health.admits(now):
        return False
    is_trial = health.begin(0.0)
    if failed is None:
        health.answered(now, is_trial=is_trial, first_byte_s=0.1)
    else:
        health.failed(now, failed, lambda: chance, is_trial=is_trial)
    return True


@pytest.mark.parametrize(("failed", "points"), [
    (REFUSED, 2), (LATE, 2), (AttemptFailure(FailureKind.CONNECT_TIMEOUT, "alpha", ""), 2),
    (status(401), 2), (status(403), 1), (status(404), 1), (AttemptFailure(FailureKind.OVERTAKEN, "alpha", ""), 1),
    (status(408), 1), (status(429), 1), (status(500), 1), (status(529), 1),
    (AttemptFailure(FailureKind.BROKEN, "alpha", ""), 1), (AttemptFailure(FailureKind.ERROR_EVENT, "alpha", ""), 1),
    (AttemptFailure(FailureKind.TOTAL_TIMEOUT, "alpha", ""), 1), (status(409), 0),
])  # fmt: skip
def test_what_a_failure_says_against_its_source(failed: AttemptFailure, points: int) -> None:
    assert points_of(failed) == points


def test_two_refusals_in_a_row_and_the_source_rests() -> None:
    health = CircuitBreaker()
    assert [attempt(health, now, REFUSED) for now in (0.0, 1.0, 2.0)] == [True, True, False]
    assert health.rests_for(1.0) == BASE_OPEN_S


def test_four_errors_in_a_row_and_the_source_rests() -> None:
    health = CircuitBreaker()
    assert [attempt(health, float(now), status(500)) for now in range(6)] == [True] * 4 + [False] * 2


def test_an_answer_in_between_forgives() -> None:
    health = CircuitBreaker()
    for now in range(0, 200, 20):
        assert attempt(health, float(now), REFUSED)
        assert attempt(health, now + 10.0, None)


def test_who_fails_half_the_time_rests_though_never_twice_in_a_row() -> None:
    health = CircuitBreaker()
    asked = sum(attempt(health, at / 10, status(500) if at % 2 else None) for at in range(100))
    assert asked < 20


def test_one_conflict_says_nothing() -> None:
    health = CircuitBreaker()
    assert all(attempt(health, float(now), status(409)) for now in range(50))


def test_a_hint_is_honoured_from_the_first_time_on_and_within_reason() -> None:
    health = CircuitBreaker()
    assert attempt(health, 100.0, status(429, 7))
    assert health.rests_for(100.0) == 7.0
    assert not attempt(health, 106.9, None)
    assert attempt(health, 107.0, None)
    assert attempt(health, 108.0, status(503, 10**6))
    assert health.rests_for(108.0) == MAX_HINT_S
    other = CircuitBreaker()
    other.failed(0.0, status(529, 60), lambda: 0.0, is_trial=False)
    assert other.rests_for(0.0) == 60.0
    another = CircuitBreaker()
    another.failed(0.0, status(401, 60), lambda: 0.0, is_trial=False)
    assert another.admits(0.0)  # with a key that is refused a hint means nothing


def test_after_a_rest_one_request_probes_and_the_others_go_elsewhere() -> None:
    health = CircuitBreaker()
    for now in (0.0, 1.0):
        attempt(health, now, REFUSED)
    assert not health.admits(10.9)
    assert health.admits(11.0)
    assert health.begin(0.0)
    assert health.word == "probing"
    assert not health.admits(11.0)
    health.answered(11.5, is_trial=True)
    assert health.word == "on"
    assert health.admits(11.5)


def test_a_probe_that_told_nothing_leaves_the_next_one_to_probe() -> None:
    health = CircuitBreaker()
    for now in (0.0, 1.0):
        attempt(health, now, REFUSED)
    assert health.begin(0.0)
    health.abandoned(is_trial=True)
    assert health.admits(11.0)
    assert health.begin(0.0)


def test_each_failed_probe_doubles_the_rest_up_to_a_limit_and_success_ends_that() -> None:
    health, now = CircuitBreaker(), 0.0
    attempt(health, now, REFUSED)
    attempt(health, now, REFUSED)
    rests = []
    for _ in range(6):
        rests.append(health.rests_for(now))
        now += health.rests_for(now)
        assert attempt(health, now, REFUSED)
    assert rests == [10.0, 20.0, 40.0, 80.0, 120.0, 120.0]
    now += MAX_OPEN_S
    assert attempt(health, now, None)
    attempt(health, now, REFUSED)
    attempt(health, now, REFUSED)
    assert health.rests_for(now) == BASE_OPEN_S


def test_answers_and_failures_of_before_the_rest_do_not_end_or_lengthen_it() -> None:
    health = CircuitBreaker()
    for now in (0.0, 1.0):
        attempt(health, now, REFUSED)
    health.answered(2.0, is_trial=False)
    assert not health.admits(2.0)
    for _ in range(100):
        health.failed(3.0, REFUSED, lambda: 0.0, is_trial=False)
    assert health.admits(11.0)


@pytest.mark.parametrize(("chance", "rest"), [(0.0, 10.0), (0.5, 11.0), (1.0, 12.0)])
def test_rests_are_spread_by_chance(chance: float, rest: float) -> None:
    health = CircuitBreaker()
    for _ in range(2):
        attempt(health, 0.0, REFUSED, chance)
    assert health.rests_for(0.0) == pytest.approx(rest)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([REFUSED, LATE]))
def test_in_an_outage_of_a_minute_with_a_request_each_4_s_at_most_4_attempts_reach_the_dead_source(
    seed: int, failed: AttemptFailure
) -> None:
    random = Random(seed)
    health = CircuitBreaker()
    begin = random.uniform(0, 4)
    reached = 0
    for number in range(16):
        now = begin + 4.0 * number
        if now <= begin + 60.0 and health.admits(now):
            reached += 1
            health.failed(now, failed, random.random, is_trial=health.begin(now))
    assert reached <= 4


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.sampled_from([None, REFUSED, status(500), status(429, 3), status(409)]))))
def test_whatever_happens_a_source_is_asked_again_once_it_is_well(history: list[tuple[float, AttemptFailure | None]]) -> None:
    health, now = CircuitBreaker(), 0.0
    for passed, failed in history:
        now += passed
        attempt(health, now, failed)
    now += max(MAX_HINT_S, 2 * MAX_OPEN_S)
    assert attempt(health, now, None)
    assert health.word == "on"


def test_why_a_source_rests_is_told_as_a_failure_that_was_not_tried() -> None:
    health = CircuitBreaker()
    attempt(health, 0.0, status(429, 30))
    told = health.resting(10.0, "alpha")
    assert (told.status, told.retry_after, told.was_tried) == (429, 20, False)
    assert told.detail == "rests for 20 s after: answered 429"


def test_hours_hold_a_day_and_no_more() -> None:
    hours = HourlyCounts()
    for hour in range(30):
        hours.add(hour * 3600.0, went_well=bool(hour % 2))
    assert hours.sums(29 * 3600.0) == (12, 12)
    assert hours.sums(40 * 3600.0) == (7, 6)
    assert hours.sums(1000 * 3600.0) == (0, 0)


@given(st.lists(st.tuples(st.floats(0, 10_000), st.booleans())))
def test_hours_count_what_a_list_would(events: list[tuple[float, bool]]) -> None:
    hours, now, seen = HourlyCounts(), 0.0, []
    for passed, went_well in events:
        now += passed
        hours.add(now, went_well=went_well)
        seen.append((int(now // 3600), went_well))
    recent = [went_well for hour, went_well in seen if hour > int(now // 3600) - 24]
    assert hours.sums(now) == (sum(recent), len(recent) - sum(recent))


def test_a_quantile_of_first_bytes_is_right_to_the_step_and_follows_the_times() -> None:
    times = FirstByteTimes()
    assert times.quantile_s(0.95) is None
    for number in range(100):
        times.add(0.0, 0.1 if number < 94 else 1.0)
    fast = times.quantile_s(0.9)
    slow = times.quantile_s(0.95)
    assert fast is not None
    assert slow is not None
    assert 0.1 <= fast <= 0.125
    assert 1.0 <= slow <= 1.25
    for _ in range(5000):
        times.add(0.0, 0.01)
    later = times.quantile_s(0.95)
    assert later is not None
    assert later < 0.02
    assert times.average_s == pytest.approx(0.01)


def test_what_a_reload_has_removed_or_now_reaches_otherwise_is_forgotten_and_the_rest_is_kept() -> None:
    table = BreakerTable()
    small, other = default_snapshot().models["small"].pool
    table.retain([small, other], ["m", "n"])
    kept, removed = table.of(small.key), table.of(other.key)
    model, gone = table.of_model("m"), table.of_model("n")
    table.retain([small], ["m"])
    assert table.of(small.key) is kept
    assert table.of_model("m") is model
    assert table.of(other.key) is not removed
    assert table.of_model("n") is not gone
    with_another_key = snapshot(ALPHA_KEY="another").models["small"].pool[0]
    assert with_another_key.key == small.key
    table.retain([with_another_key], ["m"])
    assert table.of(small.key) is not kept


def test_an_answer_that_was_broken_off_counts_once() -> None:
    health = CircuitBreaker()
    health.answered(0.0, is_trial=False)
    health.failed(1.0, AttemptFailure(FailureKind.BROKEN, "alpha", "stopped"), lambda: 0.0, is_trial=False, after_answer=True)
    assert health.hours.sums(1.0) == (0, 1)


def test_streams_and_whole_answers_have_times_of_their_own() -> None:
    health = CircuitBreaker()
    health.answered(0.0, is_trial=False, streams=False, first_byte_s=9.0)
    assert health.first_byte_s == 9.0
    health.answered(0.0, is_trial=False, streams=True, first_byte_s=0.1)
    health.answered(0.0, is_trial=False, first_byte_s=None)
    assert health.first_byte_s == 0.1
    assert health.first_bytes_of(streams=False).average_s == 9.0


def test_a_time_that_is_stale_counts_as_unknown_and_is_replaced_whole() -> None:
    health = CircuitBreaker()
    health.begin(0.0)
    health.answered(0.0, is_trial=False, first_byte_s=9.0)
    assert health.expected_first_byte_s(STALE_S) == 9.0
    assert health.expected_first_byte_s(STALE_S + 1) == 0.0
    health.begin(STALE_S + 1)
    health.answered(STALE_S + 1, is_trial=False, first_byte_s=0.1)
    assert health.expected_first_byte_s(STALE_S + 1) == pytest.approx(0.1)


def test_to_be_overtaken_is_no_outage() -> None:
    health = CircuitBreaker()
    for _ in range(4):
        health.failed(0.0, AttemptFailure(FailureKind.OVERTAKEN, "a", "another was faster"), lambda: 0.0, is_trial=False)
    assert not health.admits(1.0)
    assert health.may_bypass  # it is asked all the same when nobody else is left
    assert health.hours.sums(1.0) == (0, 0)


def test_who_is_cut_again_after_its_rest_is_left_alone() -> None:
    health = CircuitBreaker()
    broken = AttemptFailure(FailureKind.BROKEN, "a", "the connection was closed")
    for _ in range(4):
        health.failed(0.0, broken, lambda: 0.0, is_trial=False)
    assert health.may_bypass
    assert attempt(health, 10.0, broken)
    assert not health.may_bypass
