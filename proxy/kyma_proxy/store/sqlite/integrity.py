"""Reads a whole database and reports what is wrong with it, for an operator who doubts a disk or a backup. (Contract §8.)"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from kyma_proxy.errors import StartError

_SUMS: Final = """
SELECT accounts.id, balance, coalesce(total, 0), purchased, coalesce(paid, 0), last_entry IS NOT last
FROM accounts LEFT JOIN (
    SELECT account, sum(amount) AS total, sum(amount) FILTER (WHERE kind = 'purchase') AS paid, max(id) AS last
    FROM entries GROUP BY account
) AS sums ON sums.account = accounts.id
WHERE balance <> coalesce(total, 0) OR purchased <> coalesce(paid, 0) OR last_entry IS NOT last
ORDER BY accounts.id LIMIT 1
"""
_LINKS: Final = """
SELECT account, id FROM (
    SELECT account, id, previous, lag(id) OVER (PARTITION BY account ORDER BY id) AS before FROM entries
) WHERE previous IS NOT before LIMIT 1
"""
_REMEDY: Final = "restore a backup"


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Check the file's structure, and that every account's sums are those of its ledger. This takes time.

    Raises StartError, which names the account, or sqlite3.Error.
    """
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise StartError(f"{path}: is damaged ({' '.join(str(found).split())}); {_REMEDY}")
    orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    if orphan is not None:
        raise StartError(f"{path}: a row of {orphan[0]} belongs to an account that does not exist; {_REMEDY}")
    wrong = connection.execute(_SUMS).fetchone()
    if wrong is not None:
        raise StartError(f"{path}: account {wrong[0]}: {_mismatch(*wrong[1:])}; {_REMEDY}")
    broken = connection.execute(_LINKS).fetchone()
    if broken is not None:
        raise StartError(f"{path}: account {broken[0]}: entry {broken[1]} does not follow the one before it; {_REMEDY}")


def _mismatch(balance: int, total: int, purchased: int, paid: int, _: object) -> str:
    if balance != total:
        return f"the balance is {balance} nano-dollars, but the sum of its ledger is {total}"
    if purchased != paid:
        return f"the purchases are said to be {purchased} nano-dollars, but are {paid}"
    return "the last entry is not the last one of its ledger"
