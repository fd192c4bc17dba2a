"""Reads the database: all of it at the start, and single accounts while the gateway runs, in a thread of its own.

It reads what is on disk, which may be 100 ms old. It never waits for the writing thread, and the writing thread never for it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Literal

from kyma_proxy.store.activity import ActivityFilter, ActivityPage
from kyma_proxy.store.contract import AccountRow, Entry, JobRow, KeyRow, SessionRow, StoreUnavailable, UsageRow
from kyma_proxy.store.sqlite import activity, jobs, sessions
from kyma_proxy.store.sqlite.failures import start_error
from kyma_proxy.store.sqlite.ledger import ENTRY_COLUMNS
from kyma_proxy.store.sqlite.opening import connect_reader

_ACCOUNTS: Final = "SELECT id, email, created, is_blocked, balance, purchased FROM accounts"
_LAST_ENTRY: Final = "SELECT coalesce(max(id), 0) FROM entries"
_CHANGED: Final = f"{_ACCOUNTS} WHERE id IN (SELECT account FROM entries WHERE id > ?)"  # noqa: S608  (a constant)
_KEYS: Final = "SELECT id, account, digest, prefix, name, created, last_used_day, is_revoked FROM keys ORDER BY created, id"
_TRANSACTIONS: Final = f"""
WITH RECURSIVE line (number) AS (
    SELECT iif(
        :before IS NULL,
        (SELECT last_entry FROM accounts WHERE id = :account),
        (SELECT previous FROM entries WHERE id = :before AND account = :account)
    )
    UNION ALL SELECT previous FROM entries JOIN line ON id = number LIMIT :limit
)
SELECT {ENTRY_COLUMNS} FROM line CROSS JOIN entries ON id = number ORDER BY id DESC
"""  # noqa: S608  (a constant)
# The table is ordered by day first, so each day is looked up by itself, none outside those that the table has.
_DAYS: Final = """
WITH RECURSIVE days (the_day, the_last) AS (
    SELECT max(:first, (SELECT min(day) FROM usage)), min(:last, (SELECT max(day) FROM usage))
    UNION ALL SELECT the_day + 1, the_last FROM days WHERE the_day < the_last
)
"""
_USAGE: Final = f"""{_DAYS}
SELECT day, model, nullif(key, ''), requests, prompt_tokens, completion_tokens, cached_tokens, cost
FROM days CROSS JOIN usage ON day = the_day AND account = :account
WHERE the_day <= the_last ORDER BY day, model, key
"""  # noqa: S608  (a constant)
_SUMS: Final = (
    "sum(requests), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), sum(cost) AS costs "
    "FROM days CROSS JOIN usage ON day = the_day AND account = :account WHERE the_day <= the_last"
)
_SUMS_BY: Final = {
    "day": f"{_DAYS} SELECT day, '', NULL, {_SUMS} GROUP BY day ORDER BY day",
    "model": f"{_DAYS} SELECT 0, model, NULL, {_SUMS} GROUP BY model ORDER BY costs DESC, model LIMIT 100",
}
_REQUESTS: Final = "SELECT coalesce(sum(requests), 0) FROM usage WHERE day = :day AND account = :account"


def load(path: Path, busy_timeout_s: float) -> tuple[list[AccountRow], list[KeyRow], int]:
    """All accounts, all keys, the oldest first, and the number of the ledger's last entry: all of one moment.

    Raises StartError.
    """
    try:
        with closing(connect_reader(path, busy_timeout_s)) as connection:
            connection.execute("BEGIN")
            ((last_entry,),) = connection.execute(_LAST_ENTRY)
            accounts = [_account(row) for row in connection.execute(_ACCOUNTS)]
            keys = [
                KeyRow(ident, account, digest, prefix, name, created, last_used_day, is_revoked == 1)
                for ident, account, digest, prefix, name, created, last_used_day, is_revoked in connection.execute(_KEYS)
            ]
    except sqlite3.Error as error:
        raise start_error(path, error) from error
    return accounts, keys, last_entry


def changed_accounts(path: Path, busy_timeout_s: float, last_entry: int) -> list[AccountRow]:
    """The accounts that have an entry after this one. Raises StartError."""
    try:
        with closing(connect_reader(path, busy_timeout_s)) as connection:
            return [_account(row) for row in connection.execute(_CHANGED, (last_entry,))]
    except sqlite3.Error as error:
        raise start_error(path, error) from error


def _account(row: tuple[Any, ...]) -> AccountRow:
    ident, email, created, is_blocked, balance, purchased = row
    return AccountRow(ident, email, created, is_blocked == 1, balance, purchased)


def unfinished_jobs(path: Path, busy_timeout_s: float, since: int) -> list[JobRow]:
    """The jobs that a start has to resume or to refund, the oldest first. Raises StartError."""
    try:
        with closing(connect_reader(path, busy_timeout_s)) as connection:
            return [jobs.row_of(row) for row in connection.execute(jobs.UNFINISHED, {"since": since})]
    except sqlite3.Error as error:
        raise start_error(path, error) from error


class Reader:
    """A connection that only reads, and its thread."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        """Connect. Raises sqlite3.Error."""
        self._connection = connect_reader(path, busy_timeout_s)
        self._thread = ThreadPoolExecutor(1, "store-reader")

    async def transactions(self, account: str, before: int | None, limit: int) -> list[Entry]:
        """As `Store.transactions`."""
        rows = await self._rows(_TRANSACTIONS, {"account": account, "before": before, "limit": limit})
        return [Entry(*row) for row in rows]

    async def usage(self, account: str, from_day: int, to_day: int) -> list[UsageRow]:
        """As `Store.usage`."""
        rows = await self._rows(_USAGE, {"account": account, "first": from_day, "last": to_day})
        return [UsageRow(*row) for row in rows]

    async def requests_on(self, account: str, day: int) -> int:
        """As `Store.requests_on`."""
        ((count,),) = await self._rows(_REQUESTS, {"account": account, "day": day})
        return int(count)

    async def usage_sums(self, account: str, from_day: int, to_day: int, by: Literal["day", "model"]) -> list[UsageRow]:
        """As `Store.usage_sums`."""
        rows = await self._rows(_SUMS_BY[by], {"account": account, "first": from_day, "last": to_day})
        return [UsageRow(*row) for row in rows]

    async def session(self, digest: bytes) -> SessionRow | None:
        """As `Store.session`."""
        rows = await self._rows(sessions.ONE, {"digest": digest})
        return SessionRow(*rows[0]) if rows else None

    async def sessions(self, account: str) -> list[SessionRow]:
        """As `Store.sessions`."""
        return [SessionRow(*row) for row in await self._rows(sessions.ALL, {"account": account})]

    async def job(self, account: str, ident: str) -> JobRow | None:
        """As `Store.job`."""
        rows = await self._rows(jobs.ONE, {"account": account, "id": ident})
        return jobs.row_of(rows[0]) if rows else None

    async def job_of_key(self, account: str, idempotency_key: str) -> JobRow | None:
        """As `Store.job_of_key`."""
        rows = await self._rows(jobs.BY_KEY, {"account": account, "key": idempotency_key})
        return jobs.row_of(rows[0]) if rows else None

    async def jobs(self, account: str, before: int | None, limit: int) -> list[JobRow]:
        """As `Store.jobs`."""
        values = {"account": account, "before": 2**62 if before is None else before, "limit": limit}
        return [jobs.row_of(row) for row in await self._rows(jobs.NEWEST, values)]

    async def activity(self, wanted: ActivityFilter, before: int | None, limit: int) -> ActivityPage:
        """As `Store.activity`."""
        values = activity.values_of(wanted, before, limit + 1)
        rows = [activity.row_of(row) for row in await self._rows(activity.page_sql(wanted), values)]
        if len(rows) > limit:
            return ActivityPage(rows[:limit], rows[limit - 1].id)
        bound = await self._rows(activity.last_scanned_sql(wanted), values)
        return ActivityPage(rows, bound[0][0] if bound else None)

    def close(self) -> None:
        """End the thread, after the reads that it has been given."""
        self._thread.shutdown()
        self._connection.close()

    async def _rows(self, sql: str, values: dict[str, object]) -> list[Any]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch, sql, values)
        except (sqlite3.Error, RuntimeError) as error:  # RuntimeError once it is closed
            raise StoreUnavailable(f"the database can't be read: {error}") from error

    def _fetch(self, sql: str, values: dict[str, object]) -> list[Any]:
        return self._connection.execute(sql, values).fetchall()
