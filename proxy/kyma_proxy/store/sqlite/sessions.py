"""Keeps the sessions of the dashboard. All that writes runs within a transaction of its caller."""

from __future__ import annotations

import sqlite3
from typing import Final

from kyma_proxy.store.contract import SessionRow, UnknownAccount

_COLUMNS: Final = "digest, id, account, key, created, expires"
ONE: Final = f"SELECT {_COLUMNS} FROM sessions WHERE digest = :digest"  # noqa: S608  (a constant)
ALL: Final = f"SELECT {_COLUMNS} FROM sessions WHERE account = :account ORDER BY created DESC, id"  # noqa: S608
_ADD: Final = f"INSERT INTO sessions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
_MAX_FORGOTTEN: Final = 500
_FORGET: Final = "DELETE FROM sessions WHERE digest IN (SELECT digest FROM sessions WHERE expires <= ? LIMIT ?)"
_END_OLDEST: Final = """
DELETE FROM sessions WHERE digest IN (
    SELECT digest FROM sessions WHERE account = ? ORDER BY created DESC, id LIMIT -1 OFFSET ?
)
"""
_END: Final = "DELETE FROM sessions WHERE account = ? AND id = ?"


def add_session(connection: sqlite3.Connection, row: SessionRow, most: int) -> None:
    """As `Store.add_session`. Raises UnknownAccount."""
    if not connection.execute("SELECT 1 FROM accounts WHERE id = ?", (row.account,)).fetchone():
        raise UnknownAccount(f"there is no account {row.account}")
    connection.execute(_FORGET, (row.created, _MAX_FORGOTTEN))
    connection.execute(_END_OLDEST, (row.account, most - 1))
    connection.execute(_ADD, row)


def end_session(connection: sqlite3.Connection, account: str, ident: str) -> bool:
    """As `Store.end_session`."""
    return connection.execute(_END, (account, ident)).rowcount > 0
