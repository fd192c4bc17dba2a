"""A job that has failed in a provider's queue is not asked about again: the next source makes the picture."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.jobs.look_rate import LookRate
from tests.harness import whole
from tests.jobs.image_gateway import (
    FAL,
    OPENAI,
    PRICE,
    accepted,
    error_answer,
    image_gateway,
    images_answer,
    play,
    queue_status,
    submit,
    submitted_and_ended,
)

DONE = queue_status("COMPLETED")
FAILED = whole(b'{"status":"COMPLETED","error":"Request timed out","error_type":"request_timeout"}')


def platform_error(status: str, word: str, more: str = "") -> bytes:
    """A failure of fal's platform: https://fal.ai/docs/documentation/model-apis/request-errors."""
    return error_answer(status, {"detail": "no", "error_type": word}, more=more)


def model_error(status: str, word: str, more: str = "") -> bytes:
    """A failure of the model: https://fal.ai/docs/documentation/model-apis/errors."""
    return error_answer(status, {"detail": [{"loc": ["body"], "msg": "no", "type": word, "input": "a cat"}]}, more=more)


FINAL: dict[str, tuple[bytes, ...]] = {
    "a timeout": (DONE, platform_error("504 Gateway Timeout", "request_timeout")),
    "a lost runner": (DONE, platform_error("503 Service Unavailable", "runner_disconnected")),
    "a failure that only a header names": (
        DONE,
        error_answer("502 Bad Gateway", more="x-fal-error-type: runner_server_error\r\n"),
    ),
    "a failure that the status tells of": (FAILED, error_answer("504 Gateway Timeout")),
    "a failure whose result is busy": (FAILED, error_answer("429 Too Many Requests")),
    "the model's timeout": (DONE, model_error("504 Gateway Timeout", "generation_timeout", "x-fal-retryable: false\r\n")),
    "a failure that is retryable": (DONE, model_error("422 Unprocessable Entity", "other", "x-fal-retryable: true\r\n")),
    "a service behind the model": (DONE, model_error("400 Bad Request", "downstream_service_error")),
    "no media": (DONE, model_error("422 Unprocessable Entity", "no_media_generated")),
    "a cancellation that nobody asked for": (DONE, platform_error("499 Client Closed", "client_cancelled")),
}


@pytest.mark.parametrize("failure", FINAL)
async def test_after_a_final_failure_the_next_source_is_asked_at_once(tmp_path: Path, failure: str) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI) as (images, first, second):
        play(first, accepted(), *FINAL[failure])
        play(second, images_answer())
        caller = await images.caller()
        assert (await submitted_and_ended(caller))["status"] == "succeeded"
        assert (len(first.received), len(second.received)) == (3, 1)
        assert await images.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)]


@pytest.mark.parametrize("failure", FINAL)
async def test_a_final_failure_of_the_only_source_ends_the_job_and_repeats_nothing_of_the_request(
    tmp_path: Path, failure: str
) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        play(provider, accepted(), *FINAL[failure])
        caller = await images.caller()
        job = await submitted_and_ended(caller)
        assert (job["status"], job["charged_amount"], len(provider.received)) == ("failed", 0, 3)
        assert "a cat" not in job["error"]["message"]


async def test_a_fault_of_the_request_is_told_though_the_status_told_of_it_before(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI) as (images, first, second):
        refused = model_error("422 Unprocessable Entity", "content_policy_violation", "x-fal-retryable: false\r\n")
        play(first, accepted(), FAILED, refused)
        answer = await submit(await images.caller(), headers="prefer: wait=20\r\n")
        assert (answer.status, answer.json["error"]["code"], second.received) == (400, "invalid_request", [])


class Clock:
    """Stands still, but for those who wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float, _: Any = None) -> None:
        self.waits.append(round(self.now + seconds, 6))


async def test_the_looks_of_all_jobs_together_keep_to_one_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    looks = LookRate(100, lambda: clock.now)
    for _ in range(4):
        await looks.wait()
    assert clock.waits == [0.01, 0.02, 0.03]
    clock.now = 1.0
    await looks.wait()
    assert len(clock.waits) == 3
