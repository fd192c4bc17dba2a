"""Jobs of four images in a provider's queue hold four prices each, however many run at once, and pay for what was delivered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.accounts_harness import AccountsGateway, Caller
from tests.harness import gateway
from tests.jobs.drawing_provider import DrawingProvider, Stage
from tests.jobs.image_gateway import (
    FAL,
    FAST_TIMING,
    PRICE,
    URL,
    ImageGateway,
    accepted,
    configuration,
    ended_job,
    image_gateway,
    play,
    queue_result,
    queue_status,
    submit,
    submitted_and_ended,
)
from tests.waiting import until

N = 4
HELD, REFUNDED = ("adjustment", -N * PRICE), ("refund", N * PRICE)


async def test_of_jobs_that_run_at_once_one_fails_and_only_the_others_are_charged(tmp_path: Path) -> None:
    accounts = f"accounts: {{required: true, database: 'sqlite:{tmp_path}/kyma.db'}}\n"
    async with DrawingProvider.open() as provider:
        text = configuration((FAL, provider.port), accounts=accounts)
        async with gateway(text, tmp_path, timing=FAST_TIMING) as running:
            images = ImageGateway(AccountsGateway(running))
            callers = [await images.caller(f"{name}@example.com") for name in "abc"]
            jobs = [(await submit(caller, n=N)).json for caller in callers]
            await until(lambda: len(provider.orders) == len(jobs))
            assert [order.n for order in provider.orders] == [N] * len(jobs)
            for caller in callers:
                assert await images.ledger(caller) == [HELD]
                assert (await caller.balance())["available"] == pytest.approx(1 - N * PRICE)
            for order in provider.orders:
                order.goes_on(Stage.DRAWS)
            provider.orders[1].goes_on(Stage.FAILED)
            provider.orders[0].goes_on(Stage.DRAWN)
            provider.orders[2].goes_on(Stage.DRAWN)
            ended = [await ended_job(caller, job) for caller, job in zip(callers, jobs, strict=True)]
            delivered = [len((job["output"] or {"data": []})["data"]) for job in ended]
            assert sorted(delivered) == [0, N, N]
            for caller, job, count in zip(callers, ended, delivered, strict=True):
                assert (job["status"], job["charged_amount"]) == ("succeeded" if count else "failed", count * PRICE)
                assert await images.ledger(caller) == [HELD, REFUNDED, *([("usage", -count * PRICE)] if count else [])]
                assert (await caller.balance())["balance"] == pytest.approx(1 - count * PRICE)
            assert provider.drawn == sum(delivered)
            assert len(images.scheduler) == 0


@pytest.mark.parametrize(
    ("urls", "charged"),
    [
        ([f"{URL}?{at}" for at in range(N)], N),
        ([f"{URL}?1", "file:///etc/passwd", f"{URL}?3", f"{URL}?4"], 3),
        (["javascript:alert(1)", "", "http://user:word@a.example/", f"{URL}?4"], 1),
        ([f"{URL}?{at}" for at in range(N + 3)], N),
    ],
    ids=["all", "one is no picture", "three are none", "more than were asked for"],
)
async def test_what_is_delivered_of_four_is_charged_and_no_more(tmp_path: Path, urls: list[str], charged: int) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        play(provider, accepted(), queue_status("COMPLETED"), queue_result(*urls))
        caller = await images.caller()
        job = await submitted_and_ended(caller, n=N)
        due = round(charged * PRICE, 2)
        assert (job["status"], len(job["output"]["data"]), job["charged_amount"]) == ("succeeded", charged, due)
        assert await images.ledger(caller) == [HELD, REFUNDED, ("usage", -due)]


async def test_jobs_at_once_hold_no_more_than_there_is(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        goes_on = asyncio.Event()
        for _ in range(2):
            provider.plays(goes_on, accepted())
        caller = await images.caller(usd=2 * N * PRICE + PRICE)
        callers = [Caller(await images.running.client(), caller.account, caller.secret) for _ in range(5)]
        answers = await asyncio.gather(*(submit(one, n=N) for one in callers))
        assert sorted(answer.status for answer in answers) == [202, 202, 402, 402, 402]
        assert await images.ledger(caller) == [HELD, HELD]
        assert (await caller.balance())["available"] == pytest.approx(PRICE)
        for answer in answers:
            if answer.status == 202:
                assert (await caller.ask("DELETE", f"/v1/jobs/{answer.json['id']}")).status in (200, 202)
        goes_on.set()


async def test_another_number_is_refused_and_holds_nothing(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        caller = await images.caller()
        for n in (0, -1, N + 1, 2**63, 2**64, 1e300, 1.5, "4", True, [4]):
            answer = await submit(caller, n=n)
            assert (n, answer.status, answer.json["error"]["param"]) == (n, 400, "n")
        assert await images.ledger(caller) == []
        assert not provider.received
