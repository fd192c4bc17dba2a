"""Settles the jobs from before the start of this process. (Contract §10.)

After a restart a job that a source has accepted continues, and every other one is refunded, as prompts are never stored. If
this process has taken the place of another, that one finishes its jobs and tells of each; what it has not told when it ends is
settled as after a restart.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.jobs.finished import RETENTION_S
from kyma_proxy.core.jobs.job import AcceptedBy, Job, JobEvent, JobState, Picture
from kyma_proxy.errors import GatewayError
from kyma_proxy.jobs.repository import JobRepository
from kyma_proxy.jobs.runner import JobRunner
from kyma_proxy.jobs.scheduler import JobScheduler, job_lost
from kyma_proxy.store.contract import StoreUnavailable

_log: Final = logging.getLogger("kyma-proxy")


class JobElsewhere(msgspec.Struct, frozen=True):
    """A job that another process finishes, or has finished and still has the pictures of (`has_ended`)."""

    account: str
    has_ended: bool = False


class EndedJob(msgspec.Struct, frozen=True):
    """The part of a job that has ended that is in no database; `posted` is what its account got then, in nano-dollars."""

    id: str
    pictures: tuple[Picture, ...]
    alias: str | None
    failure: str | None
    posted: int


class EarlierJobs:
    """The jobs from before the start. `wall` is Unix time."""

    def __init__(
        self, current: Callable[[], Snapshot], repository: JobRepository, scheduler: JobScheduler, runner: JobRunner,
        wall: Callable[[], float],
    ) -> None:  # fmt: skip
        self._current = current
        self._repository = repository
        self._scheduler = scheduler
        self._runner = runner
        self._wall = wall
        self.elsewhere: dict[str, JobElsewhere] = {}
        """The jobs of the process whose place this one has taken, by id."""

    def settle(self) -> None:
        """Continue or refund all jobs that are nobody's. Raises StartError."""
        self._settle([job for job in self._unfinished() if job.id not in self.elsewhere])

    def is_elsewhere(self, job: Job) -> bool:
        """True if another process has the job."""
        return job.id in self.elsewhere

    async def came(self, ended: EndedJob) -> None:
        """The other process has finished a job, or has handed over the pictures of one."""
        job = await self._stored(ended.id)
        if job is None:
            return
        if job.account is not None:
            job.account.post(ended.posted)
        job.pictures, job.alias = ended.pictures, ended.alias
        if job.failure is not None and ended.failure is not None:
            job.failure = GatewayError(job.failure.kind, ended.failure)
        for evicted in self._scheduler.finished.add(job, int(self._wall())):
            self._repository.mark_delivered(evicted)
        self.elsewhere.pop(ended.id, None)

    async def other_ended(self) -> None:
        """The other process has ended: what it has not told of is settled here."""
        left = {}
        for ident, one in [*self.elsewhere.items()]:
            job = await self._stored(ident)
            del self.elsewhere[ident]
            if job is None:
                continue
            left[ident] = job
            if job.has_ended and not one.has_ended and job.account is not None:
                job.account.post(job.held - job.charged)
        if left:
            _log.info("%d image jobs of the process that was replaced are settled here", len(left))
        self._settle([job for job in self._unfinished() if job.id in left])

    async def _stored(self, ident: str) -> Job | None:
        one = self.elsewhere.get(ident)
        account = None if one is None else self._repository.account(one.account)
        while account is not None:
            try:
                return await self._repository.find(account, ident)
            except StoreUnavailable:
                await self._repository.pause()
        return None

    def _unfinished(self) -> list[Job]:
        return self._repository.unfinished(int(self._wall()) - RETENTION_S)

    def _settle(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.accepted_by = self._with_source(job, job.accepted_by)
            if job.accepted_by is None or job.accepted_by.source is None:
                self._scheduler.refund(job, _restarted(job))
                continue
            if job.state is JobState.SUCCEEDED:
                job.step(JobEvent.RESUME)
            self._scheduler.resume(job, functools.partial(self._runner.resume, job), len(jobs))

    def _with_source(self, job: Job, by: AcceptedBy | None) -> AcceptedBy | None:
        """The source that accepted a job before a restart, as it is configured now. A substitute's price is that of now."""
        model = None if by is None or not by.provider_job else self._current().models.get(by.model)
        if by is None or model is None:
            return by
        for source in (*model.pool, *model.reserve):
            if (source.provider.name, source.model) == (by.provider, by.provider_model) and source.provider.off is None:
                price = job.price if model.id == job.model else model.price.image or 0
                return msgspec.structs.replace(by, source=source, price=price)
        return by


def _restarted(job: Job) -> GatewayError:
    if job.state is JobState.SUCCEEDED:
        return job_lost("the gateway was restarted before the pictures were fetched, and pictures are never stored")
    if job.state is JobState.ACCEPTED:
        return job_lost("the gateway was restarted, and the source that worked on it is not configured any more")
    return job_lost("the gateway was restarted, and prompts are never stored")
