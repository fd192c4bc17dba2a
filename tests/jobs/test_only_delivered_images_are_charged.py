"""What a job may cost is held at its submission. Delivered images are charged, and everything else is refunded, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kyma_proxy.config.snapshot import NANO
from kyma_proxy.core.jobs.finished import FinishedJobs
from kyma_proxy.telemetry.access_log import AccessLog
from kyma_proxy.telemetry.record import Record
from tests.jobs.image_gateway import (
    FAL,
    OPENAI,
    PRICE,
    URL,
    accepted,
    ended_job,
    error_answer,
    image_gateway,
    images_answer,
    play,
    queue_answers,
    queue_result,
    queue_status,
    submit,
    submitted_and_ended,
    withdrawn,
)
from tests.waiting import until

HELD = ("adjustment", -PRICE)
REFUNDED = ("refund", PRICE)
CHARGED = ("usage", -PRICE)


async def test_the_cost_is_held_at_submission_and_charged_at_delivery(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        provider.plays(goes_on, images_answer())
        caller = await images.caller()
        job = (await submit(caller)).json
        assert await images.ledger(caller) == [HELD]
        assert (await caller.balance())["available"] == pytest.approx(1 - PRICE)
        goes_on.set()
        await ended_job(caller, job)
        assert await images.ledger(caller) == [HELD, REFUNDED, CHARGED]
        assert (await caller.balance())["balance"] == pytest.approx(1 - PRICE)
        usage = (await caller.ask("GET", "/v1/usage")).json
        assert (usage["total"]["requests"], usage["total"]["cost_usd"], usage["data"][0]["model"]) == (1, PRICE, "pic")


@pytest.mark.parametrize(("dialect", "answers"), [
    (OPENAI, (error_answer("400 Bad Request"),)),
    (FAL, (accepted(), queue_status("COMPLETED"), error_answer("422 Unprocessable Entity"))),
])  # fmt: skip
async def test_a_failed_job_costs_nothing_and_its_refund_is_in_the_ledger(
    tmp_path: Path, dialect: str, answers: tuple[bytes, ...]
) -> None:
    async with image_gateway(tmp_path, dialect) as (images, provider):
        play(provider, *answers)
        caller = await images.caller()
        job = await submitted_and_ended(caller)
        assert (job["status"], job["charged_amount"], job["output"]) == ("failed", 0, None)
        assert await images.ledger(caller) == [HELD, REFUNDED]
        assert (await caller.balance())["balance"] == 1
        assert (await caller.ask("GET", "/v1/usage")).json["data"] == []


@pytest.mark.parametrize(("dialect", "answers"), [
    (OPENAI, (images_answer(f"{URL}?1", f"{URL}?2"),)),
    (FAL, (accepted(), queue_status("COMPLETED"), queue_result(f"{URL}?1", "no url", f"{URL}?2"))),
])  # fmt: skip
async def test_if_two_of_four_images_are_delivered_two_are_charged(
    tmp_path: Path, dialect: str, answers: tuple[bytes, ...]
) -> None:
    async with image_gateway(tmp_path, dialect) as (images, provider):
        play(provider, *answers)
        caller = await images.caller()
        job = await submitted_and_ended(caller, n=4)
        assert (job["status"], job["estimated_cost"], job["charged_amount"]) == ("succeeded", 4 * PRICE, 2 * PRICE)
        assert job["output"]["data"] == [{"url": f"{URL}?1"}, {"url": f"{URL}?2"}]
        assert await images.ledger(caller) == [("adjustment", -4 * PRICE), ("refund", 4 * PRICE), ("usage", -2 * PRICE)]


async def test_more_images_than_requested_are_neither_delivered_nor_charged(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer(URL, URL, URL))
        job = await submitted_and_ended(await images.caller(), n=2)
        assert (len(job["output"]["data"]), job["charged_amount"]) == (2, 2 * PRICE)


async def test_a_job_that_the_account_can_not_afford_is_a_402_and_holds_nothing(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        caller = await images.caller(usd=0.12)
        answer = await submit(caller, n=3)
        assert (answer.status, answer.json["error"]["code"]) == (402, "insufficient_credits")
        assert "$0.03 is missing" in answer.json["error"]["message"]
        assert "fewer images" in answer.json["error"]["message"]
        play(provider, images_answer(URL, URL))
        assert (await submitted_and_ended(caller, n=2))["charged_amount"] == 2 * PRICE
        assert await images.ledger(caller) == [("adjustment", -0.1), ("refund", 0.1), ("usage", -0.1)]


async def test_concurrent_jobs_do_not_hold_more_than_the_balance(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, *[images_answer()] * 3)
        caller = await images.caller(usd=3 * PRICE)
        callers = [type(caller)(await images.running.client(), caller.account, caller.secret) for _ in range(6)]
        answers = await asyncio.gather(*(submit(one) for one in callers))
        assert sorted(answer.status for answer in answers) == [202] * 3 + [402] * 3
        await images.all_jobs_end()
        assert (await caller.balance())["balance"] == 0


async def test_a_job_that_its_queue_has_taken_back_is_refunded(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        play(provider, accepted())
        provider.plays(asyncio.Event())
        play(provider, withdrawn())
        caller = await images.caller()
        job = (await submit(caller)).json
        await until(lambda: len(provider.received) == 2)
        answer = await caller.ask("DELETE", f"/v1/jobs/{job['id']}")
        assert (answer.status, answer.json["status"], answer.json["error"]["code"]) == (200, "refunded", "job_cancelled")
        assert await images.ledger(caller) == [HELD, REFUNDED]
        await until(lambda: provider.received[-1].line == "PUT /base/owner/app/requests/r-1/cancel HTTP/1.1")
        again = await caller.ask("DELETE", f"/v1/jobs/{job['id']}")
        assert again.json == answer.json


async def test_a_job_that_has_succeeded_can_not_be_cancelled(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer())
        caller = await images.caller()
        job = await submitted_and_ended(caller)
        assert (await caller.ask("DELETE", f"/v1/jobs/{job['id']}")).json == job
        assert await images.ledger(caller) == [HELD, REFUNDED, CHARGED]


async def test_a_substitute_is_charged_at_the_lower_of_the_two_prices(tmp_path: Path) -> None:
    for price, charged in ((0.01, 0.01), (0.5, PRICE)):
        (directory := tmp_path / str(price)).mkdir()
        async with image_gateway(directory, OPENAI) as (images, provider):
            text = images.running.file.read_text()
            model = (
                f"  - {{id: other, output_modalities: [image], price: {{image: {price}}}, "
                "pool: [{provider: p0, model: o/a}]}\n"
            )
            images.running.file.write_text(
                text.replace("models:\n", f"models:\n{model}").replace("aliases:", "fallbacks: {pic: [other]}\naliases:")
            )
            assert (await images.running.configuration.reload("the test")).result == "reloaded"
            play(provider, error_answer("500 Internal Server Error"), images_answer())
            caller = await images.caller()
            answer = await submit(caller, headers="prefer: wait=10\r\n")
            assert (answer.headers["x-kyma-model"], answer.headers["x-kyma-fallback-layer"]) == ("other", "3")
            assert (await images.ledger(caller))[-1] == ("usage", -charged)


async def test_balances_in_memory_and_on_disk_agree_after_every_kind_of_ending(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        caller = await images.caller()
        for answers in (
            queue_answers(),
            (error_answer("400 Bad Request"),),
            (accepted(), error_answer("404 Not Found")),
            queue_answers(),
        ):
            play(provider, *answers)
            await submitted_and_ended(caller)
        stored = {row.id: row.balance for row in images.accounts.account_service.store.load()[0]}
        account = images.accounts.account_service.accounts.account(caller.account)
        assert (account.balance, account.held) == (stored[caller.account], 0)
        assert account.balance == round((1 - 2 * PRICE) * NANO)


async def test_a_substitute_is_charged_at_its_price_when_the_job_was_sent_to_it(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with image_gateway(tmp_path, OPENAI, OPENAI) as (images, bad, good):
        path = images.running.file
        text = path.read_text()
        substitute = "  - {id: other, output_modalities: [image], price: {image: 0.01}, pool: [{provider: p1, model: o/a}]}\n"
        alone = text.replace(", {provider: p1, model: owner/app/v1, weight: 0}", "")
        path.write_text(
            alone.replace("models:\n", f"models:\n{substitute}").replace("aliases:", "fallbacks: {pic: [other]}\naliases:")
        )
        assert (await images.running.configuration.reload("the test")).result == "reloaded"
        play(bad, error_answer("500 Internal Server Error"))
        good.plays(goes_on, images_answer())
        caller = await images.caller()
        job = (await submit(caller)).json
        await until(lambda: len(good.received) == 1)
        path.write_text(alone)
        assert (await images.running.configuration.reload("the test")).result == "reloaded"
        goes_on.set()
        assert (await ended_job(caller, job))["charged_amount"] == 0.01


async def test_images_that_an_account_has_pushed_out_itself_stay_charged(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        images.scheduler.finished = FinishedJobs(max_bytes=40)
        caller = await images.caller()
        play(provider, images_answer(), images_answer())
        first = (await submit(caller)).json
        await images.all_jobs_end()
        second = (await submit(caller)).json
        await images.all_jobs_end()
        lost = (await caller.ask("GET", f"/v1/jobs/{first['id']}")).json
        assert (lost["status"], lost["error"]["code"], lost["charged_amount"]) == ("succeeded", "output_gone", PRICE)
        assert (await ended_job(caller, second))["charged_amount"] == PRICE
        assert (await caller.balance())["balance"] == pytest.approx(1 - 2 * PRICE)


async def test_a_job_whose_log_line_can_not_be_written_ends_and_is_charged_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenLog:
        def __init__(self, log: AccessLog | None) -> None:
            assert log is not None
            self.flush, self.close = log.flush, log.close

        def write(self, record: Record) -> None:
            if record.endpoint == "image.job":
                raise RuntimeError("the log is broken")

    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer())
        monkeypatch.setattr(images.running.app, "access_log", BrokenLog(images.running.app.access_log))
        caller = await images.caller()
        assert (await submitted_and_ended(caller))["status"] == "succeeded"
        assert "could not be settled" in caplog.text
        assert await images.ledger(caller) == [HELD, REFUNDED, CHARGED]
