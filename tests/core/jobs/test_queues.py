"""So many jobs of an account run at once, so many wait, and whoever came first is served first."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.jobs import queues as rules
from kyma_proxy.core.jobs.job import Job
from kyma_proxy.core.jobs.queues import MAX_JOBS, JobQueues, Places
from kyma_proxy.errors import GatewayError, Kind

PLACES = Places(2, 3)


def job(name: str) -> Job:
    return Job(name, account=None, model="picture", n=1, price=0, created=0.0)


def filled(queues: JobQueues, count: int, owner: str = "a", places: Places = PLACES) -> list[Job]:
    jobs = [job(f"{owner}{at}") for at in range(count)]
    for one in jobs:
        queues.enter(owner, one, places)
    return jobs


def refusal(queues: JobQueues, owner: str, places: Places) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        queues.enter(owner, job("refused"), places)
    return caught.value


def test_so_many_run_and_the_others_wait_their_turn_in_their_order() -> None:
    queues = JobQueues()
    jobs = [job(f"j{at}") for at in range(5)]
    assert [queues.enter("a", one, PLACES) for one in jobs] == [[jobs[0]], [jobs[1]], [], [], []]
    assert (len(queues), queues.running) == (5, 2)
    assert queues.leave("a", jobs[1], PLACES) == [jobs[2]]
    assert queues.leave("a", jobs[0], PLACES) == [jobs[3]]
    assert queues.leave("a", jobs[2], PLACES) == [jobs[4]]
    assert queues.leave("a", jobs[3], PLACES) == []
    assert queues.leave("a", jobs[4], PLACES) == []
    assert (len(queues), queues.running) == (0, 0)


def test_a_full_queue_is_refused_and_says_so() -> None:
    queues = JobQueues()
    filled(queues, 5)
    error = refusal(queues, "a", PLACES)
    assert error.kind is Kind.RATE_LIMIT_EXCEEDED
    assert error.message == "The queue of image jobs is full: 2 run and 3 wait; try again when one has ended."
    assert error.retry_after == 5
    assert len(queues) == 5


def test_a_refused_job_has_taken_no_place() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5)
    for _ in range(10):
        refusal(queues, "a", PLACES)
    queues.leave("a", jobs[4], PLACES)
    assert queues.enter("a", job("now"), PLACES) == []
    assert len(queues) == 5


def test_accounts_do_not_wait_for_one_another() -> None:
    queues = JobQueues()
    filled(queues, 5, "a")
    one = job("b0")
    assert queues.enter("b", one, PLACES) == [one]
    assert (len(queues), queues.running) == (6, 3)
    assert queues.leave("b", one, PLACES) == []


def test_who_leaves_the_queue_gives_nobody_a_turn_and_is_never_run() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5)
    assert queues.leave("a", jobs[2], PLACES) == []
    assert queues.leave("a", jobs[0], PLACES) == [jobs[3]]


@pytest.mark.parametrize("queued", [0, 6])
def test_a_tier_without_image_jobs_is_told_so_at_once(queued: int) -> None:
    queues = JobQueues()
    error = refusal(queues, "a", Places(0, queued))
    assert (error.kind, error.kind.status) == (Kind.FORBIDDEN, 403)
    assert error.message == "This tier has no image jobs; GET /v1/limits/tiers says which tiers do."
    assert (len(queues), len(queues._queues)) == (0, 0)


def test_without_a_queue_only_running_jobs_are_taken() -> None:
    queues = JobQueues()
    one = job("one")
    assert queues.enter("a", one, Places(1, 0)) == [one]
    assert refusal(queues, "a", Places(1, 0)).kind is Kind.RATE_LIMIT_EXCEEDED


def test_a_higher_tier_runs_those_who_wait_before_those_who_come() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5, places=Places(1, 9))
    late = job("late")
    assert queues.enter("a", late, Places(3, 9)) == [jobs[1], jobs[2]]
    assert queues.leave("a", jobs[0], Places(6, 9)) == [jobs[3], jobs[4], late]


def test_a_higher_tier_with_room_for_all_runs_all_of_them() -> None:
    queues = JobQueues()
    jobs = filled(queues, 3, places=Places(1, 2))
    late = job("late")
    assert queues.enter("a", late, Places(4, 0)) == [jobs[1], jobs[2], late]


def test_a_lower_tier_lets_run_what_runs_and_gives_no_turn_until_it_fits() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5, places=Places(3, 9))
    assert queues.leave("a", jobs[0], Places(1, 9)) == []
    assert queues.leave("a", jobs[1], Places(1, 9)) == []
    assert queues.leave("a", jobs[2], Places(1, 9)) == [jobs[3]]


def test_a_lower_tier_takes_nobody_in_while_more_wait_than_it_allows() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5, places=Places(1, 9))
    assert refusal(queues, "a", Places(2, 1)).kind is Kind.RATE_LIMIT_EXCEEDED
    assert queues.running == 1
    assert queues.leave("a", jobs[0], Places(2, 1)) == [jobs[1], jobs[2]]


def test_all_accounts_together_have_so_many_places_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_JOBS", 4)
    queues = JobQueues()
    jobs = filled(queues, 4)
    error = refusal(queues, "b", PLACES)
    assert (error.kind, error.retry_after) == (Kind.OVERLOADED, 5)
    assert error.message == "Too many image jobs are under way; try again."
    assert "b" not in queues._queues
    queues.leave("a", jobs[0], PLACES)
    assert len(queues.enter("b", job("b"), PLACES)) == 1


def test_the_bound_on_all_is_ten_thousand() -> None:
    assert MAX_JOBS == 10_000


def test_jobs_of_before_a_restart_run_whatever_the_bounds_and_are_counted() -> None:
    queues = JobQueues()
    before = [job(f"old{at}") for at in range(4)]
    for one in before:
        queues.run("a", one)
    assert (len(queues), queues.running) == (4, 4)
    late = job("late")
    assert queues.enter("a", late, PLACES) == []
    assert [queues.leave("a", one, PLACES) for one in before] == [[], [], [late], []]


def test_who_is_nobody_has_a_queue_too() -> None:
    queues = JobQueues()
    jobs = filled(queues, 3, owner="", places=Places(1, 9))
    assert queues.leave("", jobs[0], Places(1, 9)) == [jobs[1]]


def test_empty_queues_are_forgotten() -> None:
    queues = JobQueues()
    for owner in ("a", "b", ""):
        jobs = filled(queues, 4, owner)
        for one in reversed(jobs):
            queues.leave(owner, one, PLACES)
    assert queues._queues == {}


class Account:
    """What one account should have, as simply as it can be said."""

    def __init__(self) -> None:
        self.running: list[Job] = []
        self.waiting: deque[Job] = deque()

    def turns(self, places: Places) -> list[Job]:
        turns = []
        while self.waiting and len(self.running) < places.at_once:
            turns.append(self.waiting.popleft())
            self.running.append(turns[-1])
        return turns


_tiers = st.builds(Places, st.integers(0, 4), st.integers(0, 4))
_steps = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.one_of(st.none(), _tiers)), max_size=80)


@settings(max_examples=200, deadline=None)
@given(_steps)
def test_whatever_comes_and_goes_everybody_has_their_turn(steps: list[tuple[str, int, Places | None]]) -> None:
    """A step changes an account's tier, or lets a job of it come (an even number) or go."""
    queues, count = JobQueues(), 0
    tiers = dict.fromkeys("abc", PLACES)
    accounts = {name: Account() for name in "abc"}
    for owner, number, tier in steps:
        tiers[owner] = tier or tiers[owner]
        places, account = tiers[owner], accounts[owner]
        there = [*account.running, *account.waiting]
        if number % 2 == 0:
            one = job(f"{owner}{count}")
            before = len(account.running)
            if not places.at_once or len(there) >= max(places.at_once, before) + places.queued:
                assert refusal(queues, owner, places).kind is (Kind.RATE_LIMIT_EXCEEDED if places.at_once else Kind.FORBIDDEN)
                continue
            turns = queues.enter(owner, one, places)
            count += 1
            account.waiting.append(one)
            assert turns == account.turns(places)
            assert not turns or len(account.running) <= places.at_once
            assert len(account.waiting) <= places.queued
        elif there:
            one = there[number % len(there)]
            (account.running if one in account.running else account.waiting).remove(one)
            assert queues.leave(owner, one, places) == account.turns(places)
            assert len(account.running) >= min(places.at_once, len(account.running) + len(account.waiting))
        assert queues.running == sum(len(one.running) for one in accounts.values())
        assert len(queues) == sum(len(one.running) + len(one.waiting) for one in accounts.values())
        assert set(queues._queues) == {name for name, one in accounts.items() if one.running or one.waiting}
    for owner, account in accounts.items():
        while there := [*account.running, *account.waiting]:
            (account.running or account.waiting).remove(there[0])
            assert queues.leave(owner, there[0], PLACES) == account.turns(PLACES)
    assert (len(queues), queues.running, queues._queues) == (0, 0, {})
