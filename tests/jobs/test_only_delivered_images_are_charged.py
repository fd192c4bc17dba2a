"""What a job may cost is held at its submission; what arrived is charged, and everything else given back, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kyma_proxy.config.snapshot import NANO
from kyma_proxy.core.jobs.finished import FinishedJobs
from tests.harness import until
from tests.jobs.studio import (
    FAL,
    OPENAI,
    PRICE,
    URL,
    bought,
    by_queue,
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

HELD = ("adjustment", -PRICE)
GIVEN_BACK = ("refund", PRICE)
CHARGED = ("usage", -PRICE)


async def test_the_hold_is_taken_at_submission_and_the_charge_comes_with_the_picture(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with studio(tmp_path, OPENAI) as (here, provider):
        provider.plays(goes_on, made())
        caller = await here.caller()
        job = (await order(caller)).json
        assert await here.ledger(caller) == [HELD]
        assert (await caller.balance())["available"] == pytest.approx(1 - PRICE)
        goes_on.set()
        await ended(caller, job)
        assert await here.ledger(caller) == [HELD, GIVEN_BACK, CHARGED]
        assert (await caller.balance())["balance"] == pytest.approx(1 - PRICE)
        usage = (await caller.ask("GET", "/v1/usage")).json
        assert (usage["total"]["requests"], usage["total"]["cost_usd"], usage["data"][0]["model"]) == (1, PRICE, "pic")


@pytest.mark.parametrize(("dialect", "answers"), [
    (OPENAI, (refused("400 Bad Request"),)),
    (FAL, (taken(), look("COMPLETED"), refused("422 Unprocessable Entity"))),
])  # fmt: skip
async def test_a_failed_job_costs_nothing_and_its_refund_is_in_the_ledger(
    tmp_path: Path, dialect: str, answers: tuple[bytes, ...]
) -> None:
    async with studio(tmp_path, dialect) as (here, provider):
        plays(provider, *answers)
        caller = await here.caller()
        job = await bought(caller)
        assert (job["status"], job["charged_amount"], job["output"]) == ("failed", 0, None)
        assert await here.ledger(caller) == [HELD, GIVEN_BACK]
        assert (await caller.balance())["balance"] == 1
        assert (await caller.ask("GET", "/v1/usage")).json["data"] == []


@pytest.mark.parametrize(("dialect", "answers"), [
    (OPENAI, (made(f"{URL}?1", f"{URL}?2"),)),
    (FAL, (taken(), look("COMPLETED"), fetched(f"{URL}?1", "no url", f"{URL}?2"))),
])  # fmt: skip
async def test_of_four_pictures_of_which_two_arrived_two_are_charged(
    tmp_path: Path, dialect: str, answers: tuple[bytes, ...]
) -> None:
    async with studio(tmp_path, dialect) as (here, provider):
        plays(provider, *answers)
        caller = await here.caller()
        job = await bought(caller, n=4)
        assert (job["status"], job["estimated_cost"], job["charged_amount"]) == ("succeeded", 4 * PRICE, 2 * PRICE)
        assert job["output"]["data"] == [{"url": f"{URL}?1"}, {"url": f"{URL}?2"}]
        assert await here.ledger(caller) == [("adjustment", -4 * PRICE), ("refund", 4 * PRICE), ("usage", -2 * PRICE)]


async def test_more_pictures_than_were_asked_for_are_neither_delivered_nor_charged(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        plays(provider, made(URL, URL, URL))
        job = await bought(await here.caller(), n=2)
        assert (len(job["output"]["data"]), job["charged_amount"]) == (2, 2 * PRICE)


async def test_who_can_not_pay_for_all_that_was_asked_for_is_told_so_and_holds_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        caller = await here.caller(usd=0.12)
        answer = await order(caller, n=3)
        assert (answer.status, answer.json["error"]["code"]) == (402, "insufficient_credits")
        assert "$0.03 is missing" in answer.json["error"]["message"]
        assert "fewer images" in answer.json["error"]["message"]
        plays(provider, made(URL, URL))
        assert (await bought(caller, n=2))["charged_amount"] == 2 * PRICE
        assert await here.ledger(caller) == [("adjustment", -0.1), ("refund", 0.1), ("usage", -0.1)]


async def test_jobs_at_the_same_moment_do_not_hold_more_than_there_is(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        plays(provider, *[made()] * 3)
        caller = await here.caller(usd=3 * PRICE)
        callers = [type(caller)(await here.running.client(), caller.account, caller.secret) for _ in range(6)]
        answers = await asyncio.gather(*(order(one) for one in callers))
        assert sorted(answer.status for answer in answers) == [202] * 3 + [402] * 3
        await here.is_at_rest()
        assert (await caller.balance())["balance"] == 0


async def test_a_cancelled_job_is_given_back_and_its_queue_is_told(tmp_path: Path) -> None:
    async with studio(tmp_path, FAL) as (here, provider):
        plays(provider, taken())
        provider.plays(asyncio.Event())
        caller = await here.caller()
        job = (await order(caller)).json
        await until(lambda: len(provider.received) == 2)
        answer = await caller.ask("DELETE", f"/v1/jobs/{job['id']}")
        assert (answer.status, answer.json["status"], answer.json["error"]["code"]) == (200, "refunded", "job_cancelled")
        assert await here.ledger(caller) == [HELD, GIVEN_BACK]
        await until(lambda: provider.received[-1].line == "PUT /base/owner/app/requests/r-1/cancel HTTP/1.1")
        again = await caller.ask("DELETE", f"/v1/jobs/{job['id']}")
        assert again.json == answer.json


async def test_what_has_succeeded_can_not_be_cancelled_any_more(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        plays(provider, made())
        caller = await here.caller()
        job = await bought(caller)
        assert (await caller.ask("DELETE", f"/v1/jobs/{job['id']}")).json == job
        assert await here.ledger(caller) == [HELD, GIVEN_BACK, CHARGED]


async def test_a_substitute_is_charged_at_the_lower_of_the_two_prices(tmp_path: Path) -> None:
    for price, charged in ((0.01, 0.01), (0.5, PRICE)):
        (directory := tmp_path / str(price)).mkdir()
        async with studio(directory, OPENAI) as (here, provider):
            text = here.running.configuration.path.read_text()
            model = (
                f"  - {{id: other, output_modalities: [image], price: {{image: {price}}}, "
                "pool: [{provider: p0, model: o/a}]}\n"
            )
            here.running.configuration.path.write_text(
                text.replace("models:\n", f"models:\n{model}").replace("aliases:", "fallbacks: {pic: [other]}\naliases:")
            )
            assert (await here.running.configuration.reload("the test")).result == "reloaded"
            plays(provider, refused("500 Internal Server Error"), made())
            caller = await here.caller()
            answer = await order(caller, headers="prefer: wait=10\r\n")
            assert (answer.headers["x-kyma-model"], answer.headers["x-kyma-fallback-layer"]) == ("other", "3")
            assert (await here.ledger(caller))[-1] == ("usage", -charged)


async def test_memory_and_disk_agree_after_every_kind_of_ending(tmp_path: Path) -> None:
    async with studio(tmp_path, FAL) as (here, provider):
        caller = await here.caller()
        for answers in (by_queue(), (refused("400 Bad Request"),), (taken(), refused("404 Not Found")), by_queue()):
            plays(provider, *answers)
            await bought(caller)
        stored = {row.id: row.balance for row in here.till.account_service.store.load()[0]}
        account = here.till.account_service.accounts.account(caller.account)
        assert (account.balance, account.held) == (stored[caller.account], 0)
        assert account.balance == round((1 - 2 * PRICE) * NANO)


async def test_a_stand_in_is_charged_at_the_price_with_which_it_began(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with studio(tmp_path, OPENAI, OPENAI) as (here, bad, good):
        path = here.running.configuration.path
        text = path.read_text()
        stand_in = "  - {id: other, output_modalities: [image], price: {image: 0.01}, pool: [{provider: p1, model: o/a}]}\n"
        alone = text.replace(", {provider: p1, model: owner/app/v1, weight: 0}", "")
        path.write_text(
            alone.replace("models:\n", f"models:\n{stand_in}").replace("aliases:", "fallbacks: {pic: [other]}\naliases:")
        )
        assert (await here.running.configuration.reload("the test")).result == "reloaded"
        plays(bad, refused("500 Internal Server Error"))
        good.plays(goes_on, made())
        caller = await here.caller()
        job = (await order(caller)).json
        await until(lambda: len(good.received) == 1)
        path.write_text(alone)
        assert (await here.running.configuration.reload("the test")).result == "reloaded"
        goes_on.set()
        assert (await ended(caller, job))["charged_amount"] == 0.01


async def test_pictures_for_which_there_is_no_room_are_given_back_if_nobody_has_had_them(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI) as (here, provider):
        here.scheduler.finished = FinishedJobs(most_bytes=40)
        caller = await here.caller()
        plays(provider, made(), made())
        first = (await order(caller)).json
        await here.is_at_rest()
        second = (await order(caller)).json
        await here.is_at_rest()
        lost = (await caller.ask("GET", f"/v1/jobs/{first['id']}")).json
        assert (lost["status"], lost["error"]["code"], lost["charged_amount"]) == ("refunded", "job_lost", 0)
        assert (await ended(caller, second))["charged_amount"] == PRICE
        assert (await caller.balance())["balance"] == pytest.approx(1 - PRICE)


async def test_a_job_whose_end_can_not_be_noted_ends_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(job: object, event: object) -> None:
        raise RuntimeError("the log is broken")

    async with studio(tmp_path, OPENAI) as (here, provider):
        plays(provider, made())
        monkeypatch.setattr(here.scheduler, "_note", fails)
        caller = await here.caller()
        assert (await bought(caller))["status"] == "succeeded"
        assert "could not be settled" in caplog.text
        assert await here.ledger(caller) == [HELD, GIVEN_BACK, CHARGED]
