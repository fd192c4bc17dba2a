"""An account's jobs run and wait up to the limits of its tier, in the order of their arrival."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.jobs.job import ImageRequest, Job
from kyma_proxy.core.jobs.queues import MAX_JOBS, JobLimits, JobQueues
from kyma_proxy.errors import GatewayError, Kind

LIMITS = JobLimits(2, 3)


def job(name: str) -> Job:
    return Job(name, account=None, model="picture", n=1, price=0, created=0.0)


def sized(size: int) -> Job:
    one = job("sized")
    one.request = ImageRequest(
        model="picture", prompt="", n=1, size=None, images=("x" * size,), extra=(), response_format=None
    )  # fmt: skip
    return one


def filled(queues: JobQueues, count: int, owner: str = "a", limits: JobLimits = LIMITS) -> list[Job]:
    jobs = [job(f"{owner}{at}") for at in range(count)]
    for one in jobs:
        queues.add(owner, one, limits)
    return jobs


def refusal(queues: JobQueues, owner: str, limits: JobLimits) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        queues.add(owner, job("refused"), limits)
    return caught.value


def test_jobs_run_up_to_the_limit_and_the_others_in_the_order_of_their_arrival() -> None:
    queues = JobQueues()
    jobs = [job(f"j{at}") for at in range(5)]
    assert [queues.add("a", one, LIMITS) for one in jobs] == [[jobs[0]], [jobs[1]], [], [], []]
    assert (len(queues), queues.running) == (5, 2)
    assert queues.remove("a", jobs[1], LIMITS) == [jobs[2]]
    assert queues.remove("a", jobs[0], LIMITS) == [jobs[3]]
    assert queues.remove("a", jobs[2], LIMITS) == [jobs[4]]
    assert queues.remove("a", jobs[3], LIMITS) == []
    assert queues.remove("a", jobs[4], LIMITS) == []
    assert (len(queues), queues.running) == (0, 0)


def test_the_pictures_of_one_account_leave_room_for_those_of_others() -> None:
    queues = JobQueues(max_bytes=1000)
    first = sized(200)
    queues.add("a", first, LIMITS)
    with pytest.raises(GatewayError, match="too large together") as refused:
        queues.add("a", sized(51), LIMITS)
    assert refused.value.kind is Kind.RATE_LIMIT_EXCEEDED
    queues.add("a", sized(50), LIMITS)
    queues.add("b", sized(700), LIMITS)  # a lone one may be larger
    queues.remove("a", first, LIMITS)
    queues.add("a", sized(200), LIMITS)


def test_without_accounts_only_the_limit_of_all_applies() -> None:
    queues = JobQueues(max_bytes=1000)
    queues.add("", sized(500), LIMITS)
    queues.add("", sized(500), LIMITS)
    with pytest.raises(GatewayError, match="Too many image jobs"):
        queues.add("", sized(1), LIMITS)


def test_a_job_for_a_full_queue_is_refused_with_the_limits_in_the_message() -> None:
    queues = JobQueues()
    filled(queues, 5)
    error = refusal(queues, "a", LIMITS)
    assert error.kind is Kind.RATE_LIMIT_EXCEEDED
    assert error.message == "The queue of image jobs is full: 2 run and 3 wait; try again when one has ended."
    assert error.retry_after == 5
    assert len(queues) == 5


def test_a_refused_job_takes_no_slot() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5)
    for _ in range(10):
        refusal(queues, "a", LIMITS)
    queues.remove("a", jobs[4], LIMITS)
    assert queues.add("a", job("now"), LIMITS) == []
    assert len(queues) == 5


def test_accounts_do_not_wait_for_one_another() -> None:
    queues = JobQueues()
    filled(queues, 5, "a")
    one = job("b0")
    assert queues.add("b", one, LIMITS) == [one]
    assert (len(queues), queues.running) == (6, 3)
    assert queues.remove("b", one, LIMITS) == []


def test_a_waiting_job_that_is_removed_frees_no_running_slot_and_never_runs() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5)
    assert queues.remove("a", jobs[2], LIMITS) == []
    assert queues.remove("a", jobs[0], LIMITS) == [jobs[3]]


@pytest.mark.parametrize("queued", [0, 6])
def test_a_job_of_a_tier_without_image_jobs_is_forbidden(queued: int) -> None:
    queues = JobQueues()
    error = refusal(queues, "a", JobLimits(0, queued))
    assert (error.kind, error.kind.status) == (Kind.FORBIDDEN, 403)
    assert error.message == "This tier has no image jobs; GET /v1/limits/tiers says which tiers do."
    assert (len(queues), queues.owners) == (0, frozenset())


def test_with_a_queue_limit_of_zero_a_job_that_can_not_run_is_refused() -> None:
    queues = JobQueues()
    one = job("one")
    assert queues.add("a", one, JobLimits(1, 0)) == [one]
    assert refusal(queues, "a", JobLimits(1, 0)).kind is Kind.RATE_LIMIT_EXCEEDED


def test_after_a_rise_of_the_tier_waiting_jobs_run_before_new_ones() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5, limits=JobLimits(1, 9))
    late = job("late")
    assert queues.add("a", late, JobLimits(3, 9)) == [jobs[1], jobs[2]]
    assert queues.remove("a", jobs[0], JobLimits(6, 9)) == [jobs[3], jobs[4], late]


def test_after_a_rise_of_the_tier_all_jobs_run_if_the_limit_allows() -> None:
    queues = JobQueues()
    jobs = filled(queues, 3, limits=JobLimits(1, 2))
    late = job("late")
    assert queues.add("a", late, JobLimits(4, 0)) == [jobs[1], jobs[2], late]


def test_after_a_fall_of_the_tier_running_jobs_go_on_and_none_starts_until_they_fit() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5, limits=JobLimits(3, 9))
    assert queues.remove("a", jobs[0], JobLimits(1, 9)) == []
    assert queues.remove("a", jobs[1], JobLimits(1, 9)) == []
    assert queues.remove("a", jobs[2], JobLimits(1, 9)) == [jobs[3]]


def test_after_a_fall_of_the_tier_new_jobs_are_refused_while_too_many_wait() -> None:
    queues = JobQueues()
    jobs = filled(queues, 5, limits=JobLimits(1, 9))
    assert refusal(queues, "a", JobLimits(2, 1)).kind is Kind.RATE_LIMIT_EXCEEDED
    assert queues.running == 1
    assert queues.remove("a", jobs[0], JobLimits(2, 1)) == [jobs[1], jobs[2]]


def test_all_accounts_together_have_a_limit_of_jobs() -> None:
    queues = JobQueues(max_jobs=4)
    jobs = filled(queues, 4)
    error = refusal(queues, "b", LIMITS)
    assert (error.kind, error.retry_after) == (Kind.OVERLOADED, 5)
    assert error.message == "Too many image jobs are in progress; try again."
    assert "b" not in queues.owners
    queues.remove("a", jobs[0], LIMITS)
    assert len(queues.add("b", job("b"), LIMITS)) == 1


def test_the_default_limit_for_all_accounts_is_ten_thousand_jobs() -> None:
    assert MAX_JOBS == 10_000


def test_jobs_from_before_a_restart_run_beyond_the_limits_and_are_counted() -> None:
    queues = JobQueues()
    before = [job(f"old{at}") for at in range(4)]
    for one in before:
        queues.add_running("a", one)
    assert (len(queues), queues.running) == (4, 4)
    late = job("late")
    assert queues.add("a", late, LIMITS) == []
    assert [queues.remove("a", one, LIMITS) for one in before] == [[], [], [late], []]


def test_jobs_without_an_account_share_a_queue() -> None:
    queues = JobQueues()
    jobs = filled(queues, 3, owner="", limits=JobLimits(1, 9))
    assert queues.remove("", jobs[0], JobLimits(1, 9)) == [jobs[1]]


def test_an_owner_without_jobs_is_forgotten() -> None:
    queues = JobQueues()
    for owner in ("a", "b", ""):
        jobs = filled(queues, 4, owner)
        for one in reversed(jobs):
            queues.remove(owner, one, LIMITS)
    assert queues.owners == frozenset()


class Account:
    """The simple model of one account's jobs."""

    def __init__(self) -> None:
        self.running: list[Job] = []
        self.waiting: deque[Job] = deque()

    def promoted(self, limits: JobLimits) -> list[Job]:
        promoted = []
        while self.waiting and len(self.running) < limits.concurrent:
            promoted.append(self.waiting.popleft())
            self.running.append(promoted[-1])
        return promoted


_tiers = st.builds(JobLimits, st.integers(0, 4), st.integers(0, 4))
_steps = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.one_of(st.none(), _tiers)), max_size=80)


@settings(max_examples=200)
@given(_steps)
def test_after_any_sequence_of_jobs_and_tiers_the_queues_equal_a_simple_model(
    steps: list[tuple[str, int, JobLimits | None]],
) -> None:
    """A step changes an account's tier, and adds a job of it (an even number) or removes one."""
    queues, count = JobQueues(), 0
    tiers = dict.fromkeys("abc", LIMITS)
    accounts = {name: Account() for name in "abc"}
    for owner, number, tier in steps:
        tiers[owner] = tier or tiers[owner]
        limits, account = tiers[owner], accounts[owner]
        there = [*account.running, *account.waiting]
        if number % 2 == 0:
            one = job(f"{owner}{count}")
            before = len(account.running)
            if not limits.concurrent or len(there) >= max(limits.concurrent, before) + limits.queued:
                assert refusal(queues, owner, limits).kind is (
                    Kind.RATE_LIMIT_EXCEEDED if limits.concurrent else Kind.FORBIDDEN
                )
                continue
            promoted = queues.add(owner, one, limits)
            count += 1
            account.waiting.append(one)
            assert promoted == account.promoted(limits)
            assert not promoted or len(account.running) <= limits.concurrent
            assert len(account.waiting) <= limits.queued
        elif there:
            one = there[number % len(there)]
            (account.running if one in account.running else account.waiting).remove(one)
            assert queues.remove(owner, one, limits) == account.promoted(limits)
            assert len(account.running) >= min(limits.concurrent, len(account.running) + len(account.waiting))
        assert queues.running == sum(len(one.running) for one in accounts.values())
        assert len(queues) == sum(len(one.running) + len(one.waiting) for one in accounts.values())
        assert queues.owners == {name for name, one in accounts.items() if one.running or one.waiting}
    for owner, account in accounts.items():
        while there := [*account.running, *account.waiting]:
            (account.running or account.waiting).remove(there[0])
            assert queues.remove(owner, there[0], LIMITS) == account.promoted(LIMITS)
    assert (len(queues), queues.running, queues.owners) == (0, 0, frozenset())
