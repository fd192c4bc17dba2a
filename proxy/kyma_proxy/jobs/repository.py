"""Stores and finds jobs, and moves their money: on disk first, then in memory, then for callers to see. (Contract §8, §10.)

Without accounts there is no database: such jobs live in memory, and end with the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.core.accounts.accounts import Account
from kyma_proxy.core.jobs.job import AcceptedBy, Job, JobState, status_of
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable
from kyma_proxy.store.contract import JobRow, Store, StoreError, StoreUnavailable

_log: Final = logging.getLogger("kyma-proxy")


class JobRepository:
    """Finds jobs in the store, and writes them there and to balances. `pause` waits before a failed write is tried again."""

    def __init__(self, account_service: AccountService | None, pause: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._account_service = account_service
        self.pause = pause
        self._writes: set[asyncio.Task[bool]] = set()
        self.may_settle = asyncio.Event()
        """Not set while another process takes the accounts over: what a job ends with waits, and is then told to that one."""
        self.may_settle.set()

    @property
    def is_persistent(self) -> bool:
        """True if jobs are stored: they are found after they have left the memory, and after a restart."""
        return self._account_service is not None

    @property
    def is_failing(self) -> bool:
        """True if the database can't be written at the moment."""
        return self._account_service is not None and self._account_service.store.is_failing

    # ---- finding

    def account(self, ident: str) -> Account | None:
        """The account with this id."""
        return None if self._account_service is None else self._account_service.accounts.account(ident)

    async def find(self, account: Account, ident: str) -> Job | None:
        """An account's job, as it is stored. Raises StoreUnavailable, as `find_by_key` and `newest` do."""
        account_service = self._account_service
        if account_service is None:
            return None
        row = await account_service.store.job(account.id, ident)
        return None if row is None else _job_of(row, account_service)

    async def find_by_key(self, account: Account, idempotency_key: str) -> Job | None:
        """An account's job with this idempotency key, as it is stored."""
        account_service = self._account_service
        if account_service is None:
            return None
        row = await account_service.store.job_of_key(account.id, idempotency_key)
        return None if row is None else _job_of(row, account_service)

    async def newest(self, account: Account, before: int | None, limit: int) -> list[Job]:
        """The newest jobs of an account, or the next older ones after the job with the number `before`, as they are stored."""
        account_service = self._account_service
        if account_service is None:
            return []
        return [_job_of(row, account_service) for row in await account_service.store.jobs(account.id, before, limit)]

    def unfinished(self, since: int) -> list[Job]:
        """The jobs that have not ended, and those that succeeded after `since` and whose pictures were not delivered.

        Blocks: for the start only. Raises StartError.
        """
        account_service = self._account_service
        if account_service is None:
            return []
        return [_job_of(row, account_service) for row in account_service.store.unfinished_jobs(since)]

    # ---- writing

    def hold(self, job: Job) -> None:
        """Hold what a job may cost, until `add` has taken it from the balance."""
        if self._account_service is not None and job.account is not None:
            job.account.hold(job.held)

    async def add(self, job: Job) -> Job | None:
        """Store a new job, and take what was held from the balance. Raises GatewayError.

        Returns an older job, as it is stored, if that has the same idempotency key; then the new one is not stored.
        """
        account_service, account = self._account_service, job.account
        if account_service is None or account is None:
            return None
        try:
            row, is_new = await account_service.store.add_job(_row(job, JobState.QUEUED))
        except StoreUnavailable:
            raise accounts_unavailable() from None
        finally:
            account.release(job.held)
        if not is_new:
            return _job_of(row, account_service)
        account.post(-job.held)
        job.number = row.number
        return None

    async def mark_accepted(self, job: Job) -> None:
        """Store which source works on a job, so that it can continue after a restart."""
        if self._account_service is not None and not job.is_settled:
            await self._write(lambda store: store.job_accepted(_row(job, JobState.ACCEPTED)))

    async def end(self, job: Job, ending: JobState) -> int:
        """Settle a job, once: give back what it holds, and charge `job.charged`. Returns what its account gets."""
        posted = 0
        if self._account_service is not None and not job.is_settled:
            await self.may_settle.wait()
            is_written = await self._write(lambda store: store.end_job(_row(job, ending)))
            if is_written and job.account is not None:
                posted = job.held - job.charged
                job.account.post(posted)
        job.is_settled = True
        return posted

    async def refund(self, job: Job) -> int:
        """Give back the charge for a job whose pictures were lost before they were delivered. Returns what its account gets."""
        refunded, job.charged = job.charged, 0
        if self._account_service is not None:
            await self.may_settle.wait()
            is_written = await self._write(lambda store: store.lose_job(_row(job, JobState.REFUNDED)))
            if is_written and job.account is not None:
                job.account.post(refunded)
                return refunded
        return 0

    def mark_delivered(self, job: Job) -> None:
        """Record that the caller has the pictures: from now on there is no refund."""
        if job.is_delivered:
            return
        job.is_delivered = True
        if self._account_service is not None:
            task = asyncio.get_running_loop().create_task(self._write(lambda store: store.job_delivered(job.id)))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def delete_before(self, before: int) -> None:
        """Delete the jobs that ended before this time, a few at a time, so that charges are written in between."""
        while self._account_service is not None and await self._write(lambda store: store.forget_jobs(before)):
            pass

    async def flush(self) -> None:
        """Wait until all pending writes are done."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _write(self, write: Callable[[Store], Coroutine[Any, Any, bool]]) -> bool:
        """Write, and retry for as long as the disk fails: the outcome of a job must not be lost.

        Returns True if something has changed; False if it had been written before, or if the database refuses it for good.
        """
        assert self._account_service is not None  # noqa: S101  (checked by the callers)
        while True:
            try:
                return await write(self._account_service.store)
            except StoreUnavailable:
                await self.pause()
            except StoreError:
                _log.exception("a change of an image job was refused by the database")
                return False


def _row(job: Job, state: JobState) -> JobRow:
    by, failure = job.accepted_by, job.failure
    return JobRow(
        job.id, "" if job.account is None else job.account.id, job.key_id, job.request_id, job.idempotency_key,
        job.digest or None, job.model, job.n, job.price, int(job.created), status_of(state), job.completed, job.charged,
        None if failure is None else failure.kind.code, job.is_delivered,
        *(_NO_SOURCE if by is None else (by.provider, by.provider_model, by.provider_job, by.model, by.layer)),
    )  # fmt: skip


def _job_of(row: JobRow, account_service: AccountService) -> Job:
    """A job that is no longer, or not yet, in memory, as the store has it."""
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
        job.accepted_by = AcceptedBy(
            provider=row.provider, provider_model=row.provider_model or "", provider_job=row.provider_job or "",
            model=row.answer_model or row.model, layer=row.layer, price=row.price,
        )  # fmt: skip
    job.state = _STATES[row.status]
    job.is_settled = job.has_ended
    if row.error is not None:
        job.failure = GatewayError(_KINDS.get(row.error, Kind.PROVIDER_ERROR), _MESSAGES.get(row.error, _NOT_STORED))
    return job


_NO_SOURCE: Final = (None, None, None, None, 0)
_STATES: Final = {
    "pending": JobState.QUEUED, "processing": JobState.ACCEPTED, "succeeded": JobState.SUCCEEDED, "failed": JobState.FAILED,
    "refunded": JobState.REFUNDED, "expired": JobState.EXPIRED,
}  # fmt: skip
_KINDS: Final = {kind.code: kind for kind in Kind}
_NOT_STORED: Final = "The job failed; the reason is no longer stored. What it held was given back."
_MESSAGES: Final = {
    Kind.JOB_EXPIRED.code: "The job was not done in time. What it held was given back.",
    Kind.JOB_CANCELLED.code: "The job was cancelled. What it held was given back.",
    Kind.JOB_LOST.code: "The gateway was restarted, and could not finish the job. What it held was given back.",
}
