"""An account's image jobs run so many at once as its tier allows, the rest waits in turn, and a full queue says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kyma_proxy.core.jobs import queues
from kyma_proxy.core.jobs.job import Job, JobEvent
from kyma_proxy.jobs.timing import Timing
from tests.harness import until
from tests.jobs.studio import HASTY, OPENAI, ended, made, order, studio

TIERS = (
    "tiers:\n  - {tier: 0, min_purchased: 0, rpm: 3, per_model_rpm: 3, tpm: 100000, max_request_tokens: 100000, "
    "image_concurrent: 2, image_queue: 3}\n"
)


async def test_so_many_run_so_many_wait_and_one_more_is_a_429_that_says_so(tmp_path: Path) -> None:
    gates = [asyncio.Event() for _ in range(6)]
    async with studio(tmp_path, OPENAI, more=TIERS) as (here, provider):
        for gate in gates:
            provider.plays(gate, made())
        caller, other = await here.caller(), await here.caller("b@example.com")
        jobs = [(await order(caller)).json for _ in range(5)]  # more than the requests per minute: text's limit is not theirs
        await until(lambda: len(provider.received) == 2)
        assert [job["status"] for job in jobs[2:]] == ["pending"] * 3
        full = await order(caller)
        assert (full.status, full.json["error"]["code"], full.json["error"]["type"]) == (
            429,
            "rate_limit_exceeded",
            "rate_limit",
        )
        assert "queue of image jobs is full: 2 run and 3 wait" in full.json["error"]["message"]
        assert full.headers["retry-after"] == "5"
        assert (await order(other)).json["status"] in ("pending", "processing")  # accounts do not wait for one another
        await until(lambda: len(provider.received) == 3)
        gates[0].set()
        assert (await ended(caller, jobs[0]))["status"] == "succeeded"
        await until(lambda: len(provider.received) == 4)
        assert [(await caller.ask("GET", f"/v1/jobs/{job['id']}")).json["status"] for job in jobs[1:]] == [
            "processing", "processing", "pending", "pending",
        ]  # fmt: skip
        for gate in gates:
            gate.set()
        await here.is_at_rest()
        assert (await caller.chat()).status == 200


async def test_a_tier_without_image_jobs_says_so(tmp_path: Path) -> None:
    tiers = TIERS.replace("image_concurrent: 2", "image_concurrent: 0")
    async with studio(tmp_path, OPENAI, more=tiers) as (here, _):
        answer = await order(await here.caller())
        assert (answer.status, answer.json["error"]["code"]) == (403, "forbidden")
        assert "GET /v1/limits/tiers" in answer.json["error"]["message"]


async def test_a_place_is_free_again_after_every_way_out(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI, more=TIERS, timing=HASTY._replace(expires=1.0)) as (here, provider):
        gate = asyncio.Event()
        caller = await here.caller(usd=5)
        for _ in range(2):
            for _ in range(3):
                provider.plays(gate, made())
            jobs = [(await order(caller)).json for _ in range(3)]
            assert (await caller.ask("DELETE", f"/v1/jobs/{jobs[0]['id']}")).json["status"] == "refunded"
            for job in jobs[1:]:
                assert (await ended(caller, job))["status"] == "expired"
            provider.scripts.clear()
        await here.is_at_rest()
        assert here.scheduler.running == 0
        gate.set()


async def test_without_accounts_nobody_is_limited_but_the_gateway_itself(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with studio(tmp_path, OPENAI, has_accounts=False, timing=Timing()) as (here, provider):
        for _ in range(60):
            provider.plays(gate, made())
        caller = await here.anybody()
        jobs = [(await order(caller)).json for _ in range(60)]
        await until(lambda: len(provider.received) == 60)
        gate.set()
        assert {(await ended(caller, job))["status"] for job in jobs} == {"succeeded"}


async def test_what_jobs_hold_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MAX_BYTES", 1000)
    async with studio(tmp_path, OPENAI) as (here, provider):
        gate = asyncio.Event()
        provider.plays(gate, made())
        caller = await here.caller()
        first = (await order(caller, prompt="x" * 600)).json
        full = await order(caller, prompt="x" * 600)
        assert (full.status, full.json["error"]["code"], full.headers["retry-after"]) == (503, "overloaded", "5")
        gate.set()
        await ended(caller, first)
        assert (await order(caller, prompt="x" * 600)).status == 202


async def test_a_job_that_is_stopped_before_its_first_step_ends_like_any_other(tmp_path: Path) -> None:
    async with studio(tmp_path, OPENAI, has_accounts=False) as (here, provider):
        route = here.running.app._current().routes["images"]["pic"]
        job = Job("job_1", account=None, model="pic", n=1, price=0, created=0)
        here.scheduler.admit(job)
        here.scheduler.start(job, here.running.app.jobs._runner, route)
        here.scheduler.stop(job.id, JobEvent.CANCEL)
        await here.scheduler.wait(job.id, None)
        assert (job.status, len(here.scheduler), here.scheduler.running) == ("refunded", 0, 0)
        assert provider.received == []


async def test_jobs_of_an_account_that_is_blocked_before_their_turn_are_not_begun(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with studio(tmp_path, OPENAI, more=TIERS.replace("image_concurrent: 2", "image_concurrent: 1")) as (here, provider):
        provider.plays(gate, made())
        caller = await here.caller()
        for _ in range(2):
            await order(caller)
        account = here.till.account_service.accounts.account(caller.account)
        await here.till.account_service.set_blocked(account, True)
        gate.set()
        await here.is_at_rest()
        assert [job.status for job in here.scheduler.finished] == ["failed", "succeeded"]
        assert len(provider.received) == 1
        assert account.balance == round(0.95e9)
