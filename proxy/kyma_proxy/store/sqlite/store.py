"""Keeps the accounts in one SQLite file: a thread that writes, a thread that reads, and a lock. (Contract §8, §12.)"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

from kyma_proxy.store.activity import ActivityFilter, ActivityPage
from kyma_proxy.store.contract import (
    AccountRow,
    Added,
    Charge,
    Entry,
    JobRow,
    KeyRow,
    SessionRow,
    StoreStatistics,
    UsageRow,
)
from kyma_proxy.store.sqlite import activity, jobs, ledger, sessions
from kyma_proxy.store.sqlite.failures import start_error
from kyma_proxy.store.sqlite.inbox import DEFAULT_CAPACITY, Capacity, Inbox
from kyma_proxy.store.sqlite.integrity import check
from kyma_proxy.store.sqlite.opening import Lock, connect, create_file, version_of
from kyma_proxy.store.sqlite.reader import Reader, changed_accounts, load, unfinished_jobs
from kyma_proxy.store.sqlite.writer import DEFAULT_TIMING, Timing, Writer

Connect = Callable[[Path, float], sqlite3.Connection]
"""Connects to the database at a path, for writing, with SQLite's busy timeout in seconds. Raises StartError."""


class SqliteStore:
    """A `Store`; its methods promise what is written there. Made by `open`."""

    def __init__(self, path: Path, inbox: Inbox, writer: Writer, reader: Reader, lock: Lock, *, version: int) -> None:
        self._path = path
        self._inbox = inbox
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._loaded_entry = 0
        self._version = version

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        check_integrity: bool = False,
        timing: Timing = DEFAULT_TIMING,
        capacity: Capacity = DEFAULT_CAPACITY,
        connect: Connect = connect,
        shared_lock: int | None = None,
    ) -> SqliteStore:
        """Open a database, and create it if there is none, readable by its owner only. Blocks until the disk has answered.

        `check_integrity` reads all of it. `shared_lock`: a descriptor of the lock of the process that has the database now
        and shares it with this one (see `Lock`). Raises StartError: in use by another process, not writable, no database,
        damaged, or of a newer version.
        """
        path = Path(os.path.realpath(path))
        with ExitStack() as undo:
            lock = Lock(path, shared_lock)
            undo.callback(lock.release)
            create_file(path)
            connection = connect(path, timing.busy_timeout)
            undo.callback(connection.close)
            try:
                if check_integrity:
                    check(connection, path)
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                reader = Reader(path, timing.busy_timeout)
            except sqlite3.Error as error:
                raise start_error(path, error) from error
            undo.pop_all()
            inbox = Inbox(capacity)
            return cls(path, inbox, Writer(connection, inbox, timing), reader, lock, version=version)

    @property
    def timing(self) -> Timing:
        """The store's timeouts and intervals. It may be replaced at any time."""
        return self._writer.timing

    @timing.setter
    def timing(self, timing: Timing) -> None:
        self._writer.timing = timing

    @property
    def lock_descriptor(self) -> int | None:
        """A descriptor by which another process can share the right to write."""
        return self._lock.descriptor

    @property
    def is_lock_shared(self) -> bool:
        """True if this store had the right to write by such a descriptor."""
        return self._lock.is_shared

    def release_lock(self) -> None:
        """Leave the right to write to the process that shares it."""
        self._lock.release()

    @property
    def is_failing(self) -> bool:
        """True while charges can't be written."""
        return self._writer.is_failing

    @property
    def waiting(self) -> int:
        """The number of charges that are not on disk yet."""
        return len(self._inbox.charges)

    @property
    def last_error(self) -> str | None:
        """The error of the last commit that failed."""
        return self._writer.last_error

    def statistics(self) -> StoreStatistics:
        """Counters and present state."""
        return self._writer.statistics()

    def load(self) -> tuple[list[AccountRow], list[KeyRow]]:
        """All accounts and all keys."""
        accounts, keys, self._loaded_entry = load(self._path, self.timing.busy_timeout)
        return accounts, keys

    def changed_accounts(self) -> list[AccountRow]:
        """The accounts to whose ledger somebody else has added since `load`."""
        return changed_accounts(self._path, self.timing.busy_timeout, self._loaded_entry)

    @property
    def was_upgraded(self) -> bool:
        """True if another program has upgraded the database meanwhile."""
        return version_of(self._path, self.timing.busy_timeout) != self._version

    def charge(self, charge: Charge) -> None:
        """Have a charge written."""
        self._inbox.add_charge(charge)

    def key_used(self, key: str, day: int) -> None:
        """Have the day of a key's use written."""
        self._inbox.add_key_use(key, day)

    async def flush(self) -> None:
        """Wait until all charges that were handed over are on disk."""
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
        """The usage of an account, by day, model and key."""
        return await self._reader.usage(account, from_day, to_day)

    async def requests_on(self, account: str, day: int) -> int:
        """The number of requests of an account that ended on a day."""
        return await self._reader.requests_on(account, day)

    async def usage_sums(self, account: str, from_day: int, to_day: int, by: Literal["day", "model"]) -> list[UsageRow]:
        """The sums of an account's usage, by day or by model."""
        return await self._reader.usage_sums(account, from_day, to_day, by)

    async def add_session(self, row: SessionRow, most: int) -> None:
        """Add a session, and end the oldest ones of the account."""
        await self._writer.do(partial(sessions.add_session, row=row, most=most))

    async def session(self, digest: bytes) -> SessionRow | None:
        """The session of a cookie."""
        return await self._reader.session(digest)

    async def sessions(self, account: str) -> list[SessionRow]:
        """The sessions of an account, the newest first."""
        return await self._reader.sessions(account)

    async def end_session(self, account: str, ident: str) -> bool:
        """End a session, for good."""
        return bool(await self._writer.do(partial(sessions.end_session, account=account, ident=ident)))

    async def add_job(self, row: JobRow) -> tuple[JobRow, bool]:
        """Add a job and take what it holds from its account."""
        added: tuple[JobRow, bool] = await self._writer.do(partial(jobs.add_job, row=row))
        return added

    async def job_accepted(self, row: JobRow) -> bool:
        """Note the source that works on a job."""
        return bool(await self._writer.do(partial(jobs.accept_job, row=row)))

    async def end_job(self, row: JobRow) -> bool:
        """End a job, once."""
        return bool(await self._writer.do(partial(jobs.end_job, row=row)))

    async def lose_job(self, row: JobRow) -> bool:
        """Give back the cost of a job whose pictures are lost."""
        return bool(await self._writer.do(partial(jobs.lose_job, row=row)))

    async def job_delivered(self, ident: str) -> bool:
        """Note that a job's pictures have been received."""
        return bool(await self._writer.do(partial(jobs.deliver_job, ident=ident)))

    def unfinished_jobs(self, since: int) -> list[JobRow]:
        """The jobs that a start has to resume or to refund."""
        return unfinished_jobs(self._path, self.timing.busy_timeout, since)

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
        """Delete old jobs."""
        return bool(await self._writer.do(partial(jobs.forget_jobs, before=before)))

    async def add_activity(self, lines: bytes) -> None:
        """Keep requests of accounts."""
        array = f"[{lines.decode('utf-8', 'replace').strip().replace(chr(10), ',')}]"
        await self._writer.do(partial(activity.write_lines, lines=array))

    async def forget_activity(self, before: int, rows: int) -> bool:
        """Delete old requests."""
        return bool(await self._writer.do(partial(activity.forget, before=before, rows=rows)))

    async def activity(self, wanted: ActivityFilter, before: int | None, limit: int) -> ActivityPage:
        """The newest requests that fit."""
        return await self._reader.activity(wanted, before, limit)

    def close(self) -> None:
        """Write what waits, and close the database."""
        self._reader.close()
        if self._writer.close():  # otherwise the thread may still write, so the process keeps the lock until it ends
            self._lock.release()
