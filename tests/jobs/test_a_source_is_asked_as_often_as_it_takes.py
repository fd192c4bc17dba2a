"""A source that makes fewer pictures in one request is asked several times, and every picture that was made is charged once."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import msgspec
import pytest

from kyma_proxy.core.jobs.job import JobState
from kyma_proxy.jobs.parts import parts_of
from tests.dialect.images.material import request, source
from tests.jobs.drawing_provider import Stage
from tests.jobs.image_gateway import (
    FAL,
    OPENAI,
    PRICE,
    URL,
    ended_job,
    error_answer,
    image_gateway,
    images_answer,
    play,
    submit,
    submitted_and_ended,
)
from tests.jobs.test_nobody_has_images_drawn_for_nothing import cancel, drawing
from tests.waiting import until

ONE_EACH = "{count: null}"
REFUSAL = error_answer("400 Bad Request")
FAULT = error_answer("500 Internal Server Error")


@pytest.mark.parametrize(
    ("words", "n", "parts"),
    [("{count: null}", 3, [1, 1, 1]), ("{most: 2}", 3, [2, 1]), ("{most: 2}", 2, [2]), ("{count: null, most: 4}", 2, [1, 1])],
)
def test_a_job_is_divided_into_requests_of_as_many_as_the_source_makes(words: str, n: int, parts: list[int]) -> None:
    assert [part.n for part in parts_of(request(n), source(OPENAI, words), n)] == parts


async def test_the_answers_of_all_requests_are_gathered_and_charged(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, first=ONE_EACH) as (images, provider):
        play(provider, *[images_answer()] * 3)
        caller = await images.caller()
        job = await submitted_and_ended(caller, n=3)
        assert (job["status"], job["output"]["data"], len(provider.received)) == ("succeeded", [{"url": URL}] * 3, 3)
        assert all("n" not in msgspec.json.decode(one.body) for one in provider.received)
        assert (await caller.balance())["balance"] == pytest.approx(1 - 3 * PRICE)


async def test_another_source_is_asked_for_the_rest(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, OPENAI, first=ONE_EACH) as (images, first, second):
        play(first, images_answer(), FAULT, images_answer())
        play(second, images_answer())
        caller = await images.caller()
        job = await submitted_and_ended(caller, n=3)
        assert (job["status"], len(job["output"]["data"]), len(second.received)) == ("succeeded", 3, 1)
        assert (await caller.balance())["balance"] == pytest.approx(1 - 3 * PRICE)


@pytest.mark.parametrize("answers", [*product([images_answer(), REFUSAL, FAULT], repeat=3)])
async def test_what_was_drawn_is_delivered_and_charged_whatever_becomes_of_the_rest(
    tmp_path: Path, answers: tuple[bytes, ...]
) -> None:
    async with image_gateway(tmp_path, OPENAI, first=ONE_EACH) as (images, provider):
        play(provider, *answers)
        caller = await images.caller()
        job = await submitted_and_ended(caller, n=3)
        drawn = answers.count(images_answer())
        assert (job["status"], len(job["output"]["data"]) if drawn else 0) == ("succeeded" if drawn else "failed", drawn)
        assert job["charged_amount"] == pytest.approx(drawn * PRICE)
        assert (await caller.balance())["balance"] == pytest.approx(1 - drawn * PRICE)


async def test_each_part_in_a_queue_is_followed(tmp_path: Path) -> None:
    async with drawing(tmp_path, FAL, first=ONE_EACH) as (images, provider):
        caller = await images.caller()
        job = (await submit(caller, n=2)).json
        await until(lambda: len(provider.orders) == 2)
        for order in provider.orders:
            order.goes_on(Stage.DRAWN)
        done = await ended_job(caller, job)
        assert (done["status"], len(done["output"]["data"]), provider.drawn) == ("succeeded", 2, 2)


async def test_a_job_is_refunded_only_if_the_queue_takes_all_of_its_parts_back(tmp_path: Path) -> None:
    async with drawing(tmp_path, FAL, first=ONE_EACH) as (images, provider):
        caller = await images.caller()
        all_wait = (await submit(caller, n=2)).json
        await until(lambda: len(provider.orders) == 2 and images.scheduler.get(all_wait["id"]).state is JobState.ACCEPTED)
        assert await cancel(caller, all_wait) == (200, "refunded")
        one_draws = (await submit(caller, n=2)).json
        await until(lambda: len(provider.orders) == 4 and images.scheduler.get(one_draws["id"]).state is JobState.ACCEPTED)
        provider.orders[2].goes_on(Stage.DRAWS)
        await cancel(caller, one_draws)
        provider.orders[2].goes_on(Stage.DRAWN)
        done = await ended_job(caller, one_draws)
        assert (done["status"], len(done["output"]["data"])) == ("succeeded", 1)
        assert (await caller.balance())["balance"] == pytest.approx(1 - PRICE)


async def test_a_source_that_cannot_make_what_is_asked_is_named_in_the_error(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, FAL, has_accounts=False) as (images, first, second):
        play(first, FAULT)
        job = await submitted_and_ended(await images.caller_without_key(), response_format="b64_json")
        assert (job["status"], second.received) == ("failed", [])
        assert "p0: answered 500" in job["error"]["message"]
        assert "p1 was not asked, as it can't make this: none gives the images themselves" in job["error"]["message"]
