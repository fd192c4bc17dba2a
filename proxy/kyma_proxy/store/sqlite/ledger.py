"""Writes accounts, keys and what is not charged for a request to the ledger, one by one. (Contract §8.)

All of it runs in the writing thread, within a transaction of its caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from kyma_proxy.store.contract import (
    AccountRow,
    Added,
    EmailTaken,
    Entry,
    KeyRow,
    PaymentConflict,
    UnknownAccount,
)

ENTRY_COLUMNS: Final = "account, at, kind, amount, reference, request_id, model, key, note, id"
"""The columns of an entry, in the order of `Entry`."""

_KEY_USES: Final = """
UPDATE keys SET last_used_day = day
FROM (SELECT value ->> 0 AS used_key, max(value ->> 1) AS day FROM json_each(?) GROUP BY 1)
WHERE id = used_key AND day > coalesce(last_used_day, -1)
"""
_encode: Final = msgspec.json.Encoder().encode


def write_key_uses(connection: sqlite3.Connection, key_uses: Sequence[tuple[str, int]]) -> None:
    """Write the last day on which each key was used. Raises one of `ROW_ERRORS` if that can't be written."""
    connection.execute(_KEY_USES, (_encode(key_uses).decode(),))


def is_charged(connection: sqlite3.Connection, reference: str) -> bool:
    """True if the ledger has a charge with this reference."""
    return _entry(connection, "usage", reference) is not None


def create_account(connection: sqlite3.Connection, row: AccountRow, key: KeyRow | None, entries: Sequence[Entry]) -> None:
    """Add an account with its first key and entries. Raises EmailTaken, PaymentConflict."""
    folded = row.email.lower()
    if connection.execute("SELECT 1 FROM accounts WHERE folded_email = ?", (folded,)).fetchone():
        raise EmailTaken(f"the e-mail {row.email} is taken")
    connection.execute(
        "INSERT INTO accounts (id, email, folded_email, created, is_blocked) VALUES (?, ?, ?, ?, ?)",
        (row.id, row.email, folded, row.created, row.is_blocked),
    )
    if key is not None:
        create_key(connection, key)
    for entry in entries:
        if not add_entry(connection, entry).is_new:
            raise PaymentConflict(f"{entry.kind} {entry.reference} is in the ledger already")


def add_entry(connection: sqlite3.Connection, entry: Entry) -> Added:
    """Add to the ledger and to the account's sums, once. Raises PaymentConflict, UnknownAccount."""
    old = _entry(connection, entry.kind, entry.reference)
    if old is not None:
        if (old.account, old.amount) != (entry.account, entry.amount):
            raise PaymentConflict(
                f"{entry.kind} {entry.reference} is in the ledger already: {old.amount} nano-dollars for {old.account}"
            )
        return Added(old, is_new=False)
    found = connection.execute("SELECT last_entry FROM accounts WHERE id = ?", (entry.account,)).fetchone()
    if found is None:
        raise UnknownAccount(f"there is no account {entry.account}")
    number = connection.execute(
        "INSERT INTO entries (account, at, kind, amount, reference, request_id, model, key, note, previous) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*entry[:-1], *found),
    ).lastrowid
    assert number is not None  # noqa: S101  (an insert has one)
    connection.execute(
        "UPDATE accounts SET balance = balance + ?, purchased = purchased + ?, last_entry = ? WHERE id = ?",
        (entry.amount, entry.amount if entry.kind == "purchase" else 0, number, entry.account),
    )
    return Added(entry._replace(id=number), is_new=True)


def create_key(connection: sqlite3.Connection, row: KeyRow) -> None:
    """Add a key. Raises UnknownAccount."""
    if not connection.execute("SELECT 1 FROM accounts WHERE id = ?", (row.account,)).fetchone():
        raise UnknownAccount(f"there is no account {row.account}")
    connection.execute(
        "INSERT INTO keys (id, account, digest, prefix, name, created, last_used_day, is_revoked) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )


def revoke_key(connection: sqlite3.Connection, account: str, key: str) -> bool:
    """Revoke a key. Returns False if the account has no such key."""
    return connection.execute("UPDATE keys SET is_revoked = 1 WHERE id = ? AND account = ?", (key, account)).rowcount == 1


def set_blocked(connection: sqlite3.Connection, account: str, is_blocked: bool) -> bool:
    """Block or unblock an account. Returns False if there is no such account."""
    return connection.execute("UPDATE accounts SET is_blocked = ? WHERE id = ?", (is_blocked, account)).rowcount == 1


def _entry(connection: sqlite3.Connection, kind: str, reference: str) -> Entry | None:
    sql = f"SELECT {ENTRY_COLUMNS} FROM entries WHERE kind = ? AND reference = ?"  # noqa: S608  (a constant)
    row = connection.execute(sql, (kind, reference)).fetchone()
    return None if row is None else Entry(*row)
