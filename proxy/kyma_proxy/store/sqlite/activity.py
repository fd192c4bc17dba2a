"""Keeps the requests that accounts have made in a table that is bounded by age and by number. (Contract §11.)

The rows are made of lines of the access log by SQLite itself, in the writing thread and without the interpreter's lock, so that
they cost the event loop nothing beyond the handing over. To write and to delete runs within a transaction of the caller.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from kyma_proxy.store.activity import ActivityFilter, ActivityRow

MAX_SCANNED: Final = 10_000
"""The most rows that are looked at for one page, so that no filter makes it read the whole table."""
_MAX_FORGOTTEN: Final = 1_000

_COLUMNS: Final = ActivityRow._fields
_OF_A_LINE: Final = {
    "at": "CAST(value ->> 'ts' AS INTEGER)",
    "cost": "CAST(round((value ->> 'cost_usd') * 1e9) AS INTEGER)",
}
"""The columns that are not a line's members of the same name."""
_WRITTEN: Final = tuple(name for name in _COLUMNS if name != "id")
_WRITE: Final = f"""
INSERT INTO activity ({", ".join(_WRITTEN)})
SELECT {", ".join(_OF_A_LINE.get(name, f"value ->> '{name}'") for name in _WRITTEN)} FROM json_each(?)
WHERE value ->> 'account' IS NOT NULL AND value ->> 'dialect' <> '-'
"""  # noqa: S608  (constants)
# The oldest rows are looked at and no others: a row that is older than those before it only stays a little longer.
_FORGET: Final = """
DELETE FROM activity WHERE id IN (
    SELECT id FROM (SELECT id, at FROM activity ORDER BY id LIMIT :count)
    WHERE at < :before OR id <= (SELECT max(id) FROM activity) - :rows
)
"""
_OF_ACCOUNT: Final = "account = :account AND"
_LAST_SCANNED: Final = "SELECT id FROM activity WHERE {account} id < :before ORDER BY id DESC LIMIT 1 OFFSET :scanned - 1"
_PAGE: Final = f"""
SELECT {", ".join(_COLUMNS)} FROM activity
WHERE {{account}} id < :before AND id >= coalesce(({_LAST_SCANNED}), 0)
    AND (:key IS NULL OR key = :key) AND (:model IS NULL OR :model IN (model, model_requested))
    AND (:ending IS NULL OR ending = :ending)
ORDER BY id DESC LIMIT :limit
"""  # noqa: S608  (constants)


def page_sql(wanted: ActivityFilter) -> str:
    """The query of a page."""
    return _PAGE.format(account="" if wanted.account is None else _OF_ACCOUNT)


def last_scanned_sql(wanted: ActivityFilter) -> str:
    """The query of the last row that a page looks at; it has none if there are fewer."""
    return _LAST_SCANNED.format(account="" if wanted.account is None else _OF_ACCOUNT)


def values_of(wanted: ActivityFilter, before: int | None, limit: int) -> dict[str, Any]:
    """The values of both queries."""
    return {
        **wanted._asdict(), "before": 2**62 if before is None else before, "limit": limit, "scanned": MAX_SCANNED,
    }  # fmt: skip


def row_of(values: tuple[Any, ...]) -> ActivityRow:
    """The request with these columns."""
    row = ActivityRow(*values)
    return row._replace(stream=bool(row.stream))


def write_lines(connection: sqlite3.Connection, lines: str) -> int:
    """Add the requests of accounts among these lines, a JSON array; returns their number."""
    return connection.execute(_WRITE, (lines,)).rowcount


def forget(connection: sqlite3.Connection, before: int, rows: int) -> bool:
    """As `Store.forget_activity`."""
    values = {"before": before, "rows": rows, "count": _MAX_FORGOTTEN}
    return connection.execute(_FORGET, values).rowcount == _MAX_FORGOTTEN
