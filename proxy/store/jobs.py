"""This file keeps image jobs: each change of one, and what it does to the ledger, in the transaction of its caller. (§8, §10.)

What a job holds is an `adjustment` of the ledger from its submission on, and a `refund` of the same amount with its ending;
what it came to is a `usage`. All three bear the job's id, so none of them can be there twice.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from proxy.store.contract import Entry, EntryKind, JobRow, day_of
from proxy.store.ledger import add_entry

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
WHERE status IN ('pending', 'processing') OR (status = 'succeeded' AND delivered = 0) ORDER BY number
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
WHERE id = ? AND status IN ('pending', 'processing')
"""
_LOSE: Final = """
UPDATE jobs SET status = 'refunded', completed = ?, charged = 0, error = ?
WHERE id = ? AND status = 'succeeded' AND delivered = 0
"""
_USE: Final = """
INSERT INTO usage VALUES (?, ?, ?, ?, 1, 0, 0, 0, ?)
ON CONFLICT DO UPDATE SET requests = requests + 1, cost = cost + excluded.cost
"""


def row_of(values: tuple[object, ...]) -> JobRow:
    """A job, from its columns."""
    row = JobRow(*values)  # type: ignore[arg-type]
    return row._replace(is_delivered=bool(row.is_delivered))


def add_job(connection: sqlite3.Connection, row: JobRow) -> tuple[JobRow, bool]:
    """As `Store.add_job`. Raises UnknownAccount."""
    if row.idempotency_key is not None:
        known = connection.execute(BY_KEY, {"account": row.account, "key": row.idempotency_key}).fetchone()
        if known is not None:
            return row_of(known), False
    _post(connection, row, "adjustment", -row.price * row.n, "held for an image job")
    number = connection.execute(_ADD, row[:10]).lastrowid
    assert number is not None  # noqa: S101  (an insert has one)
    return row._replace(number=number), True


def accept_job(connection: sqlite3.Connection, row: JobRow) -> None:
    """As `Store.job_accepted`."""
    connection.execute(_ACCEPT, (*_taken(row), row.id))


def end_job(connection: sqlite3.Connection, row: JobRow) -> None:
    """As `Store.end_job`."""
    at = row.completed or row.created
    ending = (row.status, at, row.charged, row.error)
    if not connection.execute(_END, (*ending, *_taken(row), row.id)).rowcount:
        return
    _post(connection, row, "refund", row.price * row.n, "what was held for an image job")
    if row.status == "succeeded":
        _post(connection, row, "usage", -row.charged, None)
        connection.execute(_USE, (day_of(at), row.account, row.answer_model or row.model, row.key, row.charged))


def lose_job(connection: sqlite3.Connection, row: JobRow) -> bool:
    """As `Store.lose_job`."""
    at = row.completed or row.created
    known = connection.execute("SELECT charged FROM jobs WHERE id = ?", (row.id,)).fetchone()
    if known is None or not connection.execute(_LOSE, (at, row.error, row.id)).rowcount:
        return False
    model = row.answer_model or row.model
    lost = Entry(row.account, at, "refund", known[0], f"{row.id} lost", row.request_id, model, row.key, "a lost picture")
    if lost.amount:
        add_entry(connection, lost)
    return True


def deliver_job(connection: sqlite3.Connection, ident: str) -> None:
    """As `Store.job_delivered`."""
    connection.execute("UPDATE jobs SET delivered = 1 WHERE id = ?", (ident,))


def forget_jobs(connection: sqlite3.Connection, before: int) -> None:
    """As `Store.forget_jobs`."""
    connection.execute("DELETE FROM jobs WHERE created < ? AND completed IS NOT NULL", (before,))


def _taken(row: JobRow) -> tuple[object, ...]:
    return row.provider, row.provider_model, row.provider_job, row.answer_model, row.layer


def _post(connection: sqlite3.Connection, row: JobRow, kind: EntryKind, amount: int, note: str | None) -> None:
    if amount:
        at, model = row.completed or row.created, row.answer_model or row.model
        add_entry(connection, Entry(row.account, at, kind, amount, row.id, row.request_id, model, row.key, note))
