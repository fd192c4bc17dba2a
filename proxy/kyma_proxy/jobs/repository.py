"""This file keeps jobs and what they cost: on disk first, then in memory, and only then to be seen. (Contract §8, §10.)

Where there are no accounts there is no database either: such jobs live in memory, and end with the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.core.jobs.job import Job, JobState, Taken, status_of
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable
from kyma_proxy.store.contract import JobRow, Store, StoreError, StoreUnavailable

_log: Final = logging.getLogger("kyma-proxy")


class JobRepository:
    """The jobs' place in the store and in the balances. `pause` waits before what could not be written is tried again."""

    def __init__(self, account_service: AccountService | None, pause: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.account_service = account_service
        self._pause = pause
        self._under_way: set[asyncio.Task[bool]] = set()

    @property
    def is_failing(self) -> bool:
        """Whether nothing can be written just now."""
        return self.account_service is not None and self.account_service.store.is_failing

    def hold(self, job: Job) -> None:
        """Set aside what a job may cost, until `add` has taken it."""
        if self.account_service is not None and job.account is not None:
            job.account.hold(job.held)

    async def add(self, job: Job) -> JobRow | None:
        """Keep a new job, and take what was held; or return the row of an older one that has its key. Raises GatewayError."""
        account_service, account = self.account_service, job.account
        if account_service is None or account is None:
            return None
        try:
            row, is_new = await account_service.store.add_job(_row(job, JobState.QUEUED))
        except StoreUnavailable:
            raise accounts_unavailable() from None
        finally:
            account.release(job.held)
        if not is_new:
            return row
        account.post(-job.held)
        job.number = row.number
        return None

    async def accepted(self, job: Job) -> None:
        """Keep who works on a job, so that it can go on after a restart."""
        if self.account_service is not None and not job.is_settled:
            await self._surely(lambda store: store.job_accepted(_row(job, JobState.ACCEPTED)))

    async def end(self, job: Job, ending: JobState) -> None:
        """Settle a job, once: give back what it holds, and charge what it came to."""
        if self.account_service is not None and not job.is_settled:
            is_written = await self._surely(lambda store: store.end_job(_row(job, ending)))
            if is_written and job.account is not None:
                job.account.post(job.held)
                job.account.post(-job.charged)
        job.is_settled = True

    async def lose(self, job: Job) -> None:
        """Give back what a job came to whose pictures are lost before anybody had them."""
        came_to, job.charged = job.charged, 0
        if self.account_service is not None:
            is_lost = await self._surely(lambda store: store.lose_job(_row(job, JobState.REFUNDED)))
            if is_lost and job.account is not None:
                job.account.post(came_to)

    def delivered(self, job: Job) -> None:
        """The caller has the pictures: from now on nothing is given back."""
        if job.is_delivered:
            return
        job.is_delivered = True
        if self.account_service is not None:
            task = asyncio.get_running_loop().create_task(self._surely(lambda store: store.job_delivered(job.id)))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def forget(self, before: int) -> None:
        """Forget the jobs of before this moment that have ended, a few at a time: charges are written between them."""
        while self.account_service is not None and await self._surely(lambda store: store.forget_jobs(before)):
            pass

    async def settled(self) -> None:
        """Wait until what is under way is written."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _surely(self, write: Callable[[Store], Coroutine[Any, Any, bool]]) -> bool:
        """Write, and where the disk can't just now, again and again, as what a job came to must not be lost.

        Whether anything has changed: not where it had been written before, or where the database refuses it for good.
        """
        assert self.account_service is not None  # noqa: S101  (asked before)
        while True:
            try:
                return await write(self.account_service.store)
            except StoreUnavailable:
                await self._pause()
            except StoreError:
                _log.exception("a change of an image job was refused by the database")
                return False


def _row(job: Job, state: JobState) -> JobRow:
    taken, failure = job.taken, job.failure
    return JobRow(
        job.id, "" if job.account is None else job.account.id, job.key_id, job.request_id, job.idempotency_key,
        job.digest or None, job.model, job.n, job.price, int(job.created), status_of(state), job.completed, job.charged,
        None if failure is None else failure.kind.code, job.is_delivered,
        *(_NOBODY if taken is None else (taken.provider, taken.provider_model, taken.provider_job, taken.model, taken.layer)),
    )  # fmt: skip


def job_of(row: JobRow, account_service: AccountService) -> Job:
    """A job as the store has it, which is not in memory any more, or not yet."""
    job = Job(
        row.id,
        account=account_service.accounts.account(row.account),
        model=row.model,
        n=row.n,
        price=row.price,
        created=row.created,
    )
    key = account_service.accounts.key(row.key)
    job.number = row.number
    job.key_id, job.key_prefix, job.request_id = row.key, None if key is None else key.prefix, row.request_id
    job.idempotency_key, job.digest = row.idempotency_key, row.digest or b""
    job.completed, job.charged, job.is_delivered = row.completed, row.charged, row.is_delivered
    if row.provider is not None:
        job.taken = Taken(
            provider=row.provider, provider_model=row.provider_model or "", provider_job=row.provider_job or "",
            model=row.answer_model or row.model, layer=row.layer, price=row.price,
        )  # fmt: skip
    job.state = _STATES[row.status]
    job.is_settled = job.has_ended
    if row.error is not None:
        job.failure = GatewayError(_KINDS.get(row.error, Kind.PROVIDER_ERROR), _TOLD.get(row.error, _SOME_WAY))
    return job


_NOBODY: Final = (None, None, None, None, 0)
_STATES: Final = {
    "pending": JobState.QUEUED, "processing": JobState.ACCEPTED, "succeeded": JobState.SUCCEEDED, "failed": JobState.FAILED,
    "refunded": JobState.REFUNDED, "expired": JobState.EXPIRED,
}  # fmt: skip
_KINDS: Final = {kind.code: kind for kind in Kind}
_SOME_WAY: Final = "The job did not end well; more is not kept. What it held was given back."
_TOLD: Final = {
    Kind.JOB_EXPIRED.code: "The job was not done in time. What it held was given back.",
    Kind.JOB_CANCELLED.code: "The job was cancelled. What it held was given back.",
    Kind.JOB_LOST.code: "The gateway was restarted, and could not finish the job. What it held was given back.",
}
