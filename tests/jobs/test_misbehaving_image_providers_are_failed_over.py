"""Whatever a provider of images does, a job ends and is charged correctly, and another source is asked if that can help."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.net.upstream import client
from tests.harness import CLOSE, RESET, whole
from tests.jobs.image_gateway import (
    FAL,
    FAST_TIMING,
    OPENAI,
    PRICE,
    URL,
    accepted,
    ended_job,
    error_answer,
    image_gateway,
    images_answer,
    play,
    queue_result,
    queue_status,
    submit,
    submitted_and_ended,
)
from tests.waiting import until

HTML = whole(b"<html><body>Oh no.</body></html>", kind="text/html")
FAULTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "refuses connections for good": (OPENAI, ((RESET,), (RESET,))),
    "answers 500": (OPENAI, (error_answer("500 Internal Server Error"),)),
    "answers 401": (OPENAI, (error_answer("401 Unauthorized"),)),
    "does not know the model": (OPENAI, (error_answer("404 Not Found"),)),
    "answers with an HTML page": (OPENAI, (HTML,)),
    "returns no image": (OPENAI, (whole(b'{"created":1,"data":[]}'),)),
    "returns a URL that is no URL": (OPENAI, (images_answer("javascript:alert(1)"),)),
    "answers another kind of JSON": (OPENAI, (whole(b'{"data":{"url":7}}'),)),
    "cuts its answer": (OPENAI, ((b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", CLOSE),)),
    "answers with more values than images": (OPENAI, (whole(b'{"data":[' + b"{}," * 40_000 + b"{}]}"),)),
    "redirects": (OPENAI, (whole(b"", status="302 Found", more="location: http://127.0.0.1:1/\r\n"),)),
    "accepts the job without an id": (FAL, (whole(b"{}"),)),
    "accepts the job with an id that is a path": (FAL, (accepted("../../admin"),)),
    "accepts the job with an HTML page": (FAL, (HTML,)),
    "loses the job": (FAL, (accepted(), queue_status("IN_PROGRESS"), error_answer("404 Not Found", {"detail": "gone"}))),
    "is done and has nothing": (FAL, (accepted(), queue_status("COMPLETED"), whole(b'{"images":[]}'))),
    "is done and fails": (FAL, (accepted(), queue_status("COMPLETED"), error_answer("500 Internal Server Error"))),
    "is done and shows an HTML page": (FAL, (accepted(), queue_status("COMPLETED"), HTML)),
    "is done and has more values than images": (
        FAL,
        (accepted(), queue_status("COMPLETED"), whole(b'{"images":[' + b"{}," * 40_000 + b"{}]}")),
    ),
    "is done and delivers no URL": (FAL, (accepted(), queue_status("COMPLETED"), queue_result("//no.host/x"))),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_fault_the_next_source_delivers_and_headers_say_so(tmp_path: Path, fault: str) -> None:
    dialect, answers = FAULTS[fault]
    async with image_gateway(tmp_path, dialect, OPENAI) as (images, bad, good):
        for answer in answers:
            bad.plays(*answer) if isinstance(answer, tuple) else bad.plays(answer)
        play(good, images_answer())
        caller = await images.caller()
        answer = await submit(caller, headers="prefer: wait=20\r\n")
        assert answer.status == 200, answer.body
        assert (answer.headers["x-kyma-fallback"], answer.headers["x-kyma-fallback-layer"]) == ("true", "1")
        assert await images.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)]
        record = next(one for one in await images.running.records(2) if one["endpoint"] == "image.job")
        assert (record["fallback_layer"], record["attempts"][-1]) == (1, "p1:answered")
        assert record["attempts"][0].startswith("p0:")


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_fault_without_another_source_the_job_fails_and_costs_nothing(tmp_path: Path, fault: str) -> None:
    dialect, answers = FAULTS[fault]
    async with image_gateway(tmp_path, dialect) as (images, bad):
        for answer in (*answers, *answers, *answers):
            bad.plays(*answer) if isinstance(answer, tuple) else bad.plays(answer)
        caller = await images.caller()
        job = await submitted_and_ended(caller)
        assert (job["status"], job["charged_amount"]) == ("failed", 0)
        assert job["error"]["code"] == ("no_source_available" if fault == "answers 401" else "provider_error")
        assert "p0" not in job["error"]["message"]
        assert await images.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE)]


async def test_a_refusal_that_any_source_would_repeat_fails_the_job_with_the_providers_message(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI) as (images, first, second):
        detail = [{"loc": ["body", "prompt"], "msg": "was flagged", "type": "content_policy_violation", "input": "a cat"}]
        play(first, accepted(), queue_status("COMPLETED"), error_answer("422 Unprocessable Entity", {"detail": detail}))
        caller = await images.caller()
        answer = await submit(caller, headers="prefer: wait=20\r\n")
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
        assert answer.json["error"]["message"] == "The provider refused the request: prompt: was flagged."
        assert second.received == []


async def test_a_provider_that_certainly_did_nothing_is_asked_again(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, error_answer("429 Too Many Requests"), error_answer("503 Service Unavailable"), images_answer())
        job = await submitted_and_ended(await images.caller())
        assert (job["status"], len(provider.received)) == ("succeeded", 3)


async def test_a_provider_that_may_have_made_the_image_is_not_asked_again(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        provider.plays(CLOSE)
        job = await submitted_and_ended(await images.caller())
        assert (job["status"], len(provider.received)) == ("failed", 1)


async def test_a_job_that_never_finishes_expires_and_is_refunded(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, timing=FAST_TIMING._replace(expires=0.1)) as (images, provider):
        play(provider, accepted(), *[queue_status("IN_PROGRESS")] * 500)
        caller = await images.caller()
        job = (await submit(caller)).json
        done = await ended_job(caller, job)
        assert (done["status"], done["error"]["code"], done["charged_amount"]) == ("expired", "job_expired", 0)
        assert await images.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE)]
        await until(lambda: any(one.line.startswith("PUT ") for one in provider.received))


async def test_a_job_that_waits_in_the_queue_expires_too(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    tiers = (
        "tiers: [{tier: 0, min_purchased: 0, rpm: 60, per_model_rpm: 60, tpm: 1000, max_request_tokens: 1000, "
        "image_concurrent: 1, image_queue: 5}]\n"
    )
    async with image_gateway(tmp_path, OPENAI, timing=FAST_TIMING._replace(expires=1.0), more=tiers) as (images, provider):
        provider.plays(goes_on, images_answer())
        provider.plays(goes_on, images_answer())  # for the second, which may get the slot just before it expires
        caller = await images.caller()
        first, second = [(await submit(caller)).json for _ in range(2)]
        assert second["status"] == "pending"
        assert (await ended_job(caller, second))["status"] == "expired"
        assert (await ended_job(caller, first))["status"] == "expired"
        assert (await caller.balance())["balance"] == 1
        goes_on.set()


@pytest.mark.parametrize("invalid", [HTML, whole(b"{}"), error_answer("503 Service Unavailable"), whole(b'{"status":3}')])
async def test_a_poll_with_an_invalid_answer_is_repeated(tmp_path: Path, invalid: bytes) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        play(provider, accepted(), invalid, queue_status("IN_PROGRESS"), invalid, queue_status("COMPLETED"), queue_result())
        assert (await submitted_and_ended(await images.caller()))["status"] == "succeeded"


async def test_a_provider_whose_polls_stay_invalid_is_failed_over(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI) as (images, first, second):
        play(first, accepted(), *[HTML] * 500)
        play(second, images_answer())
        assert (await submitted_and_ended(await images.caller()))["status"] == "succeeded"
        assert len(second.received) == 1


async def test_a_result_that_is_temporarily_unavailable_is_fetched_again(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        play(
            provider,
            accepted(),
            queue_status("COMPLETED"),
            error_answer("502 Bad Gateway"),
            error_answer("429 Too Many Requests"),
            queue_result(),
        )
        assert (await submitted_and_ended(await images.caller()))["output"]["data"] == [{"url": URL}]


async def test_a_request_that_no_source_supports_is_refused_and_costs_nothing(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        caller = await images.caller()
        answer = await submit(caller, response_format="b64_json", headers="prefer: wait=5\r\n")
        assert (answer.status, answer.json["error"]["param"]) == (400, "response_format")
        assert provider.received == []
        assert (await caller.balance())["balance"] == 1


async def test_the_breaker_of_a_failing_source_opens_and_the_status_shows_it(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, OPENAI) as (images, bad, good):
        for _ in range(4):
            play(bad, error_answer("500 Internal Server Error"))
        caller = await images.caller()
        for _ in range(5):
            play(good, images_answer())
            assert (await submitted_and_ended(caller))["status"] == "succeeded"
        assert len(bad.received) == 4
        model = images.running.model("pic")
        sources = [(one["status"], one["breaker"]) for one in model["sources"]]
        assert (model["status"], sources) == ("degraded", [("unavailable", "open"), ("available", "closed")])
        assert model["requests_24h"] == 5


async def test_a_source_that_may_have_made_the_image_is_not_asked_in_a_later_round(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, OPENAI) as (images, broken, busy):
        play(broken, error_answer("500 Internal Server Error"))
        play(busy, error_answer("429 Too Many Requests"), error_answer("429 Too Many Requests"), images_answer())
        assert (await submitted_and_ended(await images.caller()))["status"] == "succeeded"
        assert (len(broken.received), len(busy.received)) == (1, 3)


@pytest.mark.parametrize(("closes_after_s", "status", "requests"), [(0.0, "succeeded", 2), (0.7, "failed", 1)])
async def test_a_reused_connection_counts_as_stale_only_if_it_breaks_soon_after_the_request(
    tmp_path: Path, closes_after_s: float, status: str, requests: int
) -> None:
    closes = asyncio.Event()
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer())
        caller = await images.caller()
        await submitted_and_ended(caller)
        provider.plays(closes, CLOSE)
        play(provider, images_answer())
        job = (await submit(caller)).json
        await until(lambda: len(provider.received) == 2)
        asyncio.get_running_loop().call_later(closes_after_s, closes.set)
        assert (await ended_job(caller, job))["status"] == status
        assert len(provider.received) == 1 + requests


async def test_a_provider_that_refuses_a_request_stays_available(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        caller = await images.caller()
        for _ in range(6):
            play(provider, error_answer("400 Bad Request"))
            assert (await submitted_and_ended(caller))["error"]["code"] == "invalid_request"
        model = images.running.model("pic")
        assert (model["status"], model["availability_24h"], model["sources"][0]["status"]) == ("available", 1.0, "available")
        records = await images.running.records(12)
        assert {one["attempts"][0] for one in records if one["endpoint"] == "image.job"} == {"p0:answered"}


async def test_a_job_is_cancelled_at_a_queue_that_was_failed_over(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI, timing=FAST_TIMING._replace(contact=0.02)) as (images, silent, second):
        play(silent, accepted(), *[HTML] * 30)
        play(second, images_answer())
        assert (await submitted_and_ended(await images.caller()))["status"] == "succeeded"
        await until(lambda: silent.received[-1].line.startswith("PUT /base/owner/app/requests/r-1/cancel"))


async def test_an_answer_that_is_too_large_is_fetched_once_and_fails_the_job(tmp_path: Path) -> None:
    too_large = whole(b"x" * (client.MAX_BYTES + 1))
    for dialect, answers in (
        (FAL, (accepted(), queue_status("COMPLETED"), too_large)),
        (OPENAI, (too_large,)),
    ):
        (directory := tmp_path / dialect).mkdir()
        async with image_gateway(directory, dialect) as (images, provider):
            play(provider, *answers)
            job = await submitted_and_ended(await images.caller())
            assert (job["status"], "its answer is larger than" in job["error"]["message"]) == ("failed", True)
            assert len(provider.received) == len(answers)


def objects_of_the_upstream_client() -> list[str]:
    """The types of all objects whose classes the upstream client defines."""
    return sorted(type(one).__qualname__ for one in gc.get_objects() if type(one).__module__ == client.__name__)


async def test_a_failed_exchange_leaves_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        caller = await images.caller()
        gc.collect()
        before = objects_of_the_upstream_client()
        gc.disable()
        try:
            for _ in range(3):
                provider.plays(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", CLOSE)
                await submitted_and_ended(caller)
            assert objects_of_the_upstream_client() == before
        finally:
            gc.enable()


async def test_a_job_waits_for_a_source_whose_retry_after_is_short(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, timing=FAST_TIMING._replace(rounds=(0.1,) * 40)) as (images, provider):
        busy = whole(b"{}", status="429 Too Many Requests", more="retry-after: 1\r\n")
        play(provider, busy, images_answer())
        job = await submitted_and_ended(await images.caller())
        assert (job["status"], job["error"]) == ("succeeded", None)
