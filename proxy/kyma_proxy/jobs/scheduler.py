"""Runs the active jobs, each in one task from its submission to its end. (Contract §10.)

A job ends once: its task runs it, writes the result to disk, and only then does the job's state change. To stop a job is to
cancel its task; a job whose result is being written can't be stopped any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.jobs.finished import FinishedJobs
from kyma_proxy.core.jobs.job import Job, JobEvent, JobState
from kyma_proxy.core.jobs.queues import MAX_JOBS, JobLimits, JobQueues
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.jobs.provider_client import SourceFailed
from kyma_proxy.jobs.repository import JobRepository
from kyma_proxy.jobs.timing import Timing

_log: Final = logging.getLogger("kyma-proxy")
_LIMITS_WITHOUT_ACCOUNTS: Final = JobLimits(1_000, MAX_JOBS)
Work = Callable[[], Awaitable[None]]
"""Makes a job's pictures. Raises GatewayError or SourceFailed."""


class _ActiveJob:
    """A job and its task. `may_run` is done when it has a slot, `ended` when it has ended or the gateway drains."""

    __slots__ = ("ended", "has_started", "is_ending", "job", "may_run", "stopped_by", "task")

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.may_run: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[None] | None = None
        self.has_started = self.is_ending = False
        self.stopped_by: JobEvent | None = None

    def wake_waiters(self) -> None:
        """End every wait for this job."""
        if not self.ended.done():
            self.ended.set_result(None)


class JobScheduler:
    """The jobs that wait or run, and those that ended recently. `on_ended` is called with each job that ends, and the event."""

    def __init__(
        self, current: Callable[[], Snapshot], repository: JobRepository, timing: Timing, *, wall: Callable[[], float],
        on_ended: Callable[[Job, JobEvent], None],
    ) -> None:  # fmt: skip
        self._current = current
        self._repository = repository
        self._timing = timing
        self._wall = wall
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._active: dict[str, _ActiveJob] = {}
        self.queues = JobQueues()
        self.is_draining = False
        self.finished = FinishedJobs()
        self.ended: dict[str, int] = {}
        """The number of jobs that ended, by status."""

    def __iter__(self) -> Iterator[Job]:
        return (active.job for active in self._active.values())

    def __len__(self) -> int:
        return len(self._active)

    @property
    def running(self) -> int:
        """The number of jobs that have a slot."""
        return self.queues.running

    @property
    def at_risk(self) -> int:
        """The number of jobs that would be lost if the process ended now."""
        return sum(not self._survives_restart(active) for active in self._active.values())

    @property
    def awaiting_write(self) -> int:
        """The number of jobs that are over and whose result is not on disk yet."""
        return sum(active.is_ending for active in self._active.values())

    def get(self, ident: str) -> Job | None:
        """The job with this id, active or recently ended."""
        active = self._active.get(ident)
        return self.finished.get(ident) if active is None else active.job

    def admit(self, job: Job) -> None:
        """Take a slot in the account's queue; the job does not run before `start`. Raises GatewayError if there is no slot."""
        runnable = self.queues.add(job.owner, job, self._limits(job))
        self._add(job)
        self._let_run(runnable)

    def dismiss(self, job: Job) -> None:
        """Give back the slot of an admitted job that will not be started."""
        self._active.pop(job.id).wake_waiters()
        self._give_slot_back(job)

    def start(self, job: Job, work: Work) -> None:
        """Run an admitted job as soon as it may run."""
        self._start_task(job, work, max(0.0, job.created + self._timing.expires - self._wall()))

    def resume(self, job: Job, work: Work, others: int) -> None:
        """Continue a job that a source had accepted before a restart; no limit applies. `others` are continued with it."""
        self.queues.add_running(job.owner, job)
        self._add(job)
        self._let_run([job])
        left = job.created + self._timing.expires - self._wall()
        grace = self._timing.grace + 2 * others / self._timing.max_polls_per_s  # time for a poll, even if it is past its expiry
        self._start_task(job, work, max(grace, left))

    def refund(self, job: Job, why: GatewayError) -> None:
        """End a job from before a restart that can't be continued, and give back what it held or cost."""
        job.failure = why
        self._add(job)
        active = self._active[job.id]
        active.is_ending = True
        active.task = self._loop.create_task(self._finish(active, JobEvent.LOSE))

    def stop(self, ident: str, event: JobEvent) -> None:
        """End a job early, by CANCEL or LOSE."""
        active = self._active.get(ident)
        if active is not None and not active.is_ending and active.stopped_by is None and active.task is not None:
            active.stopped_by = event
            if active.has_started:  # a task that is cancelled before its first step would not run at all, nor end its job
                active.task.cancel()

    async def wait(self, ident: str, seconds: float) -> None:
        """Wait for a job's end, at most this long. Returns at once while the gateway drains."""
        active = self._active.get(ident)
        if active is not None and not self.is_draining:
            await asyncio.wait((active.ended,), timeout=seconds)

    def drain(self) -> None:
        """End all waits, and let no new one begin."""
        self.is_draining = True
        for active in self._active.values():
            active.wake_waiters()

    async def close(self) -> None:
        """End every task. A job that a source has accepted continues after the next start; every other one is refunded."""
        self.drain()
        for ident, active in list(self._active.items()):
            if self._survives_restart(active) and active.task is not None:
                active.task.cancel()
            else:
                self.stop(ident, JobEvent.LOSE)
        tasks = [active.task for active in self._active.values() if active.task is not None]
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            if self.awaiting_write:
                _log.error(
                    "the end of %d image jobs could not be written; the next start will settle them", self.awaiting_write
                )

    # ---- one job

    def _add(self, job: Job) -> None:
        self._active[job.id] = _ActiveJob(job, self._loop)

    def _start_task(self, job: Job, work: Work, seconds: float) -> None:
        active = self._active[job.id]
        active.task = self._loop.create_task(self._run(active, work, seconds))

    async def _run(self, active: _ActiveJob, work: Work, seconds: float) -> None:
        job, active.has_started = active.job, True
        try:
            if active.stopped_by is not None:
                raise asyncio.CancelledError
            async with asyncio.timeout(seconds):
                await active.may_run
                if job.account is not None and job.account.is_blocked:
                    raise GatewayError(Kind.FORBIDDEN, "The account was blocked before the job could start.")
                if job.state is JobState.QUEUED:
                    job.step(JobEvent.START)
                await work()
            event = JobEvent.DELIVER
        except TimeoutError:
            event, job.failure = JobEvent.EXPIRE, GatewayError(Kind.JOB_EXPIRED, _MESSAGES[JobEvent.EXPIRE])
        except GatewayError as error:
            event, job.failure = JobEvent.FAIL, error.fresh()
        except SourceFailed as failing:
            event, job.failure = JobEvent.LOSE, job_lost(f"{failing.failed.provider} {failing}")
        except asyncio.CancelledError:
            if active.stopped_by is None:
                raise  # the process ends, and the job continues after the next start
            event = active.stopped_by
            kind = Kind.JOB_CANCELLED if event is JobEvent.CANCEL else Kind.JOB_LOST
            job.failure = GatewayError(kind, _MESSAGES[event])
        except Exception:
            _log.exception("image job %s failed inside the gateway", job.id)
            event, job.failure = JobEvent.LOSE, job_lost("the gateway failed")
        active.is_ending = True
        self._give_slot_back(job)
        await self._finish(active, event)

    async def _finish(self, active: _ActiveJob, event: JobEvent) -> None:
        """Settle a job, and then make its end visible. If it can't be settled, the next start does it."""
        try:
            await self._settle(active.job, event)
        except Exception:
            _log.exception("image job %s could not be settled", active.job.id)
        finally:
            del self._active[active.job.id]
            active.wake_waiters()

    async def _settle(self, job: Job, event: JobEvent) -> None:
        is_redelivery = job.is_settled and event is JobEvent.DELIVER  # it had succeeded once, before a restart
        if not is_redelivery:
            job.completed = int(self._wall())
        if event is JobEvent.DELIVER:
            if not is_redelivery:
                job.charged = len(job.pictures) * _price(job)
            await self._repository.end(job, JobState.SUCCEEDED)
        elif job.is_settled:
            event = JobEvent.LOSE
            await self._repository.refund(job)
        else:
            await self._repository.end(job, job.next_state(event))
        job.step(event)
        job.request = None
        for evicted in self.finished.add(job, int(self._wall())):
            await self._refund_evicted(evicted)
        if not is_redelivery:
            self.ended[job.status] = self.ended.get(job.status, 0) + 1
            self._on_ended(job, event)

    async def _refund_evicted(self, job: Job) -> None:
        """Refund a job whose pictures were evicted before they were delivered."""
        job.pictures = ()
        job.failure = job_lost("there was no room to keep its pictures until they were fetched")
        await self._repository.refund(job)
        job.step(JobEvent.LOSE)

    def _survives_restart(self, active: _ActiveJob) -> bool:
        """True if the job can continue after a restart: a source works on it, and the store knows which, or soon will."""
        return active.job.state is JobState.ACCEPTED and self._repository.is_persistent and not active.is_ending

    def _give_slot_back(self, job: Job) -> None:
        self._let_run(self.queues.remove(job.owner, job, self._limits(job)))

    def _let_run(self, jobs: list[Job]) -> None:
        for job in jobs:
            may_run = self._active[job.id].may_run
            if not may_run.done():
                may_run.set_result(None)

    def _limits(self, job: Job) -> JobLimits:
        if job.account is None:
            return _LIMITS_WITHOUT_ACCOUNTS
        tier = job.account.tier(self._current().tiers)
        return JobLimits(tier.image_concurrent, tier.image_queue)


def _price(job: Job) -> int:
    """The price of an image: that at submission, or that of the substitute that made it, whichever is lower. (Contract §8.)"""
    return job.price if job.accepted_by is None else min(job.price, job.accepted_by.price)


_AGAIN: Final = "send it again, with another idempotency key if it had one"
_MESSAGES: Final = {
    JobEvent.EXPIRE: f"The job was not done in time, and what it held was given back; {_AGAIN}.",
    JobEvent.CANCEL: "The job was cancelled, and what it held was given back.",
    JobEvent.LOSE: f"The gateway went down before the job was done, and what it held was given back; {_AGAIN}.",
}


def job_lost(why: str) -> GatewayError:
    """The failure of a job that ends for a reason of the gateway's own."""
    return GatewayError(Kind.JOB_LOST, f"The job can't be finished ({why}), and what it cost was given back; {_AGAIN}.")
