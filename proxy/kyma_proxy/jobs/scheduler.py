"""This file runs the jobs that are under way, each in one task from its submission to its end. (Contract §10.)

A job has one end: the task learns how it went, settles it on disk, and only then is it seen to have ended. To stop a job is to
end its task early; one that is just being settled is too late for that, and ends as it does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from kyma_proxy.config.snapshot import Route, Snapshot
from kyma_proxy.core.jobs.finished import FinishedJobs
from kyma_proxy.core.jobs.job import Job, JobEvent, JobState
from kyma_proxy.core.jobs.queues import MAX_JOBS, JobQueues, Places
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.jobs.provider_client import SourceFailed
from kyma_proxy.jobs.repository import JobRepository
from kyma_proxy.jobs.runner import JobRunner
from kyma_proxy.jobs.timing import Timing

_log: Final = logging.getLogger("kyma-proxy")
_WITHOUT_ACCOUNTS: Final = Places(1_000, MAX_JOBS)
_Way = Callable[[], Awaitable[None]]


class _Live:
    """A job's task, and those who wait for its turn, or for its end (`told`), for which they wait no longer in a drain."""

    __slots__ = ("has_begun", "is_ending", "job", "stopped_by", "task", "told", "turn")

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.turn: asyncio.Future[None] = loop.create_future()
        self.told: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[None] | None = None
        self.has_begun = self.is_ending = False
        self.stopped_by: JobEvent | None = None

    def tell(self) -> None:
        """Let nobody wait any longer."""
        if not self.told.done():
            self.told.set_result(None)


class JobScheduler:
    """The jobs that wait or run, and those that have ended of late. `note` hears of every ending, and by what it came."""

    def __init__(
        self, current: Callable[[], Snapshot], repository: JobRepository, timing: Timing, *, wall: Callable[[], float],
        note: Callable[[Job, JobEvent], None],
    ) -> None:  # fmt: skip
        self._current = current
        self._repository = repository
        self._timing = timing
        self._wall = wall
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._live: dict[str, _Live] = {}
        self._queues = JobQueues()
        self.is_draining = False
        self.finished = FinishedJobs()
        self.ended: dict[str, int] = {}
        """How many jobs ended, by status."""

    def __iter__(self) -> Iterator[Job]:
        return (live.job for live in self._live.values())

    def __len__(self) -> int:
        return len(self._live)

    @property
    def running(self) -> int:
        """How many are with a source."""
        return self._queues.running

    @property
    def passing(self) -> int:
        """How many would be lost if the process ended now."""
        return sum(not self._outlives(live) for live in self._live.values())

    @property
    def settling(self) -> int:
        """How many are over, and wait for the disk to say so."""
        return sum(live.is_ending for live in self._live.values())

    def get(self, ident: str) -> Job | None:
        """The job with this id, also where it has ended of late."""
        live = self._live.get(ident)
        return self.finished.get(ident) if live is None else live.job

    def admit(self, job: Job) -> None:
        """Take a place in the account's queue; it is not run before `start`. Raises GatewayError where there is none."""
        turns = self._queues.enter(job.owner, job, self._places(job))
        self._add(job)
        self._let_run(turns)

    def dismiss(self, job: Job) -> None:
        """Give back the place of a job that is not started after all."""
        self._live.pop(job.id).tell()
        self._leave(job)

    def start(self, job: Job, runner: JobRunner, route: Route) -> None:
        """Run an admitted job as soon as its turn comes."""
        self._begin(job, lambda: runner.run(job, route), max(0.0, job.created + self._timing.expires - self._wall()))

    def resume(self, job: Job, runner: JobRunner, beside: int) -> None:
        """Go on with a job that a source had taken before a restart, whatever runs; `beside` are so many others."""
        self._queues.run(job.owner, job)
        self._add(job)
        self._let_run([job])
        left = job.created + self._timing.expires - self._wall()
        grace = self._timing.grace + 2 * beside / self._timing.most_looks_per_s  # however late, it is looked at
        self._begin(job, lambda: runner.resume(job), max(grace, left))

    def give_back(self, job: Job, why: GatewayError) -> None:
        """End a job of before a restart with which nobody can go on."""
        job.failure = why
        self._add(job)
        live = self._live[job.id]
        live.is_ending = True
        live.task = self._loop.create_task(self._conclude(live, JobEvent.LOSE))

    def stop(self, ident: str, event: JobEvent) -> None:
        """End a job early, by CANCEL or LOSE."""
        live = self._live.get(ident)
        if live is not None and not live.is_ending and live.stopped_by is None and live.task is not None:
            live.stopped_by = event
            if live.has_begun:  # a task that is cancelled before its first step does not even end its job
                live.task.cancel()

    async def wait(self, ident: str, seconds: float) -> None:
        """Wait for a job's end, for so long at most; nobody waits in a drain."""
        live = self._live.get(ident)
        if live is not None and not self.is_draining:
            await asyncio.wait((live.told,), timeout=seconds)

    def drain(self) -> None:
        """From now on nobody waits."""
        self.is_draining = True
        for live in self._live.values():
            live.tell()

    async def close(self) -> None:
        """End every task. What a queue works on goes on after the next start; everything else is lost, and given back."""
        self.drain()
        for ident, live in list(self._live.items()):
            if self._outlives(live) and live.task is not None:
                live.task.cancel()
            else:
                self.stop(ident, JobEvent.LOSE)
        tasks = [live.task for live in self._live.values() if live.task is not None]
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            if self.settling:
                _log.error(
                    "image jobs: %d ended that could not be written; they are looked after at the next start", self.settling
                )

    # ---- the life of one

    def _add(self, job: Job) -> None:
        self._live[job.id] = _Live(job, self._loop)

    def _begin(self, job: Job, way: _Way, seconds: float) -> None:
        live = self._live[job.id]
        live.task = self._loop.create_task(self._run(live, way, seconds))

    async def _run(self, live: _Live, way: _Way, seconds: float) -> None:
        job, live.has_begun = live.job, True
        try:
            if live.stopped_by is not None:
                raise asyncio.CancelledError
            async with asyncio.timeout(seconds):
                await live.turn
                if job.account is not None and job.account.is_blocked:
                    raise GatewayError(Kind.FORBIDDEN, "The account was blocked before the job's turn came.")
                if job.state is JobState.QUEUED:
                    job.step(JobEvent.START)
                await way()
            event = JobEvent.DELIVER
        except TimeoutError:
            event, job.failure = JobEvent.EXPIRE, GatewayError(Kind.JOB_EXPIRED, _TOLD[JobEvent.EXPIRE])
        except GatewayError as error:
            event, job.failure = JobEvent.FAIL, error.fresh()
        except SourceFailed as failing:
            event, job.failure = JobEvent.LOSE, lost(f"{failing.failed.provider} {failing}")
        except asyncio.CancelledError:
            if live.stopped_by is None:
                raise  # the process ends, and the job outlives it
            event = live.stopped_by
            kind = Kind.JOB_CANCELLED if event is JobEvent.CANCEL else Kind.JOB_LOST
            job.failure = GatewayError(kind, _TOLD[event])
        except Exception:
            _log.exception("image job %s failed inside the gateway", job.id)
            event, job.failure = JobEvent.LOSE, lost("the gateway failed")
        live.is_ending = True
        self._leave(job)
        await self._conclude(live, event)

    async def _conclude(self, live: _Live, event: JobEvent) -> None:
        """Settle a job, and then let it be seen to have ended. What can't be settled is so at the next start."""
        try:
            await self._settle(live.job, event)
        except Exception:
            _log.exception("image job %s could not be settled", live.job.id)
        finally:
            del self._live[live.job.id]
            live.tell()

    async def _settle(self, job: Job, event: JobEvent) -> None:
        is_known = job.is_settled and event is JobEvent.DELIVER  # it had succeeded once, before a restart
        if not is_known:
            job.completed = int(self._wall())
        if event is JobEvent.DELIVER:
            if not is_known:
                job.charged = len(job.pictures) * _price(job)
            await self._repository.end(job, JobState.SUCCEEDED)
        elif job.is_settled:
            event = JobEvent.LOSE
            await self._repository.lose(job)
        else:
            await self._repository.end(job, job.after(event))
        job.step(event)
        job.request = None
        for other in self.finished.add(job, int(self._wall())):
            await self._lose(other)
        if not is_known:
            self.ended[job.status] = self.ended.get(job.status, 0) + 1
            self._note(job, event)

    async def _lose(self, job: Job) -> None:
        """There was no more room for pictures that nobody has had: they are given back."""
        job.pictures = ()
        job.failure = lost("there was no room to keep its pictures until they were fetched")
        await self._repository.lose(job)
        job.step(JobEvent.LOSE)

    def _outlives(self, live: _Live) -> bool:
        """Whether a job can go on after the process's end: a source works on it, and the store knows which, or soon does."""
        return live.job.state is JobState.ACCEPTED and self._repository.account_service is not None and not live.is_ending

    def _leave(self, job: Job) -> None:
        self._let_run(self._queues.leave(job.owner, job, self._places(job)))

    def _let_run(self, jobs: list[Job]) -> None:
        for job in jobs:
            following = self._live[job.id].turn
            if not following.done():
                following.set_result(None)

    def _places(self, job: Job) -> Places:
        if job.account is None:
            return _WITHOUT_ACCOUNTS
        tier = job.account.tier(self._current().tiers)
        return Places(tier.image_concurrent, tier.image_queue)


def _price(job: Job) -> int:
    """Of an image: the price at submission, or that of the model which stood in, whichever is lower. (Contract §8.)"""
    return job.price if job.taken is None else min(job.price, job.taken.price)


_AGAIN: Final = "send it again, with another idempotency key if it had one"
_TOLD: Final = {
    JobEvent.EXPIRE: f"The job was not done in time, and what it held was given back; {_AGAIN}.",
    JobEvent.CANCEL: "The job was cancelled, and what it held was given back.",
    JobEvent.LOSE: f"The gateway went down before the job was done, and what it held was given back; {_AGAIN}.",
}


def lost(why: str) -> GatewayError:
    """What the caller of a job is told that ends for a reason of the gateway's own."""
    return GatewayError(Kind.JOB_LOST, f"The job can't be finished ({why}), and what it cost was given back; {_AGAIN}.")
