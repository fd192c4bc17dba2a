"""The access log's record of an image job: account, model, ending and cost; never its prompt or pictures."""

from __future__ import annotations

import msgspec
import pytest

from kyma_proxy.core.accounts.accounts import Account
from kyma_proxy.core.jobs.job import AcceptedBy, ImageRequest, Job, JobState, Picture
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.telemetry.record import LOGGED_FIELDS, Record
from kyma_proxy.telemetry.recording import job_record

CREATED = 1_800_000_000.25
NOW = 1_800_000_012.5
SECRETS = ("PROMPT", "PICTURE", "EXTRA", "IDEMPOTENCY", "DIGEST", "EMAIL", "WORDS", "SIZE")


def job(state: JobState = JobState.SUCCEEDED, failure: Kind | None = None) -> Job:
    """A job with every field set."""
    one = Job(
        "job_1", account=Account("account-1", "EMAIL@example.com", 1), model="picture", n=2, price=54_000_000, created=CREATED
    )
    one.key_id, one.key_prefix, one.request_id, one.alias = "key-1", "ky-abcdefgh", "request-1", "draw"
    one.request = ImageRequest(
        "picture", "PROMPT", 2, "SIZE", ("https://PICTURE.example",), (("EXTRA", b'"EXTRA"'),), "b64_json"
    )
    one.idempotency_key, one.digest = "IDEMPOTENCY", b"DIGEST"
    one.state = state
    one.accepted_by = AcceptedBy(
        provider="art", provider_model="owner/app", provider_job="its-name", model="stand-in", layer=3, price=1
    )
    one.attempts = ["other:503", "art:answered"]
    one.completed = 1_800_000_012
    one.pictures = (Picture(url="https://PICTURE.example/1.png"), Picture(b64_json=b'"PICTURE"'))
    one.failure = None if failure is None else GatewayError(failure, "WORDS of a provider, with the PROMPT in them.")
    one.charged = 108_000_000 if state is JobState.SUCCEEDED else 0
    return one


def test_the_record_of_a_job_that_delivered_is_complete() -> None:
    assert job_record(job(), NOW) == Record(
        ts=NOW,
        request_id="request-1",
        account="account-1",
        key="ky-abcdefgh",
        endpoint="image.job",
        dialect="openai",
        model_requested="draw",
        model="stand-in",
        provider="art",
        stream=False,
        status=200,
        ending="completed",
        error_code=None,
        asked_at=None,
        fallback_layer=3,
        attempts=["other:503", "art:answered"],
        ttft_ms=None,
        duration_ms=12_250.0,
        overhead_us=0,
        provider_request_id="its-name",
        bytes_in=0,
        bytes_out=0,
        prompt_tokens=None,
        completion_tokens=None,
        cached_tokens=None,
        usage_source="none",
        cost_usd=0.108,
    )


@pytest.mark.parametrize(
    ("state", "failure", "status", "ending"),
    [
        (JobState.SUCCEEDED, None, 200, "completed"),
        (JobState.FAILED, Kind.PROVIDER_ERROR, 502, "failed"),
        (JobState.FAILED, Kind.INVALID_REQUEST, 400, "failed"),
        (JobState.EXPIRED, Kind.JOB_EXPIRED, 504, "failed"),
        (JobState.REFUNDED, Kind.JOB_CANCELLED, 409, "client_gone"),
        (JobState.REFUNDED, Kind.JOB_LOST, 503, "drained"),
    ],
)
def test_the_record_of_a_job_has_the_status_and_the_ending_of_its_state(
    state: JobState, failure: Kind | None, status: int, ending: str
) -> None:
    record = job_record(job(state, failure), NOW)
    assert (record.status, record.ending) == (status, ending)
    assert (record.cost_usd == 0.0) is (state is not JobState.SUCCEEDED)


def test_a_job_without_an_account_that_no_source_accepted_has_a_record() -> None:
    bare = Job("job_1", account=None, model="picture", n=1, price=0, created=CREATED)
    bare.state, bare.failure = JobState.EXPIRED, GatewayError(Kind.JOB_EXPIRED, "Late.")
    record = job_record(bare, NOW)
    assert (record.account, record.key, record.provider, record.provider_request_id) == (None,) * 4
    assert (record.model_requested, record.model, record.fallback_layer, record.attempts) == ("picture", "picture", 0, [])


def test_a_source_that_delivered_at_once_leaves_no_provider_request_id() -> None:
    one = job()
    one.accepted_by = AcceptedBy(provider="art", provider_model="pic", provider_job="", model="picture", layer=0, price=1)
    assert job_record(one, NOW).provider_request_id is None


@pytest.mark.parametrize("failure", [None, *Kind])
@pytest.mark.parametrize("state", JobState)
def test_no_content_of_a_job_can_be_in_its_record(state: JobState, failure: Kind | None) -> None:
    record = job_record(job(state, failure), NOW)
    line = msgspec.json.encode(record).decode()
    assert not any(secret in line for secret in SECRETS)
    assert list(msgspec.json.decode(line)) == list(LOGGED_FIELDS)
