"""A tier limits how many image jobs of an account run and wait; a full queue is a 429 that says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kyma_proxy.core.jobs.job import Job, JobEvent
from kyma_proxy.core.jobs.queues import JobQueues
from kyma_proxy.jobs.timing import Timing
from tests.jobs.image_gateway import FAST_TIMING, OPENAI, ended_job, image_gateway, images_answer, submit
from tests.waiting import until

TIERS = (
    "tiers:\n  - {tier: 0, min_purchased: 0, rpm: 60, per_model_rpm: 60, tpm: 100000, max_request_tokens: 100000, "
    "image_concurrent: 2, image_queue: 3}\n"
)


async def test_jobs_run_and_wait_up_to_the_limits_of_the_tier_and_one_more_is_a_429(tmp_path: Path) -> None:
    gates = [asyncio.Event() for _ in range(6)]
    async with image_gateway(tmp_path, OPENAI, more=TIERS) as (images, provider):
        for gate in gates:
            provider.plays(gate, images_answer())
        caller, other = await images.caller(), await images.caller("b@example.com")
        jobs = [(await submit(caller)).json]
        await until(lambda: len(provider.received) == 1)  # so that the first gate is the first job's
        jobs += [(await submit(caller)).json for _ in range(4)]
        await until(lambda: len(provider.received) == 2)
        assert [job["status"] for job in jobs[2:]] == ["pending"] * 3
        full = await submit(caller)
        assert (full.status, full.json["error"]["code"], full.json["error"]["type"]) == (
            429,
            "rate_limit_exceeded",
            "rate_limit",
        )
        assert "queue of image jobs is full: 2 run and 3 wait" in full.json["error"]["message"]
        assert full.headers["retry-after"] == "5"
        assert (await submit(other)).json["status"] in ("pending", "processing")  # accounts do not wait for one another
        await until(lambda: len(provider.received) == 3)
        gates[0].set()
        assert (await ended_job(caller, jobs[0]))["status"] == "succeeded"
        await until(lambda: len(provider.received) == 4)
        assert [(await caller.ask("GET", f"/v1/jobs/{job['id']}")).json["status"] for job in jobs[1:]] == [
            "processing", "processing", "pending", "pending",
        ]  # fmt: skip
        for gate in gates:
            gate.set()
        await images.all_jobs_end()
        assert (await caller.chat()).status == 200


async def test_a_tier_without_image_jobs_is_a_403_that_says_so(tmp_path: Path) -> None:
    tiers = TIERS.replace("image_concurrent: 2", "image_concurrent: 0")
    async with image_gateway(tmp_path, OPENAI, more=tiers) as (images, _):
        answer = await submit(await images.caller())
        assert (answer.status, answer.json["error"]["code"]) == (403, "forbidden")
        assert "GET /v1/limits/tiers" in answer.json["error"]["message"]


async def test_a_slot_is_free_again_after_every_ending(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, more=TIERS, timing=FAST_TIMING._replace(expires=1.0)) as (images, provider):
        gate = asyncio.Event()
        caller = await images.caller(usd=5)
        for _ in range(2):
            for _ in range(3):
                provider.plays(gate, images_answer())
            jobs = [(await submit(caller)).json for _ in range(3)]
            assert (await caller.ask("DELETE", f"/v1/jobs/{jobs[2]['id']}")).json["status"] == "refunded"
            for job in jobs[:2]:
                assert (await ended_job(caller, job))["status"] == "expired"
            provider.scripts.clear()
        await images.all_jobs_end()
        assert images.scheduler.running == 0
        gate.set()


async def test_without_accounts_sixty_jobs_run_at_once(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with image_gateway(tmp_path, OPENAI, has_accounts=False, timing=Timing()) as (images, provider):
        for _ in range(60):
            provider.plays(gate, images_answer())
        caller = await images.caller_without_key()
        jobs = [(await submit(caller)).json for _ in range(60)]
        await until(lambda: len(provider.received) == 60)
        gate.set()
        assert {(await ended_job(caller, job))["status"] for job in jobs} == {"succeeded"}


async def test_jobs_whose_requests_would_take_too_much_memory_are_refused(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        images.scheduler.queues = JobQueues(max_bytes=1000)
        gate = asyncio.Event()
        provider.plays(gate, images_answer())
        caller = await images.caller()
        first = (await submit(caller, prompt="x" * 600)).json
        full = await submit(caller, prompt="x" * 600)
        assert (full.status, full.json["error"]["code"], full.headers["retry-after"]) == (503, "overloaded", "5")
        gate.set()
        await ended_job(caller, first)
        assert (await submit(caller, prompt="x" * 600)).status == 202


async def test_a_job_that_is_stopped_before_its_task_starts_is_refunded(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI, has_accounts=False) as (images, provider):
        runs: list[str] = []

        async def work() -> None:
            runs.append("run")

        job = Job("job_1", account=None, model="pic", n=1, price=0, created=0)
        images.scheduler.admit(job)
        images.scheduler.start(job, work)
        images.scheduler.stop(job.id, JobEvent.CANCEL)
        await images.scheduler.wait(job.id, None)
        assert (job.status, len(images.scheduler), images.scheduler.running) == ("refunded", 0, 0)
        assert (runs, provider.received) == ([], [])


async def test_waiting_jobs_of_a_blocked_account_are_not_started(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with image_gateway(tmp_path, OPENAI, more=TIERS.replace("image_concurrent: 2", "image_concurrent: 1")) as (
        images,
        provider,
    ):
        provider.plays(gate, images_answer())
        caller = await images.caller()
        for _ in range(2):
            await submit(caller)
        account = images.accounts.account_service.accounts.account(caller.account)
        await images.accounts.account_service.set_blocked(account, True)
        gate.set()
        await images.all_jobs_end()
        assert [job.status for job in images.scheduler.finished] == ["failed", "succeeded"]
        assert len(provider.received) == 1
        assert account.balance == round(0.95e9)
