"""After a restart what a queue works on goes on, and what can't go on is given back with a reason; nothing is charged twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from kyma_proxy.jobs.timing import Timing
from tests.accounts_harness import AccountsGateway
from tests.harness import Provider, gateway, providers, whole
from tests.jobs.studio import (
    FAL,
    HASTY,
    OPENAI,
    PRICE,
    URL,
    Caller,
    Studio,
    by_queue,
    configuration,
    ended,
    fetched,
    look,
    made,
    order,
    plays,
    refused,
    taken,
)
from tests.store.factories import locked_by_another_process
from tests.waiting import until

HELD, GIVEN_BACK, CHARGED = ("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)


class Houses:
    """One gateway after the other, on one database."""

    def __init__(self, directory: Path, dialect: str, provider: Provider) -> None:
        self._directory = directory
        self._sources = [(dialect, provider.port)]
        self.account = self.secret = ""

    def next(self, *, timing: Timing = HASTY, more: str = "", provider: str = "p0") -> Any:
        accounts = f"accounts: {{required: true, database: 'sqlite:{self._directory}/kyma.db'}}\n"
        text = configuration(*self._sources, accounts=accounts, more=more).replace("p0", provider)
        return gateway(text, self._directory, timing=timing)

    async def caller(self, running: Any) -> tuple[Studio, Caller]:
        studio = Studio(AccountsGateway(running))
        if not self.account:
            caller = await studio.caller()
            self.account, self.secret = caller.account, caller.secret
            return studio, caller
        return studio, Caller(await running.client(), self.account, self.secret)


async def is_given_back(studio: Studio, caller: Caller, job: Any, why: str) -> None:
    done = await ended(caller, job)
    assert (done["status"], done["error"]["code"], done["charged_amount"]) == ("refunded", "job_lost", 0)
    assert why in done["error"]["message"]
    assert (await caller.balance())["balance"] == 1


async def test_a_job_in_a_queue_goes_on_by_its_name_there(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, FAL, provider)
        async with houses.next() as first:
            _, caller = await houses.caller(first)
            plays(provider, taken("r-7"))
            provider.plays(asyncio.Event())
            job = (await order(caller, idempotency_key="k")).json
            await until(lambda: len(provider.received) == 2)
        provider.scripts.clear()
        plays(provider, look("IN_PROGRESS"), look("COMPLETED"), fetched())
        async with houses.next() as second:
            studio, caller = await houses.caller(second)
            done = await ended(caller, job)
            assert (done["status"], done["output"]["data"], done["charged_amount"]) == ("succeeded", [{"url": URL}], PRICE)
            assert provider.received[-1].line == "GET /base/owner/app/requests/r-7 HTTP/1.1"
            assert await studio.ledger(caller) == [HELD, GIVEN_BACK, CHARGED]
            assert (await order(caller, idempotency_key="k")).json["id"] == job["id"]


async def test_a_job_that_was_being_made_at_once_or_still_waited_is_given_back(tmp_path: Path) -> None:
    tiers = (
        "tiers: [{tier: 0, min_purchased: 0, rpm: 60, per_model_rpm: 60, tpm: 1000, max_request_tokens: 1000, "
        "image_concurrent: 1, image_queue: 1}]\n"
    )
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, OPENAI, provider)
        provider.plays(asyncio.Event())
        async with houses.next(more=tiers) as first:
            _, caller = await houses.caller(first)
            jobs = [(await order(caller)).json for _ in range(2)]
            await until(lambda: len(provider.received) == 1)
        async with houses.next(more=tiers) as second:
            studio, caller = await houses.caller(second)
            for job in jobs:
                await is_given_back(studio, caller, job, "restarted, and could not finish")
            assert sorted(await studio.ledger(caller)) == [HELD, HELD, GIVEN_BACK, GIVEN_BACK]


async def test_pictures_that_nobody_fetched_are_fetched_again_from_a_queue(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, FAL, provider)
        plays(provider, *by_queue())
        async with houses.next() as first:
            studio, caller = await houses.caller(first)
            job = (await order(caller)).json
            await studio.is_at_rest()
        plays(provider, look("COMPLETED"), fetched())
        async with houses.next() as second:
            studio, caller = await houses.caller(second)
            done = await ended(caller, job)
            assert (done["status"], done["output"]["data"], done["charged_amount"]) == ("succeeded", [{"url": URL}], PRICE)
            assert await studio.ledger(caller) == [HELD, GIVEN_BACK, CHARGED]


async def test_pictures_that_are_fetched_again_cost_what_they_cost_then(tmp_path: Path) -> None:
    substitute = (
        "  - {id: cheap, output_modalities: [image], price: {image: 0.02}, pool: [{provider: p1, model: cheap/app}]}\naliases:"
    )
    async with providers(2) as (dear, cheap):
        accounts = f"accounts: {{required: true, database: 'sqlite:{tmp_path}/kyma.db'}}\n"
        text = configuration((OPENAI, dear.port), (FAL, cheap.port), accounts=accounts, more="fallbacks: {pic: [cheap]}\n")
        text = text.replace(", {provider: p1, model: owner/app/v1, weight: 0}", "").replace("aliases:", substitute)
        plays(dear, refused("401 Unauthorized"))
        plays(cheap, *by_queue())
        async with gateway(text, tmp_path, timing=HASTY) as first:
            studio = Studio(AccountsGateway(first))
            caller = await studio.caller()
            job = (await order(caller)).json
            await studio.is_at_rest()
        plays(cheap, look("COMPLETED"), fetched())
        async with gateway(text.replace("image: 0.02", "image: 0.01"), tmp_path, timing=HASTY) as second:
            caller = Caller(await second.client(), caller.account, caller.secret)
            done = await ended(caller, job)
            assert (done["status"], done["charged_amount"]) == ("succeeded", 0.02)
            assert await Studio(AccountsGateway(second)).ledger(caller) == [HELD, GIVEN_BACK, ("usage", -0.02)]


async def test_pictures_that_can_not_be_had_again_are_given_back(tmp_path: Path) -> None:
    for dialect, answers, then in ((OPENAI, (made(),), ()), (FAL, by_queue(), (refused("404 Not Found"),))):
        (directory := tmp_path / dialect).mkdir()
        async with providers(1) as (provider,):
            houses = Houses(directory, dialect, provider)
            plays(provider, *answers)
            async with houses.next() as first:
                studio, caller = await houses.caller(first)
                job = (await order(caller)).json
                await studio.is_at_rest()
            plays(provider, *then)
            async with houses.next() as second:
                studio, caller = await houses.caller(second)
                await ended(caller, job)
                await is_given_back(studio, caller, job, "given back")
                assert await studio.ledger(caller) == [HELD, GIVEN_BACK, CHARGED, GIVEN_BACK]


async def test_pictures_that_were_fetched_stay_charged_and_are_said_to_be_gone(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, OPENAI, provider)
        plays(provider, made())
        async with houses.next() as first:
            _, caller = await houses.caller(first)
            job = await ended(caller, (await order(caller)).json)
        async with houses.next() as second:
            studio, caller = await houses.caller(second)
            done = (await caller.ask("GET", f"/v1/jobs/{job['id']}")).json
            assert (done["status"], done["output"], done["error"]["code"]) == ("succeeded", None, "output_gone")
            assert done["charged_amount"] == PRICE
            assert await studio.ledger(caller) == [HELD, GIVEN_BACK, CHARGED]


async def left_with_its_source(houses: Houses, provider: Provider) -> dict[str, Any]:
    """A job that a queue has taken and works on while the gateway ends."""
    async with houses.next() as first:
        _, caller = await houses.caller(first)
        plays(provider, taken())
        provider.plays(asyncio.Event())
        job: dict[str, Any] = (await order(caller)).json
        await until(lambda: len(provider.received) == 2)
    return job


async def test_a_job_whose_source_is_not_configured_any_more_is_given_back(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, FAL, provider)
        job = await left_with_its_source(houses, provider)
        async with houses.next(provider="another") as second:
            studio, caller = await houses.caller(second)
            await is_given_back(studio, caller, job, "not configured any more")


async def test_a_job_that_was_done_while_the_gateway_was_away_is_delivered_however_late(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, FAL, provider)
        job = await left_with_its_source(houses, provider)
        provider.scripts.clear()
        plays(provider, look("COMPLETED"), fetched())
        async with houses.next(timing=HASTY._replace(expires=-1000.0)) as second:
            _, caller = await houses.caller(second)
            assert (await ended(caller, job))["status"] == "succeeded"


async def test_without_accounts_a_stop_ends_every_job_and_says_so_in_the_log(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        plays(provider, taken())
        provider.plays(asyncio.Event())
        async with gateway(configuration((FAL, provider.port)), tmp_path, timing=HASTY) as running:
            caller = await Studio(AccountsGateway(running)).anybody()
            await order(caller)
            await until(lambda: len(provider.received) == 2)
        (record,) = [one for one in await running.records(2) if one["endpoint"] == "image.job"]
        assert (record["ending"], record["status"]) == ("drained", 503)


async def test_however_many_go_on_each_is_looked_at(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, FAL, provider)
        async with houses.next() as first:
            studio, caller = await houses.caller(first)
            for at in range(12):
                plays(provider, taken(f"r-{at}"), look("COMPLETED"), fetched())
                await order(caller)
                await studio.is_at_rest()
        provider.received.clear()
        either = whole(b'{"status":"COMPLETED","images":[{"url":"https://pictures.example/1.png"}]}')  # to a look and a fetch
        plays(provider, *[either] * 24)
        slow = HASTY._replace(grace=0.0, expires=-1000.0, most_looks_per_s=40.0)  # the first look comes after 0.3 s
        async with houses.next(timing=slow) as second:
            studio, caller = await houses.caller(second)
            await studio.is_at_rest()
            statuses = {one["status"] for one in (await caller.ask("GET", "/v1/jobs")).json["data"]}
            assert statuses == {"succeeded"}
            assert len(provider.received) == 24


async def test_nothing_is_begun_that_nobody_would_end(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, OPENAI, provider)
        async with houses.next() as first:
            _, caller = await houses.caller(first)
            asked = [asyncio.create_task(order(caller))]
            await asyncio.sleep(0)
            await first.app.jobs.close()
            assert provider.received == []
            assert len(first.app.jobs.scheduler) == 0
            await asyncio.gather(*asked, return_exceptions=True)


async def test_nothing_is_shown_that_is_not_on_disk(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        houses = Houses(tmp_path, OPENAI, provider)
        async with houses.next() as running:
            studio, caller = await houses.caller(running)
            goes_on = asyncio.Event()
            provider.plays(goes_on, made())
            job = (await order(caller)).json
            with locked_by_another_process(tmp_path / "kyma.db"):
                goes_on.set()
                await until(lambda: studio.scheduler.settling)
                shown = (await caller.ask("GET", f"/v1/jobs/{job['id']}")).json
                assert (shown["status"], shown["output"], shown["completed_at"]) == ("processing", None, None)
            assert (await ended(caller, job))["status"] == "succeeded"
