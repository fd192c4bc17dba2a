"""Whatever a provider of images does, a job ends, rightly paid, and the next source is asked where that has sense."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.net.upstream import client as calls
from kyma_proxy.net.upstream.connection import ResponseHandler
from tests.harness import CLOSE, RESET, whole
from tests.jobs.studio import (
    FAL,
    HASTY,
    OPENAI,
    PRICE,
    URL,
    bought,
    ended,
    fetched,
    look,
    made,
    order,
    plays,
    refused,
    studio,
    taken,
)
from tests.waiting import until

HTML = whole(b"<html><body>Oh no.</body></html>", kind="text/html")
FAULTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "refuses connections for good": (OPENAI, ((RESET,), (RESET,))),
    "answers 500": (OPENAI, (refused("500 Internal Server Error"),)),
    "answers 401": (OPENAI, (refused("401 Unauthorized"),)),
    "does not know the model": (OPENAI, (refused("404 Not Found"),)),
    "answers with an HTML page": (OPENAI, (HTML,)),
    "returns no image": (OPENAI, (whole(b'{"created":1,"data":[]}'),)),
    "returns a URL that is no URL": (OPENAI, (made("javascript:alert(1)"),)),
    "answers another kind of JSON": (OPENAI, (whole(b'{"data":{"url":7}}'),)),
    "cuts its answer": (OPENAI, ((b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", CLOSE),)),
    "redirects": (OPENAI, (whole(b"", status="302 Found", more="location: http://127.0.0.1:1/\r\n"),)),
    "takes the job without a name": (FAL, (whole(b"{}"),)),
    "takes the job under a name that is a path": (FAL, (taken("../../admin"),)),
    "takes the job with an HTML page": (FAL, (HTML,)),
    "loses the job": (FAL, (taken(), look("IN_PROGRESS"), refused("404 Not Found", {"detail": "gone"}))),
    "is done and has nothing": (FAL, (taken(), look("COMPLETED"), whole(b'{"images":[]}'))),
    "is done and fails": (FAL, (taken(), look("COMPLETED"), refused("500 Internal Server Error"))),
    "is done and shows an HTML page": (FAL, (taken(), look("COMPLETED"), HTML)),
    "is done and delivers no URL": (FAL, (taken(), look("COMPLETED"), fetched("//no.host/x"))),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_fault_the_next_source_delivers_and_the_caller_is_told(tmp_path: Path, fault: str) -> None:
    dialect, answers = FAULTS[fault]
    async with studio(tmp_path, dialect, OPENAI) as (here, bad, good):
        for answer in answers:
            bad.plays(*answer) if isinstance(answer, tuple) else bad.plays(answer)
        plays(good, made())
        caller = await here.caller()
        answer = await order(caller, headers="prefer: wait=20\r\n")
        assert answer.status == 200, answer.body
        assert (answer.headers["x-kyma-fallback"], answer.headers["x-kyma-fallback-layer"]) == ("true", "1")
        assert await here.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)]
        record = next(one for one in await here.running.records(2) if one["endpoint"] == "image.job")
        assert (record["fallback_layer"], record["attempts"][-1]) == (1, "p1:answered")
        assert record["attempts"][0].startswith("p0:")


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_another_source_the_job_fails_and_costs_nothing(tmp_path: Path, fault: str) -> None:
    dialect, answers = FAULTS[fault]
    async with studio(tmp_path, dialect) as (here, bad):
        for answer in (*answers, *answers, *answers):
            bad.plays(*answer) if isinstance(answer, tuple) else bad.plays(answer)
        caller = await here.caller()
        job = await bought(caller)
        assert (job["status"], job["charged_amount"]) == ("failed", 0)
        assert job["error"]["code"] == "provider_error"
        assert "p0" in job["error"]["message"]
        assert await here.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE)]


async def test_what_no_other_source_would_answer_otherwise_ends_the_job_in_the_providers_words(tmp_path: Path) -> None:
    async with studio(tmp_path, FAL, OPENAI) as (here, first, second):
        detail = [{"loc": ["body", "prompt"], "msg": "was flagged", "type": "content_policy_violation", "input": "a cat"}]
        plays(first, taken(), look("COMPLETED"), refused("422 Unprocessable Entity", {"detail": detail}))
        caller = await here.caller()
        answer = await order(caller, headers="prefer: wait=20\r\n")
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
        assert answer.json["error"]["message"] == "The provider refused what was asked for: prompt: was flagged."
        assert second.received == []


async def test_a_provider_that_surely_did_nothing_is_asked_again(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        plays(provider, refused("429 Too Many Requests"), refused("503 Service Unavailable"), made())
        job = await bought(await here.caller())
        assert (job["status"], len(provider.received)) == ("succeeded", 3)


async def test_a_provider_that_may_have_made_the_picture_is_not_asked_again(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        provider.plays(CLOSE)
        job = await bought(await here.caller())
        assert (job["status"], len(provider.received)) == ("failed", 1)


async def test_a_job_that_never_finishes_expires_and_is_given_back(tmp_path: Path) -> None:
    async with studio(tmp_path, FAL, timing=HASTY._replace(expires=0.1)) as (here, provider):
        plays(provider, taken(), *[look("IN_PROGRESS")] * 500)
        caller = await here.caller()
        job = (await order(caller)).json
        done = await ended(caller, job)
        assert (done["status"], done["error"]["code"], done["charged_amount"]) == ("expired", "job_expired", 0)
        assert await here.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE)]
        await until(lambda: any(one.line.startswith("PUT ") for one in provider.received))


async def test_a_job_that_only_waits_expires_too(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    tiers = (
        "tiers: [{tier: 0, min_purchased: 0, rpm: 60, per_model_rpm: 60, tpm: 1000, max_request_tokens: 1000, "
        "image_concurrent: 1, image_queue: 5}]\n"
    )
    async with studio(tmp_path, OPENAI, timing=HASTY._replace(expires=1.0), more=tiers) as (here, provider):
        provider.plays(goes_on, made())
        provider.plays(goes_on, made())  # for the second, should its turn come in its last moments
        caller = await here.caller()
        first, second = [(await order(caller)).json for _ in range(2)]
        assert second["status"] == "pending"
        assert (await ended(caller, second))["status"] == "expired"
        assert (await ended(caller, first))["status"] == "expired"
        assert (await caller.balance())["balance"] == 1
        goes_on.set()


@pytest.mark.parametrize("nonsense", [HTML, whole(b"{}"), refused("503 Service Unavailable"), whole(b'{"status":3}')])
async def test_a_look_without_sense_is_repeated(tmp_path: Path, nonsense: bytes) -> None:
    async with studio(tmp_path, FAL) as (here, provider):
        plays(provider, taken(), nonsense, look("IN_PROGRESS"), nonsense, look("COMPLETED"), fetched())
        assert (await bought(await here.caller()))["status"] == "succeeded"


async def test_a_provider_that_gives_no_sensible_word_any_more_is_left(tmp_path: Path) -> None:
    async with studio(tmp_path, FAL, OPENAI) as (here, first, second):
        plays(first, taken(), *[HTML] * 500)
        plays(second, made())
        assert (await bought(await here.caller()))["status"] == "succeeded"
        assert len(second.received) == 1


async def test_a_result_that_can_not_be_had_just_now_is_asked_for_again(tmp_path: Path) -> None:
    async with studio(tmp_path, FAL) as (here, provider):
        plays(provider, taken(), look("COMPLETED"), refused("502 Bad Gateway"), refused("429 Too Many Requests"), fetched())
        assert (await bought(await here.caller()))["output"]["data"] == [{"url": URL}]


async def test_a_source_that_makes_fewer_at_once_is_passed_over(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI, OPENAI) as (here, first, second):
        path = here.running.configuration.path
        path.write_text(
            path.read_text().replace("model: owner/app/v1, weight: 1}", "model: one/at/a-time, weight: 1, image: {most: 1}}", 1)
        )
        assert (await here.running.configuration.reload("the test")).result == "reloaded"
        plays(second, made(URL, URL))
        job = await bought(await here.caller(), n=2)
        assert (job["status"], len(first.received), len(second.received)) == ("succeeded", 0, 1)


async def test_what_no_source_can_make_is_said_and_costs_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path, FAL) as (here, provider):
        caller = await here.caller()
        answer = await order(caller, response_format="b64_json", headers="prefer: wait=5\r\n")
        assert (answer.status, answer.json["error"]["param"]) == (400, "response_format")
        assert provider.received == []
        assert (await caller.balance())["balance"] == 1


async def test_a_dead_source_rests_and_the_status_says_so(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI, OPENAI) as (here, bad, good):
        for _ in range(4):
            plays(bad, refused("500 Internal Server Error"))
        caller = await here.caller()
        for _ in range(5):
            plays(good, made())
            assert (await bought(caller))["status"] == "succeeded"
        assert len(bad.received) == 4
        status = (await caller.ask("GET", "/v1/status")).json
        model = next(one for one in status["models"] if one["id"] == "pic")
        assert (model["status"], [one["status"] for one in model["sources"]]) == ("degraded", ["resting", "on"])
        assert model["requests_24h"] == 5


async def test_who_may_have_made_the_picture_is_not_asked_again_in_a_later_round(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI, OPENAI) as (here, broken, busy):
        plays(broken, refused("500 Internal Server Error"))
        plays(busy, refused("429 Too Many Requests"), refused("429 Too Many Requests"), made())
        assert (await bought(await here.caller()))["status"] == "succeeded"
        assert (len(broken.received), len(busy.received)) == (1, 3)


async def test_a_connection_that_breaks_long_after_the_question_is_no_stale_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience, asked in ((0.0, 1), (60.0, 2)):
        monkeypatch.setattr(calls, "_STALE_S", patience)
        (directory := tmp_path / str(asked)).mkdir()
        async with studio(directory, OPENAI) as (here, provider):
            plays(provider, made())
            caller = await here.caller()
            await bought(caller)
            provider.plays(CLOSE)
            plays(provider, made())
            job = await bought(caller)
            assert job["status"] == ("succeeded" if asked == 2 else "failed")
            assert len(provider.received) == 1 + asked


async def test_a_provider_that_refuses_a_request_is_well(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        caller = await here.caller()
        for _ in range(6):
            plays(provider, refused("400 Bad Request"))
            assert (await bought(caller))["error"]["code"] == "invalid_request"
        model = (await caller.ask("GET", "/v1/status")).json["models"][0]
        assert (model["status"], model["availability_24h"], model["sources"][0]["status"]) == ("available", 1.0, "on")
        records = await here.running.records(12)
        assert {one["attempts"][0] for one in records if one["endpoint"] == "image.job"} == {"p0:answered"}


async def test_a_queue_that_is_left_is_told_that_it_works_for_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path, FAL, OPENAI, timing=HASTY._replace(contact=0.02)) as (here, silent, second):
        plays(silent, taken(), *[HTML] * 30)
        plays(second, made())
        assert (await bought(await here.caller()))["status"] == "succeeded"
        await until(lambda: silent.received[-1].line.startswith("PUT /base/owner/app/requests/r-1/cancel"))


async def test_an_answer_that_is_too_large_is_fetched_once_and_kept_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MAX_BYTES", 1000)
    for dialect, answers in ((FAL, (taken(), look("COMPLETED"), whole(b"x" * 5000))), (OPENAI, (whole(b"x" * 5000),))):
        (directory := tmp_path / dialect).mkdir()
        async with studio(directory, dialect) as (here, provider):
            plays(provider, *answers)
            job = await bought(await here.caller())
            assert (job["status"], "its answer is larger than" in job["error"]["message"]) == ("failed", True)
            assert len(provider.received) == len(answers)


def answers() -> int:
    return sum(isinstance(one, ResponseHandler) for one in gc.get_objects())


async def test_a_failed_exchange_leaves_nothing_for_the_collector(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        caller = await here.caller()
        gc.collect()
        before = answers()
        gc.disable()
        try:
            for _ in range(3):
                provider.plays(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", CLOSE)
                await bought(caller)
            assert answers() == before
        finally:
            gc.enable()


async def test_a_job_waits_for_a_source_that_rests_for_a_moment(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI, timing=HASTY._replace(rounds=(0.1,) * 40)) as (here, provider):
        busy = whole(b"{}", status="429 Too Many Requests", more="retry-after: 1\r\n")
        plays(provider, busy, made())
        job = await bought(await here.caller())
        assert (job["status"], job["error"]) == ("succeeded", None)
