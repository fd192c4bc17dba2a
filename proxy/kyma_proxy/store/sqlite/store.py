"""This file is the store in one SQLite file: a thread that writes, a thread that reads, and a lock. (Contract §8, §12.)"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from kyma_proxy.store.contract import AccountRow, Added, Charge, Entry, Figures, JobRow, KeyRow, UsageRow
from kyma_proxy.store.sqlite import jobs, ledger
from kyma_proxy.store.sqlite.checking import check
from kyma_proxy.store.sqlite.failures import why_it_can_not_start
from kyma_proxy.store.sqlite.migrations import shipped
from kyma_proxy.store.sqlite.opening import Lock, connect, prepare
from kyma_proxy.store.sqlite.reading import Reader, load, unfinished_jobs
from kyma_proxy.store.sqlite.writing import USUAL, Timing, Writer


class SqliteStore:
    """A `Store`; see there for what its methods promise. Made by `open`."""

    def __init__(self, path: Path, writer: Writer, reader: Reader, lock: Lock, timing: Timing) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._timing = timing

    @classmethod
    def open(cls, path: Path, *, check_integrity: bool = False, timing: Timing = USUAL) -> SqliteStore:
        """Open a database, and make it where there is none, readable by its owner only. Waits for the disk.

        Raises StartError: in use by another process, can't be written, no database, damaged, or of a newer version. A check
        of its integrity reads all of it.
        """
        path = Path(os.path.realpath(path))
        with ExitStack() as undo:
            lock = Lock(path)
            undo.callback(lock.release)
            prepare(path)
            connection = connect(path, timing.busy, shipped())
            undo.callback(connection.close)
            try:
                if check_integrity:
                    check(connection, path)
                ledger.prepare(connection)
                reader = Reader(path, timing.busy)
            except sqlite3.Error as error:
                raise why_it_can_not_start(path, error) from error
            undo.pop_all()
            return cls(path, Writer(connection, timing), reader, lock, timing)

    @property
    def is_failing(self) -> bool:
        """Whether charges can't be written just now."""
        return self._writer.is_failing

    @property
    def waiting(self) -> int:
        """How many charges are not on disk yet."""
        return self._writer.waiting

    @property
    def last_error(self) -> str | None:
        """What kept the last commit that failed from succeeding."""
        return self._writer.last_error

    @property
    def figures(self) -> Figures:
        """What has been done so far."""
        return self._writer.figures

    def load(self) -> tuple[list[AccountRow], list[KeyRow]]:
        """All accounts and all keys."""
        return load(self._path, self._timing.busy)

    def charge(self, charge: Charge) -> None:
        """Have a charge written."""
        self._writer.charge(charge)

    def key_used(self, key: str, day: int) -> None:
        """Have the day of a key's use written."""
        self._writer.key_used(key, day)

    async def settled(self) -> None:
        """Wait until all charges are on disk that have been handed over."""
        await self._writer.do(lambda _: None)

    async def create_account(self, row: AccountRow, key: KeyRow | None, entries: Sequence[Entry]) -> None:
        """Add an account with its first key and entries."""
        await self._writer.do(partial(ledger.create_account, row=row, key=key, entries=entries))

    async def add_entry(self, entry: Entry) -> Added:
        """Add to the ledger, once."""
        added: Added = await self._writer.do(partial(ledger.add_entry, entry=entry))
        return added

    async def create_key(self, row: KeyRow) -> None:
        """Add a key."""
        await self._writer.do(partial(ledger.create_key, row=row))

    async def revoke_key(self, account: str, key: str) -> bool:
        """Revoke a key, for good."""
        return bool(await self._writer.do(partial(ledger.revoke_key, account=account, key=key)))

    async def set_blocked(self, account: str, is_blocked: bool) -> bool:
        """Block or unblock an account."""
        return bool(await self._writer.do(partial(ledger.set_blocked, account=account, is_blocked=is_blocked)))

    async def transactions(self, account: str, before: int | None, limit: int) -> list[Entry]:
        """An account's entries, the newest first."""
        return await self._reader.transactions(account, before, limit)

    async def usage(self, account: str, from_day: int, to_day: int) -> list[UsageRow]:
        """What an account used, by day, model and key."""
        return await self._reader.usage(account, from_day, to_day)

    async def requests_on(self, account: str, day: int) -> int:
        """How many requests of an account ended on a day."""
        return await self._reader.requests_on(account, day)

    async def add_job(self, row: JobRow) -> tuple[JobRow, bool]:
        """Add a job and take what it holds from its account."""
        added: tuple[JobRow, bool] = await self._writer.do(partial(jobs.add_job, row=row))
        return added

    async def job_accepted(self, row: JobRow) -> bool:
        """Take note of who works on a job."""
        return bool(await self._writer.do(partial(jobs.accept_job, row=row)))

    async def end_job(self, row: JobRow) -> bool:
        """End a job, once."""
        return bool(await self._writer.do(partial(jobs.end_job, row=row)))

    async def lose_job(self, row: JobRow) -> bool:
        """Give back what a job came to whose pictures are lost."""
        return bool(await self._writer.do(partial(jobs.lose_job, row=row)))

    async def job_delivered(self, ident: str) -> bool:
        """Take note that a job's pictures have been had."""
        return bool(await self._writer.do(partial(jobs.deliver_job, ident=ident)))

    def unfinished_jobs(self, since: int) -> list[JobRow]:
        """What a start has to look after."""
        return unfinished_jobs(self._path, self._timing.busy, since)

    async def job(self, account: str, ident: str) -> JobRow | None:
        """An account's job."""
        return await self._reader.job(account, ident)

    async def job_of_key(self, account: str, idempotency_key: str) -> JobRow | None:
        """An account's job with this idempotency key."""
        return await self._reader.job_of_key(account, idempotency_key)

    async def jobs(self, account: str, before: int | None, limit: int) -> list[JobRow]:
        """An account's jobs, the newest first."""
        return await self._reader.jobs(account, before, limit)

    async def forget_jobs(self, before: int) -> bool:
        """Forget old jobs."""
        return bool(await self._writer.do(partial(jobs.forget_jobs, before=before)))

    def close(self) -> None:
        """Write what waits, and let go of the database."""
        self._reader.close()
        if self._writer.close():  # else the lock is the process's until it ends, as the thread may still write
            self._lock.release()
