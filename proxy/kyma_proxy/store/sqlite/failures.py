"""Tells failures of the disk, which pass or can be repaired, from errors of a row, which would be raised for ever."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from kyma_proxy.errors import StartError

ROW_ERRORS: Final = (sqlite3.IntegrityError, sqlite3.DataError, TypeError, ValueError, OverflowError)
"""Raised if a row is at fault. Any other error may be the disk's or the gateway's own, so no charge is dropped for it."""

_PRIMARY: Final = 0xFF
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NO_ACCESS: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK_CODES: Final = (
    _BUSY
    | _NO_ACCESS
    | _DAMAGED
    | {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT}
)


def is_disk_failure(error: Exception) -> bool:
    """True if the same may succeed at another time: no room, no permission, another program's lock, a broken disk."""
    return isinstance(error, sqlite3.Error) and _code(error) in _DISK_CODES


def start_error(path: Path, error: sqlite3.Error) -> StartError:
    """The error for a database that can't be opened or read: one line that says what to do."""
    code = _code(error)
    if code in _BUSY:
        what = "is locked by another program; end that program (sqlite3, a backup) and start again"
    elif code in _NO_ACCESS:
        what = f"can't be written ({error}); give the user that runs kyma-proxy the right to write it and its directory"
    elif code == sqlite3.SQLITE_NOTADB:
        what = "is not a database; move it away, or name another file under accounts.database"
    elif code in _DAMAGED:
        what = f"is damaged ({error}); restore a backup, or recover what is readable with: sqlite3 {path} .recover"
    elif code == sqlite3.SQLITE_FULL:
        what = "can't be written: the disk is full; make room and start again"
    else:
        what = f"can't be used: {error}"
    return StartError(f"{path}: {what}")


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error of the Python module's own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY
