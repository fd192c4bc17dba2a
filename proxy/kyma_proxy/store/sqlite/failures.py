"""This file tells failures of the disk, which pass or are mended, from failures of a row, which would fail for ever."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from kyma_proxy.errors import StartError

UNFIT: Final = (sqlite3.IntegrityError, sqlite3.DataError, TypeError, ValueError, OverflowError)
"""What is raised where a row is at fault. All else may be the disk's or the gateway's fault, and costs no charge."""

_PRIMARY: Final = 0xFF
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_CLOSED_TO_US: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_OF_THE_DISK: Final = (
    _BUSY
    | _CLOSED_TO_US
    | _DAMAGED
    | {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT}
)


def is_the_disks(error: Exception) -> bool:
    """Whether the same may succeed at another time: no room, no right, another program's lock, a broken disk."""
    return isinstance(error, sqlite3.Error) and _code(error) in _OF_THE_DISK


def why_it_can_not_start(path: Path, error: sqlite3.Error) -> StartError:
    """One line about a database that can't be opened or read, and what to do about it."""
    code = _code(error)
    if code in _BUSY:
        what = "is locked by another program; end that (sqlite3, a backup) and start again"
    elif code in _CLOSED_TO_US:
        what = f"can't be written ({error}); give the user that runs kyma-proxy the right to write it and its directory"
    elif code == sqlite3.SQLITE_NOTADB:
        what = "is not a database; move it away, or name another file under accounts.database"
    elif code in _DAMAGED:
        what = f"is damaged ({error}); restore a backup, or save what can be saved with: sqlite3 {path} .recover"
    elif code == sqlite3.SQLITE_FULL:
        what = "can't be written: the disk is full; make room and start again"
    else:
        what = f"can't be used: {error}"
    return StartError(f"{path}: {what}")


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary code; 0 for an error that is the module's own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY
