"""Runs the active jobs, each in one task from its submission to its end. (Contract §10.)

A job ends once: its task runs it, writes the result to disk, and only then does the job's state change. To end a job early is
to cancel its task, which is done only if no source may be drawing (`core/jobs/stopping.py`). A job whose result is being
written can't be stopped any more.
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
from kyma_proxy.core.jobs.stopping import StopAction, stop_action
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.jobs.provider_client import SourceFailed
from kyma_proxy.jobs.repository import JobRepository
from kyma_proxy.jobs.timing import Timing

_log: Final = logging.getLogger("kyma-proxy")
_LIMITS_WITHOUT_ACCOUNTS: Final = JobLimits(1_000, MAX_JOBS)
Work = Callable[[], Awaitable[None]]
"""Makes a job's pictures. Raises GatewayError or SourceFailed."""
Withdraw = Callable[[Job], Awaitable[bool]]
"""Asks the queue that has accepted a job to take it back. Returns True if it surely has."""


class _ActiveJob:
    """A job and its task. `may_run` is done when it has a slot, `ended` when it has ended or the gateway drains.

    `is_stopping`: the task was cancelled to end the job. `is_ending`: its result is being written.
    """

    __slots__ = ("ended", "has_started", "is_ending", "is_stopping", "job", "may_run", "task", "timer", "withdrawal")

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.may_run: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[None] | None = None
        self.has_started = self.is_stopping = self.is_ending = False
        self.timer: asyncio.TimerHandle | None = None
        self.withdrawal: asyncio.Task[None] | None = None

    def wake_waiters(self) -> None:
        """End every wait for this job."""
        if not self.ended.done():
            self.ended.set_result(None)


class JobScheduler:
    """The jobs that wait or run, and those that ended recently. `on_ended` is called with each job that ends, and the event."""

    def __init__(
        self, current: Callable[[], Snapshot], repository: JobRepository, timing: Timing, *, wall: Callable[[], float],
        withdraw: Withdraw, on_ended: Callable[[Job, JobEvent], None],
    ) -> None:  # fmt: skip
        self._current = current
        self._repository = repository
        self._timing = timing
        self._wall = wall
        self._withdraw = withdraw
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._active: dict[str, _ActiveJob] = {}
        self.queues = JobQueues()
        self.is_draining = False
        self.finished = FinishedJobs()
        self.on_settled: Callable[[Job, int], None] | None = None
        """Is called with each job whose end is on disk, and what its account got."""
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
        grace = self._timing.grace + 4 * others / self._timing.max_polls_per_s  # for a poll and a fetch, even past its expiry
        self._start_task(job, work, max(grace, left))

    def refund(self, job: Job, why: GatewayError) -> None:
        """End a job from before a restart that can't be continued, and give back what it held or cost."""
        job.failure = why
        self._add(job)
        active = self._active[job.id]
        active.is_ending = True
        active.task = self._loop.create_task(self._finish(active, JobEvent.LOSE))

    def stop(self, ident: str, event: JobEvent) -> None:
        """End a job by CANCEL or EXPIRE if nothing was ordered, or the queue takes it back; otherwise it goes on to its end."""
        active = self._active.get(ident)
        if active is None or active.is_ending or active.job.stopped_by is not None:
            return
        action = stop_action(active.job, event)
        if action is StopAction.IGNORE:
            return
        active.job.stopped_by = event
        if action is StopAction.END:
            self._end_now(active)
        elif action is StopAction.WITHDRAW:
            self._ask_back(active)

    def accepted(self, job: Job) -> None:
        """A queue has accepted a job. If it was to be stopped while it was being sent, the queue is asked to take it back."""
        active = self._active.get(job.id)
        if active is not None and job.stopped_by is not None:
            self._ask_back(active)

    async def wait_stopped(self, ident: str) -> None:
        """Wait until a job that was stopped has ended, or is known to go on. A disk that is stuck is not waited for."""
        active = self._active.get(ident)
        if active is None or self.is_draining:
            return
        timing = self._timing
        if active.withdrawal is not None:
            waits = (active.withdrawal, active.ended)
            await asyncio.wait(waits, timeout=timing.stop, return_when=asyncio.FIRST_COMPLETED)
            if not active.is_stopping:  # a queue that took the job back without saying so shows it at the next poll
                await asyncio.wait((active.ended,), timeout=timing.next_poll)
        if active.is_stopping or active.is_ending:
            await asyncio.wait((active.ended,), timeout=timing.stop)

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
        for active in list(self._active.values()):
            if active.is_ending:
                continue
            if self._survives_restart(active) and active.task is not None:
                active.job.stopped_by = None
                active.task.cancel()
            else:
                active.job.stopped_by = JobEvent.LOSE
                self._end_now(active)
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
        active.timer = self._loop.call_later(seconds, self._expire, active)
        active.task = self._loop.create_task(self._run(active, work))

    def _expire(self, active: _ActiveJob) -> None:
        """A job's time is over. A source that can't be stopped gets as long again; what has not come by then never will."""
        self.stop(active.job.id, JobEvent.EXPIRE)
        if not active.is_stopping:
            overtime = max(0.0, self._timing.expires)
            active.timer = self._loop.call_later(overtime, self._end_now, active)

    def _end_now(self, active: _ActiveJob) -> None:
        """Cancel a job's task, whatever it does. `stopped_by` says why."""
        if active.is_ending:
            return
        active.is_stopping = True
        if active.has_started and active.task is not None:
            active.task.cancel()  # before its first step it would not run at all, nor end its job: that step looks

    def _ask_back(self, active: _ActiveJob) -> None:
        active.withdrawal = self._loop.create_task(self._ask_queue(active))

    async def _ask_queue(self, active: _ActiveJob) -> None:
        if await self._withdraw(active.job):
            self._end_now(active)

    async def _run(self, active: _ActiveJob, work: Work) -> None:
        job, active.has_started = active.job, True
        try:
            if job.stopped_by is not None:
                raise asyncio.CancelledError
            await active.may_run
            if job.account is not None and job.account.is_blocked:
                raise GatewayError(Kind.FORBIDDEN, "The account was blocked before the job could start.")
            if job.state is JobState.QUEUED:
                job.step(JobEvent.START)
            await work()
            event = JobEvent.DELIVER
        except GatewayError as error:
            event, job.failure = JobEvent.FAIL, error.fresh()
        except SourceFailed as failing:
            event, job.failure = JobEvent.LOSE, job_lost(_reason(failing, job))
        except asyncio.CancelledError:
            if job.stopped_by is None:
                raise  # the process ends, and the job continues after the next start
            event = job.stopped_by
        except Exception:
            _log.exception("image job %s failed inside the gateway", job.id)
            event, job.failure = JobEvent.LOSE, job_lost("the gateway failed")
        finally:
            self._drop_timers(active)
        if job.stopped_by is not None and event is not JobEvent.DELIVER:
            event, job.failure = job.stopped_by, GatewayError(_KINDS[job.stopped_by], _MESSAGES[job.stopped_by])
        if job.pictures and event in _LEAVES_PICTURES:
            event, job.failure, job.accepted_by = JobEvent.DELIVER, None, job.made_by
        active.is_ending = True
        self._give_slot_back(job)
        await self._finish(active, event)

    def _drop_timers(self, active: _ActiveJob) -> None:
        if active.timer is not None:
            active.timer.cancel()
        if active.withdrawal is not None:
            active.withdrawal.cancel()

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
                job.charged = job.cost
            posted = await self._repository.end(job, JobState.SUCCEEDED)
        elif job.is_settled:
            event = JobEvent.LOSE
            posted = await self._repository.refund(job)
        else:
            posted = await self._repository.end(job, job.next_state(event))
        job.step(event)
        job.request = None
        for evicted in self.finished.add(job, int(self._wall())):
            self._repository.mark_delivered(evicted)  # its account has pushed it out, so not even a restart refunds it
        if self.on_settled is not None:
            self.on_settled(job, posted)
        if not is_redelivery:
            self.ended[job.status] = self.ended.get(job.status, 0) + 1
            self._on_ended(job, event)

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


_LEAVES_PICTURES: Final = frozenset({JobEvent.FAIL, JobEvent.CANCEL, JobEvent.EXPIRE})
"""Ends that a job comes to with some of its pictures made: they are delivered, and charged."""
_AGAIN: Final = "send it again, with another idempotency key if it had one"
_KINDS: Final = {
    JobEvent.EXPIRE: Kind.JOB_EXPIRED, JobEvent.CANCEL: Kind.JOB_CANCELLED, JobEvent.LOSE: Kind.JOB_LOST,
}  # fmt: skip
_MESSAGES: Final = {
    JobEvent.EXPIRE: f"The job was not done in time, and what it held was given back; {_AGAIN}.",
    JobEvent.CANCEL: "The job was cancelled, and what it held was given back.",
    JobEvent.LOSE: f"The gateway went down before the job was done, and what it held was given back; {_AGAIN}.",
}


def job_lost(why: str) -> GatewayError:
    """The failure of a job that ends for a reason of the gateway's own."""
    return GatewayError(Kind.JOB_LOST, f"The job can't be finished ({why}), and what it cost was given back; {_AGAIN}.")


def _reason(failing: SourceFailed, job: Job) -> str:
    """Why a source has lost a job; it is named unless there are accounts."""
    who = failing.failed.provider if job.account is None else "the provider"
    return f"{who} {failing}"
