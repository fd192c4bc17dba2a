"""A job's document has exactly the members of the contract, its images in OpenAI's shape, and amounts in dollars."""

from __future__ import annotations

import orjson
import pytest

from kyma_proxy.core.jobs.job import Job, JobState, Picture
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.web.job_documents import images_document, job_document, jobs_document

MEMBERS = [
    "id", "object", "status", "model", "created_at", "completed_at", "output", "error", "estimated_cost", "charged_amount",
]  # fmt: skip


def job(state: JobState = JobState.QUEUED, name: str = "job_1") -> Job:
    one = Job(name, account=None, model="picture", n=2, price=54_000_000, created=1_750_000_000.9)
    one.state = state
    if one.has_ended:
        one.completed = 1_750_000_012
    if state is JobState.SUCCEEDED:
        one.pictures = (Picture(url="https://a.example/1.png"), Picture(b64_json=b'"\\/9j"'))
        one.charged = 108_000_000
    return one


@pytest.mark.parametrize("state", JobState)
def test_a_job_has_the_same_members_in_every_state(state: JobState) -> None:
    assert list(job_document(job(state))) == MEMBERS


def test_a_pending_job_has_an_estimated_cost_and_no_charge() -> None:
    assert job_document(job()) == {
        "id": "job_1", "object": "image.job", "status": "pending", "model": "picture", "created_at": 1_750_000_000,
        "completed_at": None, "output": None, "error": None, "estimated_cost": 0.108, "charged_amount": None,
    }  # fmt: skip


def test_a_succeeded_job_has_its_images_byte_for_byte() -> None:
    document = job_document(job(JobState.SUCCEEDED))
    assert (document["completed_at"], document["charged_amount"], document["error"]) == (1_750_000_012, 0.108, None)
    assert orjson.dumps(document["output"]) == (
        b'{"created":1750000012,"data":[{"url":"https://a.example/1.png"},{"b64_json":"\\/9j"}]}'
    )
    assert images_document(job(JobState.SUCCEEDED))["created"] == 1_750_000_012


def test_a_succeeded_job_whose_images_are_gone_says_so_and_stays_charged() -> None:
    old = job(JobState.SUCCEEDED)
    old.pictures = ()
    document = job_document(old)
    assert document["output"] is None
    assert document["error"] == {
        "code": "output_gone",
        "message": "The pictures are gone: they are kept for an hour, only in memory, and an account's newest ones push out "
        "its older ones if they are large. Their cost stays charged.",
    }
    assert (document["status"], document["charged_amount"]) == ("succeeded", 0.108)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.REFUNDED, JobState.EXPIRED])
def test_a_job_that_failed_has_its_error_and_no_charge(state: JobState) -> None:
    one = job(state)
    one.failure = GatewayError(Kind.JOB_LOST, "The job was lost.")
    document = job_document(one)
    assert document["error"] == {"code": "job_lost", "message": "The job was lost."}
    assert (document["output"], document["charged_amount"], document["estimated_cost"]) == (None, 0.0, 0.108)


def test_a_list_has_no_images_and_says_where_the_next_page_begins() -> None:
    jobs = [job(JobState.SUCCEEDED, f"job_{at}") for at in range(3)]
    page = jobs_document(jobs, 2)
    assert (page["object"], page["has_more"], page["next_before"]) == ("list", True, "job_1")
    data = page["data"]
    assert isinstance(data, list)
    assert [one["id"] for one in data] == ["job_0", "job_1"]
    assert [one["output"] for one in data] == [None, None]
    assert [one["error"] for one in data] == [None, None]


@pytest.mark.parametrize("count", [0, 2])
def test_the_last_page_says_that_it_is_the_last(count: int) -> None:
    page = jobs_document([job(name=f"job_{at}") for at in range(count)], 2)
    assert (page["has_more"], page["next_before"]) == (False, None)
