"""The law of an image job's life: what may follow what, and endings that are final but for what was lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.jobs.job import ENDINGS, EXPIRES_AFTER_S, STATUSES, Job, JobEvent, JobState, Picture, status_of

# Rows are states, columns events; a dash can't happen.
LAW = """
            start   accept    move_on  deliver    fail    expire   cancel    lose      resume
queued      asking  -         -        -          failed  expired  refunded  refunded  -
asking      -       accepted  asking   succeeded  failed  expired  refunded  refunded  -
accepted    -       -         asking   succeeded  failed  expired  refunded  refunded  -
succeeded   -       -         -        -          -       -        -         refunded  accepted
failed      -       -         -        -          -       -        -         -         -
refunded    -       -         -        -          -       -        -         -         -
expired     -       -         -        -          -       -        -         -         -
"""
COLUMNS, *ROWS = [line.split() for line in LAW.strip().splitlines()]
EXPECTED = {
    (JobState(row[0]), JobEvent(column)): JobState(cell)
    for row in ROWS
    for column, cell in zip(COLUMNS, row[1:], strict=True)
    if cell != "-"
}


def job(n: int = 1, price: int = 54_000_000) -> Job:
    return Job("job_1", account=None, model="picture", n=n, price=price, created=1_750_000_000.5)


def test_the_law_speaks_of_every_state_and_every_event() -> None:
    assert [JobState(row[0]) for row in ROWS] == list(JobState)
    assert [JobEvent(column) for column in COLUMNS] == list(JobEvent)


@pytest.mark.parametrize(("state", "event"), [*itertools.product(JobState, JobEvent)])
def test_every_pair_of_state_and_event_obeys_the_law(state: JobState, event: JobEvent) -> None:
    one = job()
    one.state = state
    if (state, event) in EXPECTED:
        assert one.after(event) is EXPECTED[state, event]
        assert one.state is state
        one.step(event)
        assert one.state is EXPECTED[state, event]
        return
    with pytest.raises(RuntimeError, match=f"a job that is {state.value} can't {event.value}"):
        one.step(event)
    assert one.state is state


@settings(deadline=None)
@given(st.lists(st.sampled_from(JobEvent), max_size=30))
def test_whatever_happens_a_job_is_charged_for_pictures_alone_and_given_back_for_good(events: list[JobEvent]) -> None:
    one, before = job(), JobState.QUEUED
    for event in events:
        if (one.state, event) in EXPECTED:
            before = one.state
            one.step(event)
        if one.state is JobState.SUCCEEDED:
            assert before in (JobState.ASKING, JobState.ACCEPTED)
        if one.has_ended and one.state is not JobState.SUCCEEDED:
            break
    if one.state in (JobState.FAILED, JobState.REFUNDED, JobState.EXPIRED):
        for event in JobEvent:
            with pytest.raises(RuntimeError):
                one.step(event)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("queued", "pending"),
        ("asking", "processing"),
        ("accepted", "processing"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("refunded", "refunded"),
        ("expired", "expired"),
    ],
)
def test_callers_see_the_words_of_the_contract(state: str, status: str) -> None:
    one = job()
    one.state = JobState(state)
    assert (one.status, status_of(one.state)) == (status, status)
    assert one.has_ended is (one.state in ENDINGS) is (status not in ("pending", "processing"))


def test_the_contracts_words_are_all_there_are_and_its_time_is_five_minutes() -> None:
    assert STATUSES == ("pending", "processing", "succeeded", "failed", "refunded", "expired")
    assert {status_of(state) for state in JobState} == set(STATUSES)
    assert EXPIRES_AFTER_S == 300


def test_a_new_job_waits_and_holds_what_all_its_pictures_may_cost() -> None:
    one = job(3, 54_000_000)
    assert (one.state, one.held, one.charged, one.is_settled, one.is_delivered) == (
        JobState.QUEUED,
        162_000_000,
        0,
        False,
        False,
    )
    assert (one.request, one.taken, one.failure, one.completed, one.pictures, one.attempts) == (None, None, None, None, (), [])


def test_a_job_that_costs_nothing_holds_nothing() -> None:
    assert job(4, 0).held == 0


def test_a_picture_knows_about_how_large_it_is() -> None:
    assert Picture(url="https://a.example/1.png").size_bytes == 23
    assert Picture(b64_json=b'"' + b"A" * 1000 + b'"').size_bytes == 1002
    assert Picture().size_bytes == 0


def test_jobs_do_not_share_their_attempts() -> None:
    one, other = job(), job()
    one.attempts.append("alpha:503")
    assert other.attempts == []
