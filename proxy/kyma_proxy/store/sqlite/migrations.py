"""Upgrades a database to the newest version: runs the numbered SQL files that it has not seen, one after the other.

The version of a database is the number of the last file that was run. A file and its number are one transaction: if it fails or
the process dies, the database has the version from before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kyma_proxy.errors import StartError
from kyma_proxy.store.sqlite.failures import is_disk_failure

APPLICATION_ID: Final = 0x4B594D41
"""Marks a database as one of ours."""


def shipped() -> list[str]:
    """The migrations of this program; the first leads to version 1."""
    return [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))]


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Bring the database at `path` to the version of the last migration.

    Raises StartError if it is newer, belongs to another program, or can't be upgraded; sqlite3.Error if the disk fails.
    """
    present, newest = version(connection, path), len(migrations)
    if present > newest:
        raise StartError(
            f"{path}: has version {present}, and this kyma-proxy knows versions up to {newest}; "
            "run the newer kyma-proxy that wrote it, or restore an older backup"
        )
    for number, sql in enumerate(migrations[present:], present + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\n;PRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.rollback()
            if is_disk_failure(error):
                raise
            raise StartError(
                f"{path}: can't be upgraded from version {number - 1} to {number}: {error}; nothing was changed, "
                "so run the kyma-proxy that wrote it, and report this"
            ) from error


def version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a database. Raises StartError if it belongs to another program."""
    (present,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (present or application or tables):
        raise StartError(f"{path}: belongs to another program; name another file under accounts.database")
    return int(present)
