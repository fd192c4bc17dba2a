"""After a restart the jobs that a queue works on continue, and all others are refunded with a reason; none is charged twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from kyma_proxy.jobs.timing import Timing
from tests.accounts_harness import AccountsGateway, Caller
from tests.harness import Provider, gateway, providers, whole
from tests.jobs.image_gateway import (
    FAL,
    FAST_TIMING,
    OPENAI,
    PRICE,
    URL,
    ImageGateway,
    accepted,
    configuration,
    ended_job,
    error_answer,
    images_answer,
    play,
    queue_answers,
    queue_result,
    queue_status,
    submit,
)
from tests.store.factories import locked_by_another_process
from tests.waiting import until

HELD, REFUNDED, CHARGED = ("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)


class Restarts:
    """Starts one gateway after the other on the same database."""

    def __init__(self, directory: Path, dialect: str, provider: Provider) -> None:
        self._directory = directory
        self._sources = [(dialect, provider.port)]
        self.account = self.secret = ""

    def next(self, *, timing: Timing = FAST_TIMING, more: str = "", provider: str = "p0") -> Any:
        accounts = f"accounts: {{required: true, database: 'sqlite:{self._directory}/kyma.db'}}\n"
        text = configuration(*self._sources, accounts=accounts, more=more).replace("p0", provider)
        return gateway(text, self._directory, timing=timing)

    async def caller(self, running: Any) -> tuple[ImageGateway, Caller]:
        images = ImageGateway(AccountsGateway(running))
        if not self.account:
            caller = await images.caller()
            self.account, self.secret = caller.account, caller.secret
            return images, caller
        return images, Caller(await running.client(), self.account, self.secret)


async def is_refunded(caller: Caller, job: Any, why: str) -> bool:
    """True if a job ends as lost, for this reason, and costs nothing."""
    done = await ended_job(caller, job)
    money = await caller.balance()
    return (done["status"], done["error"]["code"], done["charged_amount"], money["balance"]) == (
        "refunded", "job_lost", 0, 1,
    ) and why in done["error"]["message"]  # fmt: skip


async def test_a_job_in_a_providers_queue_continues_by_its_id_there(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, FAL, provider)
        async with restarts.next() as first:
            _, caller = await restarts.caller(first)
            play(provider, accepted("r-7"))
            provider.plays(asyncio.Event())
            job = (await submit(caller, idempotency_key="k")).json
            await until(lambda: len(provider.received) == 2)
        provider.scripts.clear()
        play(provider, queue_status("IN_PROGRESS"), queue_status("COMPLETED"), queue_result())
        async with restarts.next() as second:
            images, caller = await restarts.caller(second)
            done = await ended_job(caller, job)
            assert (done["status"], done["output"]["data"], done["charged_amount"]) == ("succeeded", [{"url": URL}], PRICE)
            assert provider.received[-1].line == "GET /base/owner/app/requests/r-7 HTTP/1.1"
            assert await images.ledger(caller) == [HELD, REFUNDED, CHARGED]
            assert (await submit(caller, idempotency_key="k")).json["id"] == job["id"]


async def test_a_job_without_a_providers_queue_and_a_waiting_job_are_refunded(tmp_path: Path) -> None:
    tiers = (
        "tiers: [{tier: 0, min_purchased: 0, rpm: 60, per_model_rpm: 60, tpm: 1000, max_request_tokens: 1000, "
        "image_concurrent: 1, image_queue: 1}]\n"
    )
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, OPENAI, provider)
        provider.plays(asyncio.Event())
        async with restarts.next(more=tiers) as first:
            _, caller = await restarts.caller(first)
            jobs = [(await submit(caller)).json for _ in range(2)]
            await until(lambda: len(provider.received) == 1)
        async with restarts.next(more=tiers) as second:
            images, caller = await restarts.caller(second)
            for job in jobs:
                assert await is_refunded(caller, job, "restarted, and could not finish")
            assert sorted(await images.ledger(caller)) == [HELD, HELD, REFUNDED, REFUNDED]


async def test_undelivered_images_are_fetched_again_from_a_providers_queue(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, FAL, provider)
        play(provider, *queue_answers())
        async with restarts.next() as first:
            images, caller = await restarts.caller(first)
            job = (await submit(caller)).json
            await images.all_jobs_end()
        play(provider, queue_status("COMPLETED"), queue_result())
        async with restarts.next() as second:
            images, caller = await restarts.caller(second)
            done = await ended_job(caller, job)
            assert (done["status"], done["output"]["data"], done["charged_amount"]) == ("succeeded", [{"url": URL}], PRICE)
            assert await images.ledger(caller) == [HELD, REFUNDED, CHARGED]


async def test_images_that_are_fetched_again_cost_what_they_cost_before_the_restart(tmp_path: Path) -> None:
    substitute = (
        "  - {id: cheap, output_modalities: [image], price: {image: 0.02}, pool: [{provider: p1, model: cheap/app}]}\naliases:"
    )
    async with providers(2) as (dear, cheap):
        accounts = f"accounts: {{required: true, database: 'sqlite:{tmp_path}/kyma.db'}}\n"
        text = configuration((OPENAI, dear.port), (FAL, cheap.port), accounts=accounts, more="fallbacks: {pic: [cheap]}\n")
        text = text.replace(", {provider: p1, model: owner/app/v1, weight: 0}", "").replace("aliases:", substitute)
        play(dear, error_answer("401 Unauthorized"))
        play(cheap, *queue_answers())
        async with gateway(text, tmp_path, timing=FAST_TIMING) as first:
            images = ImageGateway(AccountsGateway(first))
            caller = await images.caller()
            job = (await submit(caller)).json
            await images.all_jobs_end()
        play(cheap, queue_status("COMPLETED"), queue_result())
        async with gateway(text.replace("image: 0.02", "image: 0.01"), tmp_path, timing=FAST_TIMING) as second:
            caller = Caller(await second.client(), caller.account, caller.secret)
            done = await ended_job(caller, job)
            assert (done["status"], done["charged_amount"]) == ("succeeded", 0.02)
            assert await ImageGateway(AccountsGateway(second)).ledger(caller) == [HELD, REFUNDED, ("usage", -0.02)]


async def test_undelivered_images_that_can_not_be_fetched_again_are_refunded(tmp_path: Path) -> None:
    for dialect, answers, then in ((OPENAI, (images_answer(),), ()), (FAL, queue_answers(), (error_answer("404 Not Found"),))):
        (directory := tmp_path / dialect).mkdir()
        async with providers(1) as (provider,):
            restarts = Restarts(directory, dialect, provider)
            play(provider, *answers)
            async with restarts.next() as first:
                images, caller = await restarts.caller(first)
                job = (await submit(caller)).json
                await images.all_jobs_end()
            play(provider, *then)
            async with restarts.next() as second:
                images, caller = await restarts.caller(second)
                await ended_job(caller, job)
                assert await is_refunded(caller, job, "given back")
                assert await images.ledger(caller) == [HELD, REFUNDED, CHARGED, REFUNDED]


async def test_delivered_images_stay_charged_and_are_reported_as_gone(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, OPENAI, provider)
        play(provider, images_answer())
        async with restarts.next() as first:
            _, caller = await restarts.caller(first)
            job = await ended_job(caller, (await submit(caller)).json)
        async with restarts.next() as second:
            images, caller = await restarts.caller(second)
            done = (await caller.ask("GET", f"/v1/jobs/{job['id']}")).json
            assert (done["status"], done["output"], done["error"]["code"]) == ("succeeded", None, "output_gone")
            assert done["charged_amount"] == PRICE
            assert await images.ledger(caller) == [HELD, REFUNDED, CHARGED]


async def job_left_at_its_source(restarts: Restarts, provider: Provider) -> dict[str, Any]:
    """A job that a provider's queue has accepted and works on when the gateway ends."""
    async with restarts.next() as first:
        _, caller = await restarts.caller(first)
        play(provider, accepted())
        provider.plays(asyncio.Event())
        job: dict[str, Any] = (await submit(caller)).json
        await until(lambda: len(provider.received) == 2)
    return job


async def test_a_job_whose_source_is_no_longer_configured_is_refunded(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, FAL, provider)
        job = await job_left_at_its_source(restarts, provider)
        async with restarts.next(provider="another") as second:
            _, caller = await restarts.caller(second)
            assert await is_refunded(caller, job, "not configured any more")


async def test_a_job_that_was_done_during_the_restart_is_delivered_even_past_its_expiry(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, FAL, provider)
        job = await job_left_at_its_source(restarts, provider)
        provider.scripts.clear()
        play(provider, queue_status("COMPLETED"), queue_result())
        async with restarts.next(timing=FAST_TIMING._replace(expires=-1000.0)) as second:
            _, caller = await restarts.caller(second)
            assert (await ended_job(caller, job))["status"] == "succeeded"


async def test_without_accounts_a_stop_ends_every_job_and_logs_it_as_drained(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        play(provider, accepted())
        provider.plays(asyncio.Event())
        async with gateway(configuration((FAL, provider.port)), tmp_path, timing=FAST_TIMING) as running:
            caller = await ImageGateway(AccountsGateway(running)).caller_without_key()
            await submit(caller)
            await until(lambda: len(provider.received) == 2)
        (record,) = [one for one in await running.records(2) if one["endpoint"] == "image.job"]
        assert (record["ending"], record["status"]) == ("drained", 503)


async def test_all_of_many_continued_jobs_are_polled(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, FAL, provider)
        async with restarts.next() as first:
            images, caller = await restarts.caller(first)
            for at in range(12):
                play(provider, accepted(f"r-{at}"), queue_status("COMPLETED"), queue_result())
                await submit(caller)
                await images.all_jobs_end()
        provider.received.clear()
        either = whole(b'{"status":"COMPLETED","images":[{"url":"https://pictures.example/1.png"}]}')  # to a poll and a fetch
        play(provider, *[either] * 24)
        slow = FAST_TIMING._replace(grace=0.0, expires=-1000.0, max_polls_per_s=40.0)  # the first poll comes after 0.3 s
        async with restarts.next(timing=slow) as second:
            images, caller = await restarts.caller(second)
            await images.all_jobs_end()
            statuses = {one["status"] for one in (await caller.ask("GET", "/v1/jobs")).json["data"]}
            assert statuses == {"succeeded"}
            assert len(provider.received) == 24


async def test_a_job_that_is_submitted_while_the_gateway_closes_does_not_run(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, OPENAI, provider)
        async with restarts.next() as first:
            _, caller = await restarts.caller(first)
            asked = [asyncio.create_task(submit(caller))]
            await asyncio.sleep(0)
            await first.app.jobs.close()
            assert provider.received == []
            assert len(first.app.jobs.scheduler) == 0
            await asyncio.gather(*asked, return_exceptions=True)


async def test_a_result_is_not_visible_before_it_is_on_disk(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        restarts = Restarts(tmp_path, OPENAI, provider)
        async with restarts.next() as running:
            images, caller = await restarts.caller(running)
            goes_on = asyncio.Event()
            provider.plays(goes_on, images_answer())
            job = (await submit(caller)).json
            with locked_by_another_process(tmp_path / "kyma.db"):
                goes_on.set()
                await until(lambda: images.scheduler.awaiting_write)
                shown = (await caller.ask("GET", f"/v1/jobs/{job['id']}")).json
                assert (shown["status"], shown["output"], shown["completed_at"]) == ("processing", None, None)
            assert (await ended_job(caller, job))["status"] == "succeeded"
