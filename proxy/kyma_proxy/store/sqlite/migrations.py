"""This file brings a database to the form that this program knows, one numbered SQL file after the other.

The version of a database is the number of the last file that it has been through. A file and its number are one transaction:
whatever happens on the way, the database is of the old version or of the new one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kyma_proxy.errors import StartError
from kyma_proxy.store.sqlite.failures import is_the_disks

APPLICATION_ID: Final = 0x4B594D41
"""What marks a database as one of ours."""


def shipped() -> list[str]:
    """The migrations of this program; the first leads to version 1."""
    return [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))]


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Bring the database at `path` to the version of the last migration.

    Raises StartError where it is newer, another program's, or unfit to be migrated, and sqlite3.Error for the disk's sake.
    """
    version, known = _version(connection, path), len(migrations)
    if version > known:
        raise StartError(
            f"{path}: is of version {version}, and this kyma-proxy knows versions up to {known}; "
            "run the newer kyma-proxy that wrote it, or restore a backup from before"
        )
    for number, sql in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\n;PRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.rollback()
            if is_the_disks(error):
                raise
            raise StartError(
                f"{path}: can't be brought from version {number - 1} to {number}: {error}; it is as it was, "
                "so run the kyma-proxy that wrote it, and report this"
            ) from error


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (version or application or tables):
        raise StartError(f"{path}: is the database of another program; name another file under accounts.database")
    return int(version)
