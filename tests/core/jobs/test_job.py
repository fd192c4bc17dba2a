"""An image job moves between its states as the table says, and its endings are final unless its images are lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.jobs.job import ENDINGS, EXPIRES_AFTER_S, STATUSES, Job, JobEvent, JobState, Picture, status_of

# Rows are states, columns events; a dash can't happen.
TABLE = """
            start       accept    move_on     deliver    fail    expire   cancel    lose      resume
queued      dispatched  -         -           -          failed  expired  refunded  refunded  -
dispatched  -           accepted  dispatched  succeeded  failed  expired  refunded  refunded  -
accepted    -           -         dispatched  succeeded  failed  expired  refunded  refunded  -
succeeded   -           -         -           -          -       -        -         refunded  accepted
failed      -           -         -           -          -       -        -         -         -
refunded    -           -         -           -          -       -        -         -         -
expired     -           -         -           -          -       -        -         -         -
"""
COLUMNS, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
EXPECTED = {
    (JobState(row[0]), JobEvent(column)): JobState(cell)
    for row in ROWS
    for column, cell in zip(COLUMNS, row[1:], strict=True)
    if cell != "-"
}


def job(n: int = 1, price: int = 54_000_000) -> Job:
    return Job("job_1", account=None, model="picture", n=n, price=price, created=1_750_000_000.5)


def test_the_table_has_every_state_and_every_event() -> None:
    assert [JobState(row[0]) for row in ROWS] == list(JobState)
    assert [JobEvent(column) for column in COLUMNS] == list(JobEvent)


@pytest.mark.parametrize(("state", "event"), [*itertools.product(JobState, JobEvent)])
def test_every_pair_of_state_and_event_moves_or_raises_as_the_table_says(state: JobState, event: JobEvent) -> None:
    one = job()
    one.state = state
    if (state, event) in EXPECTED:
        assert one.next_state(event) is EXPECTED[state, event]
        assert one.state is state
        one.step(event)
        assert one.state is EXPECTED[state, event]
        return
    with pytest.raises(RuntimeError, match=f"a job that is {state.value} can't {event.value}"):
        one.step(event)
    assert one.state is state


@given(st.lists(st.sampled_from(JobEvent), max_size=30))
def test_after_any_events_a_job_succeeds_only_from_a_source_and_other_endings_are_final(events: list[JobEvent]) -> None:
    one, before = job(), JobState.QUEUED
    for event in events:
        if (one.state, event) in EXPECTED:
            before = one.state
            one.step(event)
        if one.state is JobState.SUCCEEDED:
            assert before in (JobState.DISPATCHED, JobState.ACCEPTED)
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
        ("dispatched", "processing"),
        ("accepted", "processing"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("refunded", "refunded"),
        ("expired", "expired"),
    ],
)
def test_each_state_has_the_status_of_the_contract(state: str, status: str) -> None:
    one = job()
    one.state = JobState(state)
    assert (one.status, status_of(one.state)) == (status, status)
    assert one.has_ended is (one.state in ENDINGS) is (status not in ("pending", "processing"))


def test_there_are_six_statuses_and_a_job_expires_after_five_minutes() -> None:
    assert STATUSES == ("pending", "processing", "succeeded", "failed", "refunded", "expired")
    assert {status_of(state) for state in JobState} == set(STATUSES)
    assert EXPIRES_AFTER_S == 300


def test_a_new_job_is_queued_and_holds_the_price_of_all_its_images() -> None:
    one = job(3, 54_000_000)
    assert (one.state, one.held, one.charged, one.is_settled, one.is_delivered) == (
        JobState.QUEUED,
        162_000_000,
        0,
        False,
        False,
    )
    assert (one.request, one.accepted_by, one.failure, one.completed, one.pictures, one.attempts) == (
        None,
        None,
        None,
        None,
        (),
        [],
    )


def test_a_free_job_holds_nothing() -> None:
    assert job(4, 0).held == 0


def test_the_size_of_a_picture_is_that_of_its_url_or_base64() -> None:
    assert Picture(url="https://a.example/1.png").size_bytes == 23
    assert Picture(b64_json=b'"' + b"A" * 1000 + b'"').size_bytes == 1002
    assert Picture().size_bytes == 0


def test_each_job_has_its_own_list_of_attempts() -> None:
    one, other = job(), job()
    one.attempts.append("alpha:503")
    assert other.attempts == []
