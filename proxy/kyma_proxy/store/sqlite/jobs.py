"""Writes image jobs: each change of a job and the lines of the ledger that belong to it. (Contract §8, §10.)

What a job holds is an `adjustment` of the ledger when it is submitted, and a `refund` of the same amount when it ends; what it
cost is a `usage`. All three bear the job's id, so none of them can be there twice. All of it runs within a transaction of the
caller.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from kyma_proxy.store.contract import Entry, EntryKind, JobRow, day_of
from kyma_proxy.store.sqlite.ledger import add_entry

_COLUMNS: Final = (
    "id, account, key, request_id, idempotency_key, digest, model, n, price, created, status, completed, charged, error, "
    "delivered, provider, provider_model, provider_job, answer_model, layer, number"
)
ONE: Final = f"SELECT {_COLUMNS} FROM jobs WHERE account = :account AND id = :id"  # noqa: S608  (a constant)
BY_KEY: Final = f"SELECT {_COLUMNS} FROM jobs WHERE account = :account AND idempotency_key = :key"  # noqa: S608
NEWEST: Final = f"""
SELECT {_COLUMNS} FROM jobs WHERE account = :account AND number < :before ORDER BY number DESC LIMIT :limit
"""  # noqa: S608
UNFINISHED: Final = f"""
SELECT {_COLUMNS} FROM jobs
WHERE (status IN ('pending', 'processing') OR (status = 'succeeded' AND delivered = 0))
    AND (completed IS NULL OR completed >= :since)
ORDER BY number
"""  # noqa: S608
_ADD: Final = """
INSERT INTO jobs (id, account, key, request_id, idempotency_key, digest, model, n, price, created, status)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending')
"""
_ACCEPT: Final = """
UPDATE jobs SET status = 'processing', provider = ?, provider_model = ?, provider_job = ?, answer_model = ?, layer = ?
WHERE id = ? AND status IN ('pending', 'processing')
"""
_END: Final = """
UPDATE jobs SET status = ?, completed = ?, charged = ?, error = ?,
    provider = ?, provider_model = ?, provider_job = ?, answer_model = ?, layer = ?
WHERE id = ? AND status IN ('pending', 'processing') RETURNING price * n
"""
_LOST: Final = "SELECT completed, charged FROM jobs WHERE id = ? AND status = 'succeeded' AND delivered = 0"
_LOSE: Final = "UPDATE jobs SET status = 'refunded', completed = ?, charged = 0, error = ? WHERE id = ?"
_SUBTRACT_USE: Final = """
UPDATE usage SET requests = requests - 1, cost = cost - ? WHERE day = ? AND account = ? AND model = ? AND key = ?
"""
_MAX_FORGOTTEN: Final = 500
_FORGET: Final = """
DELETE FROM jobs WHERE number IN (SELECT number FROM jobs WHERE created < ? AND completed IS NOT NULL LIMIT ?)
"""
_ADD_USE: Final = """
INSERT INTO usage VALUES (?, ?, ?, ?, 1, 0, 0, 0, ?)
ON CONFLICT DO UPDATE SET requests = requests + 1, cost = cost + excluded.cost
"""


def row_of(values: tuple[object, ...]) -> JobRow:
    """The job with these columns."""
    row = JobRow(*values)  # type: ignore[arg-type]
    return row._replace(is_delivered=bool(row.is_delivered))


def add_job(connection: sqlite3.Connection, row: JobRow) -> tuple[JobRow, bool]:
    """As `Store.add_job`. Raises UnknownAccount."""
    if row.idempotency_key is not None:
        existing = connection.execute(BY_KEY, {"account": row.account, "key": row.idempotency_key}).fetchone()
        if existing is not None:
            return row_of(existing), False
    _post(connection, row, "adjustment", -row.price * row.n, "held for an image job")
    number = connection.execute(_ADD, row[:10]).lastrowid
    assert number is not None  # noqa: S101  (an insert has one)
    return row._replace(number=number), True


def accept_job(connection: sqlite3.Connection, row: JobRow) -> bool:
    """As `Store.job_accepted`."""
    return connection.execute(_ACCEPT, (*_source_of(row), row.id)).rowcount == 1


def end_job(connection: sqlite3.Connection, row: JobRow) -> bool:
    """As `Store.end_job`."""
    at = row.completed or row.created
    held = connection.execute(_END, (row.status, at, row.charged, row.error, *_source_of(row), row.id)).fetchone()
    if held is None:
        return False
    _post(connection, row, "refund", held[0], "what was held for an image job")
    if row.status == "succeeded":
        _post(connection, row, "usage", -row.charged, None)
        connection.execute(_ADD_USE, (day_of(at), row.account, _model_of(row), row.key, row.charged))
    return True


def lose_job(connection: sqlite3.Connection, row: JobRow) -> bool:
    """As `Store.lose_job`."""
    found = connection.execute(_LOST, (row.id,)).fetchone()
    if found is None:
        return False
    completed, charged = found
    at, model = row.completed or row.created, _model_of(row)
    connection.execute(_LOSE, (at, row.error, row.id))
    connection.execute(_SUBTRACT_USE, (charged, day_of(completed), row.account, model, row.key))
    if charged:
        note = "a lost picture"
        add_entry(connection, Entry(row.account, at, "refund", charged, f"{row.id} lost", row.request_id, model, row.key, note))
    return True


def deliver_job(connection: sqlite3.Connection, ident: str) -> bool:
    """As `Store.job_delivered`."""
    return connection.execute("UPDATE jobs SET delivered = 1 WHERE id = ?", (ident,)).rowcount == 1


def forget_jobs(connection: sqlite3.Connection, before: int) -> bool:
    """As `Store.forget_jobs`."""
    return connection.execute(_FORGET, (before, _MAX_FORGOTTEN)).rowcount > 0


def _model_of(row: JobRow) -> str:
    return row.answer_model or row.model


def _source_of(row: JobRow) -> tuple[object, ...]:
    return row.provider, row.provider_model, row.provider_job, row.answer_model, row.layer


def _post(connection: sqlite3.Connection, row: JobRow, kind: EntryKind, amount: int, note: str | None) -> None:
    if amount:
        at = row.completed or row.created
        add_entry(connection, Entry(row.account, at, kind, amount, row.id, row.request_id, _model_of(row), row.key, note))
