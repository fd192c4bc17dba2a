"""Whom a failure keeps from asking: the account that met it, all callers of the endpoint, or all callers of the source."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.routing.breaker import MAX_ACCOUNTS, MISSING_S, CircuitBreaker
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind


def status(code: int, retry_after: int | None = None) -> AttemptFailure:
    return AttemptFailure(FailureKind.STATUS, "a", f"answered {code}", code, retry_after)


def failure(kind: FailureKind, *, nothing_came: bool = False) -> AttemptFailure:
    return AttemptFailure(kind, "a", "failed", nothing_came=nothing_came)


REFUSED, LATE = failure(FailureKind.CONNECT), failure(FailureKind.FIRST_BYTE_TIMEOUT)
SOURCE_WIDE = [
    REFUSED, failure(FailureKind.CONNECT_TIMEOUT), failure(FailureKind.BROKEN, nothing_came=True), status(401),
]  # fmt: skip
PROVOKABLE = [
    *(status(code) for code in (402, 403, 408, 412, 424, 429, 498, 499, 500, 502, 503, 529)), status(429, 600),
    status(503, 600), LATE, failure(FailureKind.IDLE_TIMEOUT), failure(FailureKind.TOTAL_TIMEOUT),
    failure(FailureKind.BROKEN), failure(FailureKind.ERROR_EVENT), failure(FailureKind.OVERTAKEN),
]  # fmt: skip
MISSING = [status(404), status(405), status(501)]


def ask(breaker: CircuitBreaker, now: float, failed: AttemptFailure | None, account: str | None = None) -> bool:
    """Ask the source if the account may; True if it may."""
    if not breaker.allows(now, account):
        return False
    permit = breaker.acquire(now, account)
    if failed is None:
        permit.success(now)
    else:
        permit.failure(now, failed, lambda: 0.0)
    return True


@pytest.mark.parametrize("failed", PROVOKABLE, ids=str)
def test_one_account_keeps_itself_away_and_nobody_else(failed: AttemptFailure) -> None:
    breaker = CircuitBreaker()
    asked = sum(ask(breaker, 0.0, failed, "guilty") for _ in range(20))
    assert 1 <= asked <= 4
    assert not breaker.allows(1.0, "guilty")
    assert breaker.allows(1.0, "innocent")
    assert breaker.allows(1.0)


@pytest.mark.parametrize("failed", PROVOKABLE, ids=str)
def test_two_accounts_in_one_streak_keep_all_away(failed: AttemptFailure) -> None:
    breaker = CircuitBreaker()
    for account in ("first", "first", "second", "second"):
        ask(breaker, 0.0, failed, account)
    assert not breaker.allows(1.0, "third")
    assert not breaker.allows(1.0)


@pytest.mark.parametrize("failed", PROVOKABLE, ids=str)
def test_a_success_of_anybody_ends_the_streak(failed: AttemptFailure) -> None:
    breaker = CircuitBreaker()
    for account in ("first", "second"):
        for _ in range(3):
            ask(breaker, 0.0, failed, account)
            ask(breaker, 0.0, None, "third")
    assert breaker.allows(1.0, "third")


@pytest.mark.parametrize("failed", SOURCE_WIDE, ids=str)
@pytest.mark.parametrize("account", [None, "somebody"])
def test_what_nobody_can_provoke_keeps_all_away_from_every_endpoint(failed: AttemptFailure, account: str | None) -> None:
    table = BreakerTable()
    for endpoint in ("chat", "embeddings", "chat", "embeddings"):
        ask(table.at("a m", endpoint), 0.0, failed, account)
    for endpoint in ("chat", "embeddings", "responses"):
        assert not table.at("a m", endpoint).allows(1.0, "another")
    assert table.at("a n", "chat").allows(1.0)
    assert ask(table.at("a m", "responses"), 10.0, None, "another")
    for endpoint in ("chat", "embeddings", "responses"):  # it can be reached, so none need wait any longer
        assert table.at("a m", endpoint).allows(10.0, "another")


@pytest.mark.parametrize("failed", PROVOKABLE, ids=str)
@pytest.mark.parametrize("account", [None, "somebody"])
def test_failures_of_one_endpoint_say_nothing_of_another(failed: AttemptFailure, account: str | None) -> None:
    table = BreakerTable()
    for _ in range(9):
        ask(table.at("a m", "responses"), 0.0, failed, account)
    assert not table.at("a m", "responses").allows(1.0, account)
    assert table.at("a m", "chat").allows(1.0, account)


HISTORY = st.lists(
    st.tuples(
        st.floats(0, 40), st.sampled_from([*PROVOKABLE, None]), st.sampled_from(["guilty", "innocent"]), st.booleans()
    ),
    max_size=80,
)  # fmt: skip


@given(HISTORY)
def test_in_no_history_one_account_keeps_another_away(
    history: list[tuple[float, AttemptFailure | None, str, bool]],
) -> None:
    """All failures are the guilty one's; they may come late, and after an answer has begun."""
    breaker, now = CircuitBreaker(), 0.0
    pending = []
    for passed, failed, account, comes_late in history:
        now += passed
        if not breaker.allows(now, account):
            assert account == "guilty"
            continue
        permit = breaker.acquire(now, account)
        if account == "innocent" or failed is None:
            permit.success(now)
        elif comes_late:
            pending.append((permit, failed))
        else:
            permit.success(now)
            breaker.record_broken(now, failed, lambda: 0.0, account=account)
        assert breaker.allows(now, "innocent")
    for permit, failed in pending:
        permit.failure(now, failed, lambda: 0.0)
        assert breaker.allows(now, "innocent")


@given(st.lists(
    st.tuples(st.floats(0, 15), st.sampled_from([REFUSED, LATE, status(401), status(402)]), st.sampled_from(["a", "b", "c"])),
    max_size=80,
), st.booleans())  # fmt: skip
def test_in_no_history_more_than_four_attempts_a_minute_of_one_account_reach_a_dead_source(
    history: list[tuple[float, AttemptFailure, str]], has_accounts: bool
) -> None:
    breaker, now = CircuitBreaker(), 1.0
    reached: dict[str | None, list[float]] = defaultdict(list)
    for passed, failed, name in history:
        now += passed
        account = name if has_accounts else None
        if ask(breaker, now, failed, account):
            reached[account].append(now)
    for times in reached.values():
        assert all(later - earlier >= 60.0 for earlier, later in zip(times, times[4:], strict=False))


def test_a_trial_that_one_account_fails_does_not_lengthen_the_time_for_all() -> None:
    breaker = CircuitBreaker()
    for account in ("first", "second"):
        ask(breaker, 0.0, LATE, account)
    assert not breaker.allows(9.0, "third")
    assert ask(breaker, 10.0, LATE, "first")
    assert not breaker.allows(10.0, "first")
    assert ask(breaker, 10.0, LATE, "second")  # the second that fails
    assert not breaker.allows(29.0, "third")
    assert ask(breaker, 30.0, None, "third")
    assert breaker.allows(30.0, "third")


def test_the_status_shows_what_one_account_met_until_anybody_has_an_answer() -> None:
    breaker = CircuitBreaker()
    for _ in range(4):
        ask(breaker, 0.0, status(500), "guilty")
    assert (breaker.state(1.0), breaker.allows(1.0, "innocent")) == ("open", True)
    ask(breaker, 1.0, None, "innocent")
    assert (breaker.state(1.0), breaker.allows(1.0, "guilty")) == ("closed", False)


def test_accounts_without_end_take_no_memory_without_end() -> None:
    breaker = CircuitBreaker()
    for at in range(10 * MAX_ACCOUNTS):
        ask(breaker, 0.0, status(500), f"account {at}")
        ask(breaker, 0.0, None, "innocent")
    assert len(breaker._accounts) <= MAX_ACCOUNTS
    for hour in (1.0, 2.0):
        ask(breaker, hour * 3600, None, "innocent")
    assert breaker._accounts == {}


@pytest.mark.parametrize("said", MISSING, ids=str)
def test_a_missing_endpoint_is_no_failure_and_is_left_out_for_a_while(said: AttemptFailure) -> None:
    breaker = CircuitBreaker()
    assert ask(breaker, 0.0, said)
    assert (breaker.state(0.0), breaker.is_missing(0.0), breaker.may_be_bypassed(0.0)) == ("closed", True, False)
    assert not ask(breaker, MISSING_S - 1, None)
    assert breaker.skipped(0.0, "a").is_missing
    assert ask(breaker, MISSING_S, None)
    assert breaker.allows(MISSING_S)


@pytest.mark.parametrize("said", MISSING, ids=str)
def test_a_source_that_has_answered_within_a_day_lacks_nothing(said: AttemptFailure) -> None:
    breaker = CircuitBreaker()
    ask(breaker, 0.0, None)
    assert all(ask(breaker, float(now), said) for now in range(20))
    assert (breaker.state(20.0), breaker.hours.sums(20.0)) == ("closed", (1, 0))
    assert ask(breaker, 25 * 3600.0, said)
    assert not breaker.allows(25 * 3600.0)


@pytest.mark.parametrize("said", MISSING, ids=str)
def test_a_main_endpoint_is_missing_after_four_such_answers_in_a_row(said: AttemptFailure) -> None:
    breaker = CircuitBreaker(is_main=True)
    assert [ask(breaker, 0.0, said) for _ in range(5)] == [True] * 4 + [False]


def test_an_endpoint_is_missing_for_an_account_at_once_and_for_all_when_two_were_told() -> None:
    breaker = CircuitBreaker()
    assert [ask(breaker, 0.0, status(404), account) for account in ("a", "a", "b", "b", "c")] == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert breaker.is_missing(0.0)
