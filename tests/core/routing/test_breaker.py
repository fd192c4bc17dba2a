"""When a circuit breaker opens, for how long, and how it closes; time and chance are arguments."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.routing.breaker import CircuitBreaker, Permit
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.circuit import BASE_OPEN_S, MAX_HINT_S, MAX_OPEN_S, points_of
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.history import STALE_S
from tests.factories import default_snapshot, snapshot

REFUSED = AttemptFailure(FailureKind.CONNECT, "alpha", "no connection: refused")
LATE = AttemptFailure(FailureKind.FIRST_BYTE_TIMEOUT, "alpha", "no first byte within 60 s")


def status(code: int, retry_after: int | None = None) -> AttemptFailure:
    return AttemptFailure(FailureKind.STATUS, "alpha", f"answered {code}", code, retry_after)


def attempt(breaker: CircuitBreaker, now: float, failed: AttemptFailure | None, chance: float = 0.0) -> bool:
    """Ask the source if its breaker allows that; True if it does."""
    if not breaker.allows(now):
        return False
    permit = breaker.acquire(now)
    if failed is None:
        permit.success(now, first_byte_s=0.1)
    else:
        permit.failure(now, failed, lambda: chance)
    return True


@pytest.mark.parametrize(("failed", "points"), [
    (REFUSED, 2), (LATE, 2), (AttemptFailure(FailureKind.CONNECT_TIMEOUT, "alpha", ""), 2),
    (status(401), 2), (status(403), 1), (status(404), 1), (AttemptFailure(FailureKind.OVERTAKEN, "alpha", ""), 1),
    (status(408), 1), (status(429), 1), (status(500), 1), (status(529), 1),
    (AttemptFailure(FailureKind.BROKEN, "alpha", ""), 1), (AttemptFailure(FailureKind.ERROR_EVENT, "alpha", ""), 1),
    (AttemptFailure(FailureKind.TOTAL_TIMEOUT, "alpha", ""), 1), (status(409), 0),
])  # fmt: skip
def test_points_of_each_failure(failed: AttemptFailure, points: int) -> None:
    assert points_of(failed) == points


def test_two_refused_connections_in_a_row_open_the_breaker() -> None:
    breaker = CircuitBreaker()
    assert [attempt(breaker, now, REFUSED) for now in (0.0, 1.0, 2.0)] == [True, True, False]
    assert breaker.open_for_s(1.0) == BASE_OPEN_S


def test_four_errors_in_a_row_open_the_breaker() -> None:
    breaker = CircuitBreaker()
    assert [attempt(breaker, float(now), status(500)) for now in range(6)] == [True] * 4 + [False] * 2


def test_a_success_in_between_resets_the_count() -> None:
    breaker = CircuitBreaker()
    for now in range(0, 200, 20):
        assert attempt(breaker, float(now), REFUSED)
        assert attempt(breaker, now + 10.0, None)


def test_a_source_that_fails_half_the_time_opens_though_never_twice_in_a_row() -> None:
    breaker = CircuitBreaker()
    asked = sum(attempt(breaker, at / 10, status(500) if at % 2 else None) for at in range(100))
    assert asked < 20


def test_a_409_says_nothing_against_the_source() -> None:
    breaker = CircuitBreaker()
    assert all(attempt(breaker, float(now), status(409)) for now in range(50))


def test_a_trial_that_ends_with_a_409_closes_the_breaker_as_a_success_does_and_counts_as_none() -> None:
    breaker = CircuitBreaker()
    for now in (0.0, 0.0, 10.0):  # two open it, and a failed trial lengthens its time
        attempt(breaker, now, REFUSED)
    assert breaker.open_for_s(10.0) == 2 * BASE_OPEN_S
    assert attempt(breaker, 30.0, status(409))
    assert (breaker.state(30.0), breaker.hours.sums(30.0)) == ("closed", (0, 3))
    assert [attempt(breaker, now, status(500)) for now in (31.0, 31.0, 31.0, 31.0, 31.0)] == [True] * 4 + [False]
    assert breaker.open_for_s(31.0) == BASE_OPEN_S


def test_retry_after_opens_the_breaker_at_once_and_within_reason() -> None:
    breaker = CircuitBreaker()
    assert attempt(breaker, 100.0, status(429, 7))
    assert breaker.open_for_s(100.0) == 7.0
    assert not attempt(breaker, 106.9, None)
    assert attempt(breaker, 107.0, None)
    assert attempt(breaker, 108.0, status(503, 10**6))
    assert breaker.open_for_s(108.0) == MAX_HINT_S
    other = CircuitBreaker()
    other.record_failure(0.0, status(529, 60), lambda: 0.0)
    assert other.open_for_s(0.0) == 60.0
    another = CircuitBreaker()
    another.record_failure(0.0, status(401, 60), lambda: 0.0)
    assert another.allows(0.0)  # with a key that is refused a hint means nothing


def test_half_open_lets_one_trial_through_and_its_success_closes_the_breaker() -> None:
    breaker = CircuitBreaker()
    for now in (0.0, 1.0):
        attempt(breaker, now, REFUSED)
    assert (breaker.state(10.9), breaker.allows(10.9)) == ("open", False)
    assert (breaker.state(11.0), breaker.allows(11.0)) == ("half_open", True)
    permit = breaker.acquire(11.0)
    assert permit.trials
    assert breaker.state(11.0) == "half_open"
    assert not breaker.allows(11.0)
    permit.success(11.5)
    assert breaker.state(11.5) == "closed"
    assert breaker.allows(11.5)


def test_a_trial_that_is_released_leaves_the_next_request_to_try() -> None:
    breaker = CircuitBreaker()
    for now in (0.0, 1.0):
        attempt(breaker, now, REFUSED)
    permit = breaker.acquire(11.0)
    permit.release()
    following = breaker.acquire(11.0)
    assert following.trials


def test_each_failed_trial_doubles_the_time_up_to_a_limit_and_success_ends_that() -> None:
    breaker, now = CircuitBreaker(), 0.0
    attempt(breaker, now, REFUSED)
    attempt(breaker, now, REFUSED)
    rests = []
    for _ in range(6):
        rests.append(breaker.open_for_s(now))
        now += breaker.open_for_s(now)
        assert attempt(breaker, now, REFUSED)
    assert rests == [10.0, 20.0, 40.0, 80.0, 120.0, 120.0]
    now += MAX_OPEN_S
    assert attempt(breaker, now, None)
    attempt(breaker, now, REFUSED)
    attempt(breaker, now, REFUSED)
    assert breaker.open_for_s(now) == BASE_OPEN_S


def test_verdicts_of_requests_from_before_it_opened_neither_close_nor_lengthen_it() -> None:
    breaker = CircuitBreaker()
    for now in (0.0, 1.0):
        attempt(breaker, now, REFUSED)
    breaker.record_success(2.0)
    assert not breaker.allows(2.0)
    for _ in range(100):
        breaker.record_failure(3.0, REFUSED, lambda: 0.0)
    assert breaker.allows(11.0)


@pytest.mark.parametrize(("chance", "rest"), [(0.0, 10.0), (0.5, 11.0), (1.0, 12.0)])
def test_the_time_that_it_is_open_is_spread_by_chance(chance: float, rest: float) -> None:
    breaker = CircuitBreaker()
    for _ in range(2):
        attempt(breaker, 0.0, REFUSED, chance)
    assert breaker.open_for_s(0.0) == pytest.approx(rest)


@given(st.integers(0, 2**32), st.sampled_from([REFUSED, LATE]))
def test_in_an_outage_of_a_minute_with_a_request_each_4_s_at_most_4_attempts_reach_the_dead_source(
    seed: int, failed: AttemptFailure
) -> None:
    random = Random(seed)
    breaker = CircuitBreaker()
    begin = random.uniform(0, 4)
    reached = 0
    for number in range(16):
        now = begin + 4.0 * number
        if now <= begin + 60.0 and breaker.allows(now):
            reached += 1
            attempt(breaker, now, failed, random.random())
    assert reached <= 4


@given(st.lists(st.tuples(st.floats(0, 50), st.sampled_from([None, REFUSED, status(500), status(429, 3), status(409)]))))
def test_whatever_happens_a_source_is_asked_again_once_it_is_well(history: list[tuple[float, AttemptFailure | None]]) -> None:
    breaker, now = CircuitBreaker(), 0.0
    for passed, failed in history:
        now += passed
        attempt(breaker, now, failed)
    now += max(MAX_HINT_S, 2 * MAX_OPEN_S)
    assert attempt(breaker, now, None)
    assert breaker.state(now) == "closed"


def test_a_skipped_source_is_a_failure_that_was_not_tried() -> None:
    breaker = CircuitBreaker()
    attempt(breaker, 0.0, status(429, 30))
    told = breaker.skipped(10.0, "alpha")
    assert (told.status, told.retry_after, told.was_tried) == (429, 20, False)
    assert told.detail == "is skipped for 20 s after: answered 429"


def test_what_a_reload_has_removed_or_now_reaches_otherwise_is_forgotten_and_the_rest_is_kept() -> None:
    table = BreakerTable()
    small, other = default_snapshot().models["small"].pool
    table.retain([small, other], ["m", "n"])
    kept, removed = table.at(small.key, "chat"), table.at(other.key, "chat")
    model, gone = table.of_model("m"), table.of_model("n")
    table.retain([small], ["m"])
    assert table.at(small.key, "chat") is kept
    assert table.of_model("m") is model
    assert table.at(other.key, "chat") is not removed
    assert table.of_model("n") is not gone
    with_another_key = snapshot(ALPHA_KEY="another").models["small"].pool[0]
    assert with_another_key.key == small.key
    table.retain([with_another_key], ["m"])
    assert table.at(small.key, "chat") is not kept


def test_an_answer_that_was_broken_off_counts_once() -> None:
    breaker = CircuitBreaker()
    breaker.record_success(0.0)
    breaker.record_broken(1.0, AttemptFailure(FailureKind.BROKEN, "alpha", "stopped"), lambda: 0.0)
    assert breaker.hours.sums(1.0) == (0, 1)


def test_streams_and_whole_answers_have_times_of_their_own() -> None:
    breaker = CircuitBreaker()
    breaker.record_success(0.0, streams=False, first_byte_s=9.0)
    assert breaker.first_byte_s == 9.0
    breaker.record_success(0.0, streams=True, first_byte_s=0.1)
    breaker.record_success(0.0, first_byte_s=None)
    assert breaker.first_byte_s == 0.1
    assert breaker.first_bytes_of(streams=False).average_s == 9.0


def test_a_time_that_is_stale_counts_as_unknown_and_is_replaced_whole() -> None:
    breaker = CircuitBreaker()
    breaker.acquire(0.0)
    breaker.record_success(0.0, first_byte_s=9.0)
    assert breaker.expected_first_byte_s(STALE_S) == 9.0
    assert breaker.expected_first_byte_s(STALE_S + 1) == 0.0
    breaker.acquire(STALE_S + 1)
    breaker.record_success(STALE_S + 1, first_byte_s=0.1)
    assert breaker.expected_first_byte_s(STALE_S + 1) == pytest.approx(0.1)


def test_being_overtaken_opens_the_breaker_and_is_no_outage() -> None:
    breaker = CircuitBreaker()
    for _ in range(4):
        breaker.record_failure(0.0, AttemptFailure(FailureKind.OVERTAKEN, "a", "another was faster"), lambda: 0.0)
    assert not breaker.allows(1.0)
    assert breaker.may_be_bypassed(1.0)  # it is asked all the same when nobody else is left
    assert breaker.hours.sums(1.0) == (0, 0)


def test_a_source_that_is_cut_again_in_its_trial_may_not_bypass() -> None:
    breaker = CircuitBreaker()
    broken = AttemptFailure(FailureKind.BROKEN, "a", "the connection was closed")
    for _ in range(4):
        breaker.record_failure(0.0, broken, lambda: 0.0)
    assert breaker.may_be_bypassed(1.0)
    assert attempt(breaker, 10.0, broken)
    assert not breaker.may_be_bypassed(1.0)


@given(st.lists(st.sampled_from(["success", "failure", "release"]), min_size=1, max_size=5), st.booleans())
def test_a_permit_acts_once(calls: list[str], is_trial: bool) -> None:
    breakers = CircuitBreaker(), CircuitBreaker()
    for breaker, made in zip(breakers, (calls, calls[:1]), strict=True):
        if is_trial:
            for _ in range(2):
                attempt(breaker, 0.0, REFUSED)
        permit = breaker.acquire(20.0)
        assert bool(permit.trials) is is_trial
        for call in made:
            if call == "success":
                permit.success(20.0)
            elif call == "failure":
                permit.failure(20.0, REFUSED, lambda: 0.0)
            else:
                permit.release()
    many, one = [
        (breaker.state(20.0), breaker.allows(20.0), breaker.open_for_s(20.0), breaker.hours.sums(20.0)) for breaker in breakers
    ]
    assert many == one


def test_a_bypass_beside_a_trial_neither_ends_the_trial_nor_decides() -> None:
    breaker = CircuitBreaker()
    for _ in range(2):
        attempt(breaker, 0.0, REFUSED)
    trial = breaker.acquire(10.0)
    beside = [breaker.acquire(10.0) for _ in range(3)]
    for permit in beside:
        assert not permit.trials
    released, succeeds, fails = beside
    released.release()
    succeeds.success(11.0)
    fails.failure(12.0, REFUSED, lambda: 0.0)
    assert (breaker.state(12.0), breaker.allows(12.0)) == ("half_open", False)
    trial.failure(13.0, REFUSED, lambda: 0.0)
    assert breaker.open_for_s(13.0) == 2 * BASE_OPEN_S


ENDINGS = (
    "success",
    "release",
    REFUSED,
    status(500),
    status(409),
    status(429, 3),
    AttemptFailure(FailureKind.OVERTAKEN, "a", ""),
)


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["acquire", "bypass", *ENDINGS]), st.integers(0, 9)), max_size=60))
def test_in_whatever_order_permits_come_and_go_there_is_one_trial_at_most(
    calls: list[tuple[float, str | AttemptFailure, int]],
) -> None:
    breaker, now = CircuitBreaker(), 100.0
    for _ in range(2):
        attempt(breaker, now, REFUSED)
    permits: list[Permit] = []
    for passed, call, at in calls:
        now += passed
        if call in ("acquire", "bypass"):
            permits += [breaker.acquire(now)] if call == "bypass" or breaker.allows(now) else []
        elif permits:
            permit = permits.pop(at % len(permits))
            if isinstance(call, AttemptFailure):
                permit.failure(now, call, lambda: 0.0)
            elif call == "success":
                permit.success(now)
            else:
                permit.release()
        trials = [circuit for permit in permits for circuit in permit.trials]
        assert len({id(circuit) for circuit in trials}) == len(trials)  # one of the source and one of its endpoint at most
        assert breaker.allows(now) is (breaker.state(now) == "closed" or (breaker.state(now) == "half_open" and not trials))
        assert not (trials and breaker.state(now) == "closed")


def test_a_bypass_asks_an_open_source_as_its_trial() -> None:
    breaker = CircuitBreaker()
    for _ in range(2):
        attempt(breaker, 0.0, REFUSED)
    assert not breaker.allows(1.0)
    permit = breaker.acquire(1.0)
    permit.success(1.0)
    assert breaker.state(1.0) == "closed"
