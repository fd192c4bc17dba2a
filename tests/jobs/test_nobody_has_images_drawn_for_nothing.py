"""A job is refunded only if no source has begun it. Whatever a caller does, what was drawn for him is charged."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.core.accounts.accounts import Account
from kyma_proxy.core.jobs.finished import FinishedJobs
from kyma_proxy.core.jobs.job import Job, JobEvent, JobState
from kyma_proxy.core.jobs.stopping import StopAction, stop_action
from kyma_proxy.jobs.timing import Timing
from tests.accounts_harness import AccountsGateway, Caller
from tests.harness import gateway
from tests.jobs.drawing_provider import DrawingProvider, Stage
from tests.jobs.image_gateway import (
    FAL,
    FAST_TIMING,
    OPENAI,
    PRICE,
    URL,
    ImageGateway,
    configuration,
    ended_job,
    error_answer,
    image_gateway,
    images_answer,
    play,
    submit,
)
from tests.waiting import until

TIERS = (
    "tiers: [{tier: 0, min_purchased: 0, rpm: 9000, per_model_rpm: 9000, tpm: 90000, max_request_tokens: 90000, "
    "image_concurrent: 3, image_queue: 4}]\n"
)


@contextlib.asynccontextmanager
async def drawing(
    directory: Path, dialect: str, *, timing: Timing = FAST_TIMING, more: str = TIERS, first: str = ""
) -> AsyncIterator[tuple[ImageGateway, DrawingProvider]]:
    """A gateway with accounts in front of a provider that counts what it draws."""
    async with DrawingProvider.open() as provider:
        accounts = f"accounts: {{required: true, database: 'sqlite:{directory}/kyma.db'}}\n"
        text = configuration((dialect, provider.port), accounts=accounts, more=more, first=first)
        async with gateway(text, directory, timing=timing) as running:
            yield ImageGateway(AccountsGateway(running)), provider


async def cancel(caller: Caller, job: Any) -> tuple[int, str]:
    """Cancel a job: the status of the answer, and that of the job."""
    answer = await caller.ask("DELETE", f"/v1/jobs/{job['id']}")
    return answer.status, answer.json["status"]


# ---- what a stop can still do


@pytest.mark.parametrize(("state", "is_ordered", "is_settled", "event", "action"), [
    (JobState.QUEUED, False, False, JobEvent.CANCEL, StopAction.END),
    (JobState.QUEUED, False, False, JobEvent.EXPIRE, StopAction.END),
    (JobState.DISPATCHED, False, False, JobEvent.CANCEL, StopAction.END),
    (JobState.DISPATCHED, True, False, JobEvent.CANCEL, StopAction.FOLLOW),
    (JobState.DISPATCHED, True, False, JobEvent.EXPIRE, StopAction.FOLLOW),
    (JobState.ACCEPTED, True, False, JobEvent.CANCEL, StopAction.WITHDRAW),
    (JobState.ACCEPTED, True, False, JobEvent.EXPIRE, StopAction.WITHDRAW),
    (JobState.ACCEPTED, False, False, JobEvent.CANCEL, StopAction.WITHDRAW),  # from before a restart
    (JobState.ACCEPTED, False, True, JobEvent.CANCEL, StopAction.IGNORE),
    (JobState.ACCEPTED, False, True, JobEvent.EXPIRE, StopAction.END),
])  # fmt: skip
def test_a_stop_ends_a_job_only_if_nothing_was_ordered(
    state: JobState, is_ordered: bool, is_settled: bool, event: JobEvent, action: StopAction
) -> None:
    job = Job("job_1", account=None, model="pic", n=1, price=1, created=0)
    job.state, job.is_ordered, job.is_settled = state, is_ordered, is_settled
    assert stop_action(job, event) is action


# ---- cancellations at every moment


async def test_a_job_that_waits_for_a_slot_is_cancelled_at_once_and_refunded(tmp_path: Path) -> None:
    async with drawing(tmp_path, OPENAI, more=TIERS.replace("image_concurrent: 3", "image_concurrent: 1")) as (
        images,
        provider,
    ):
        caller = await images.caller()
        first, second = [(await submit(caller)).json for _ in range(2)]
        await until(lambda: len(provider.orders) == 1)
        assert await cancel(caller, second) == (200, "refunded")
        provider.orders[0].goes_on(Stage.DRAWN)
        assert (await ended_job(caller, first))["status"] == "succeeded"
        assert len(provider.orders) == 1


async def test_a_job_between_two_rounds_is_cancelled_at_once_and_refunded(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, timing=FAST_TIMING._replace(rounds=(60.0,))) as (images, provider):
        play(provider, error_answer("429 Too Many Requests"))
        caller = await images.caller()
        job = (await submit(caller)).json
        await until(lambda: any("429" in one for job in images.scheduler for one in job.attempts))
        assert await cancel(caller, job) == (200, "refunded")
        assert (await caller.balance())["balance"] == 1


@pytest.mark.parametrize("dialect", [OPENAI, FAL])
@pytest.mark.parametrize(("stage", "status", "charged"), [(Stage.DRAWN, "succeeded", 4), (Stage.FAILED, "refunded", 0)])
async def test_a_job_that_is_being_drawn_is_followed_to_its_end(
    tmp_path: Path, dialect: str, stage: Stage, status: str, charged: int
) -> None:
    async with drawing(tmp_path, dialect) as (images, provider):
        caller = await images.caller()
        job = (await submit(caller, n=4)).json
        await until(lambda: len(provider.orders) == 1)
        provider.orders[0].goes_on(Stage.DRAWS)
        assert await cancel(caller, job) == (202, "processing")
        assert await cancel(caller, job) == (202, "processing")
        provider.orders[0].goes_on(stage)
        done = await ended_job(caller, job)
        assert (done["status"], done["charged_amount"]) == (status, charged * PRICE)
        assert len((done["output"] or {"data": []})["data"]) == charged
        assert done["error"] is None or done["error"]["code"] == "job_cancelled"
        assert (await caller.balance())["balance"] == pytest.approx(1 - charged * PRICE)


@pytest.mark.parametrize("confirms", [True, False])
async def test_a_job_that_its_queue_takes_back_is_refunded_whether_the_queue_confirms_it_or_shows_it(
    tmp_path: Path, confirms: bool
) -> None:
    timing = FAST_TIMING._replace(first_poll=5.0, max_poll_interval=5.0, next_poll=20.0)  # a cancellation hastens the poll
    async with drawing(tmp_path, FAL, timing=timing) as (images, provider):
        provider.confirms = confirms
        caller = await images.caller()
        job = (await submit(caller)).json
        await until(lambda: any(job.state is JobState.ACCEPTED for job in images.scheduler))
        assert await cancel(caller, job) == (200, "refunded")
        assert (await caller.balance())["balance"] == 1
        assert (len(provider.orders), provider.drawn) == (1, 0)


@pytest.mark.parametrize("stage", [Stage.WAITS, Stage.DRAWN])
async def test_a_job_that_is_cancelled_while_it_is_submitted_is_withdrawn_as_soon_as_its_queue_names_it(
    tmp_path: Path, stage: Stage
) -> None:
    async with drawing(tmp_path, FAL) as (images, provider):
        provider.takes_orders.clear()
        caller = await images.caller()
        job = (await submit(caller)).json
        await until(lambda: len(provider.orders) == 1)
        assert await cancel(caller, job) == (202, "processing")
        provider.orders[0].goes_on(stage)
        provider.takes_orders.set()
        done = await ended_job(caller, job)
        assert (done["status"], done["charged_amount"]) == (("refunded", 0) if stage is Stage.WAITS else ("succeeded", PRICE))
        assert provider.cancellations == 1


async def test_after_a_cancellation_no_other_source_is_asked(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with image_gateway(tmp_path, OPENAI, OPENAI) as (images, first, second):
        first.plays(goes_on, error_answer("500 Internal Server Error"))
        caller = await images.caller()
        job = (await submit(caller)).json
        await until(lambda: len(first.received) == 1)
        assert await cancel(caller, job) == (202, "processing")
        goes_on.set()
        assert (await ended_job(caller, job))["error"]["code"] == "job_cancelled"
        assert second.received == []


async def test_a_job_that_was_charged_before_a_restart_is_not_refunded_by_a_cancellation(tmp_path: Path) -> None:
    accounts = f"accounts: {{required: true, database: 'sqlite:{tmp_path}/kyma.db'}}\n"
    async with DrawingProvider.open() as provider:
        text = configuration((FAL, provider.port), accounts=accounts)
        async with gateway(text, tmp_path, timing=FAST_TIMING) as running:
            images = ImageGateway(AccountsGateway(running))
            caller = await images.caller()
            job = (await submit(caller)).json
            await until(lambda: len(provider.orders) == 1)
            provider.orders[0].goes_on(Stage.DRAWN)
            await images.all_jobs_end()
        async with gateway(text, tmp_path, timing=FAST_TIMING._replace(first_poll=1.0)) as running:
            caller = Caller(await running.client(), caller.account, caller.secret)
            assert await cancel(caller, job) == (202, "processing")
            done = await ended_job(caller, job)
            assert (done["status"], done["output"]["data"]) == ("succeeded", [{"url": URL}])
            assert (await caller.balance())["balance"] == pytest.approx(1 - PRICE)


# ---- other ways to leave a job


@pytest.mark.parametrize("dialect", [OPENAI, FAL])
async def test_a_job_that_is_being_drawn_when_it_expires_is_followed_and_charged(tmp_path: Path, dialect: str) -> None:
    async with drawing(tmp_path, dialect, timing=FAST_TIMING._replace(expires=1.0)) as (images, provider):
        caller = await images.caller()
        job = (await submit(caller)).json
        await until(lambda: len(provider.orders) == 1)
        provider.orders[0].goes_on(Stage.DRAWS)
        await until(lambda: all(job.stopped_by is JobEvent.EXPIRE for job in images.scheduler))
        provider.orders[0].goes_on(Stage.DRAWN)
        assert (await ended_job(caller, job))["charged_amount"] == PRICE


async def test_a_job_that_waits_in_a_queue_when_it_expires_is_withdrawn_and_refunded(tmp_path: Path) -> None:
    async with drawing(tmp_path, FAL, timing=FAST_TIMING._replace(expires=0.1)) as (images, provider):
        caller = await images.caller()
        done = await ended_job(caller, (await submit(caller)).json)
        assert (done["status"], done["charged_amount"]) == ("expired", 0)
        assert [order.stage for order in provider.orders] == [Stage.WITHDRAWN]


async def test_a_caller_who_leaves_his_wait_and_deletes_his_key_pays(tmp_path: Path) -> None:
    async with drawing(tmp_path, OPENAI) as (images, provider):
        caller = await images.caller()
        account = images.accounts.account_service.accounts.account(caller.account)
        second, _ = await images.accounts.account_service.create_key(account, "second")
        waiting = asyncio.create_task(submit(caller, n=2, headers="prefer: wait=60\r\n"))
        await until(lambda: len(provider.orders) == 1)
        waiting.cancel()
        caller.client.leave()
        for key in [one for one in account.keys if one is not second]:
            await images.accounts.account_service.revoke_key(account, key.id)
        provider.orders[0].goes_on(Stage.DRAWN)
        await images.all_jobs_end()
        assert (account.balance, account.held) == (round((1 - 2 * PRICE) * 1e9), 0)


async def test_images_that_were_pushed_out_are_not_refunded_by_a_restart(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        images.scheduler.finished = FinishedJobs(max_bytes_per_account=60)
        caller = await images.caller()
        for _ in range(3):
            play(provider, images_answer())
            await submit(caller)
            await images.all_jobs_end()
        store = images.accounts.account_service.store
        await until(lambda: len(store.unfinished_jobs(0)) == 2)  # these two a restart would refund
        assert len(images.scheduler.finished) == 2
        assert (await caller.balance())["balance"] == pytest.approx(1 - 3 * PRICE)


# ---- the limit per minute


async def test_submissions_count_against_the_minute_of_the_account_whatever_becomes_of_them(tmp_path: Path) -> None:
    tiers = TIERS.replace("rpm: 9000, per_model_rpm: 9000", "rpm: 3, per_model_rpm: 3")
    async with drawing(tmp_path, OPENAI, more=tiers) as (images, provider):
        caller = await images.caller()
        answers = [await submit(caller, idempotency_key=key) for key in ("a", "a", "b", "b", "c", "a")]
        assert [answer.status for answer in answers] == [202, 200, 202, 200, 202, 200]  # a repeat is no new job
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "2", "1", "1", "0", "0"]
        for answer in answers[::2]:
            await cancel(caller, answer.json)
        refused = await submit(caller)
        assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-limit-requests"] == "3"
        assert (await caller.chat()).status == 429  # the same window
        assert len(images.scheduler.queues) <= 3
        assert len(provider.orders) <= 3


async def test_a_submission_that_is_refused_counts_nowhere(tmp_path: Path) -> None:
    async with drawing(tmp_path, OPENAI) as (images, _):
        caller = await images.caller(usd=PRICE)
        assert (await submit(caller, n=2)).status == 402
        assert (await submit(caller, prompt="")).status == 400
        answer = await submit(caller)
        assert (answer.status, answer.headers["x-ratelimit-remaining-requests"]) == (202, "8999")


# ---- any history


class Dishonest:
    """A caller with two keys who submits, repeats, cancels and leaves as chance has it."""

    def __init__(self, images: ImageGateway, callers: list[Caller], chance: random.Random) -> None:
        self._images = images
        self._callers = callers
        self._chance = chance
        self.jobs: list[str] = []

    async def acts(self, provider: DrawingProvider) -> None:
        """Do one thing, or let the provider do one."""
        chance = self._chance
        order = chance.choice(provider.orders) if provider.orders else None
        actions: list[Callable[[], Any]] = [self.submits, self.submits, self.cancels, self.cancels, self.leaves]
        if order is not None:
            stage = chance.choice((Stage.DRAWS, Stage.DRAWN, Stage.DRAWN, Stage.FAILED))
            actions += [lambda: order.goes_on(stage)] * 4
        provider.confirms = chance.random() < 0.5
        done = chance.choice(actions)()
        if done is not None:
            await done

    async def submits(self) -> None:
        """Submit a job, or one again."""
        key = {"idempotency_key": f"key-{self._chance.randrange(9)}"} if self._chance.random() < 0.5 else {}
        answer = await submit(self._chance.choice(self._callers), n=1 if key else self._chance.randint(1, 4), **key)
        assert answer.status in (200, 202, 402, 429), answer.body
        if answer.status in (200, 202):
            self.jobs.append(answer.json["id"])

    async def cancels(self) -> None:
        """Cancel any job."""
        if self.jobs:
            answer = await self._chance.choice(self._callers).ask("DELETE", f"/v1/jobs/{self._chance.choice(self.jobs)}")
            assert answer.status == (202 if answer.json["status"] in ("pending", "processing") else 200)

    async def leaves(self) -> None:
        """Submit a job, wait for it, and leave."""
        caller = self._chance.choice(self._callers)
        leaving = Caller(await self._images.running.client(), caller.account, caller.secret)
        waiting = asyncio.create_task(submit(leaving, n=2, headers="prefer: wait=60\r\n"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting, self._chance.random() * 0.01)
        leaving.client.leave()


@pytest.mark.parametrize("dialect", [OPENAI, FAL])
@pytest.mark.parametrize("seed", range(8))
async def test_after_any_history_exactly_what_was_drawn_is_charged(tmp_path: Path, dialect: str, seed: int) -> None:
    async with drawing(tmp_path, dialect, timing=FAST_TIMING._replace(next_poll=0.005)) as (images, provider):
        caller = await images.caller(usd=3.0)
        account: Account = images.accounts.account_service.accounts.account(caller.account)
        _, secret = await images.accounts.account_service.create_key(account, "second")
        chance = random.Random(seed)
        other = Caller(await images.running.client(), caller.account, secret)
        dishonest = Dishonest(images, [caller, other], chance)
        for _ in range(40):
            await dishonest.acts(provider)
        while len(images.scheduler):
            for order in provider.orders:
                order.goes_on(Stage.DRAWN)
            await asyncio.sleep(0.002)
        await images.running.is_at_rest()
        assert account.held == 0
        assert account.balance == round((3 - provider.drawn * PRICE) * 1e9)
        (row,) = [one for one in images.accounts.account_service.store.load()[0] if one.id == account.id]
        assert row.balance == account.balance
