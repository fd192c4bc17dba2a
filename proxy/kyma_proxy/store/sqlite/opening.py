"""This file opens a database for one process alone, and says in one line what keeps it from that. (Contract §12.)

The lock is a file beside the database, not a lock on the database: others may read it and back it up while the gateway runs.
The system gives the lock back however the process ends; the file stays, as removing it would be a race.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kyma_proxy.errors import InUseError, StartError
from kyma_proxy.store.sqlite.failures import why_it_can_not_start
from kyma_proxy.store.sqlite.migrations import migrate

_OLDEST_SQLITE: Final = (3, 38, 0)
_BEGINS_WITH: Final = b"SQLite format 3\0"
_MODE: Final = 0o600
_SETTINGS: Final = """
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -32000;          -- KiB
PRAGMA wal_autocheckpoint = 4000;    -- pages: seldom enough to be cheap, often enough to be over within the 100 ms of a charge
PRAGMA journal_size_limit = 67108864;
BEGIN IMMEDIATE; ROLLBACK;           -- fails where nothing can be written
"""


class Lock:
    """The right to write a database. `release` gives it back; so does the process's end."""

    def __init__(self, path: Path) -> None:
        """Take it. Raises StartError where another process has it, or the directory can't be written."""
        descriptor = _reach(path, Path(f"{path}.lock"))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise InUseError(
                    f"{path}: is in use by process {owner or '(unknown)'}; stop that one, or name another file under "
                    "accounts.database"
                ) from None
            raise StartError(f"{path}.lock: {_words(error)}; without this lock the database is not safe") from None
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give it back; twice is as good as once."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def prepare(path: Path) -> None:
    """See to it that there is a file, of ours if it is new, that looks like a database. Raises StartError."""
    descriptor = _reach(path, path)
    try:
        begins = os.pread(descriptor, len(_BEGINS_WITH), 0)
    finally:
        os.close(descriptor)  # before SQLite opens it: closing any descriptor of a file gives back all of its locks
    if begins not in (b"", _BEGINS_WITH):
        raise StartError(f"{path}: is not a database; move it away, or name another file under accounts.database")


def connect(path: Path, busy_s: float, migrations: Sequence[str]) -> sqlite3.Connection:
    """A connection that writes, for one thread at a time, to a database of the newest version. Raises StartError."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StartError(f"{path}: this Python has SQLite {sqlite3.sqlite_version}; 3.38 or newer is needed")
    connection = _connect(path, busy_s)
    try:
        migrate(connection, path, migrations)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StartError(f"{path}: its file system can't share memory, which SQLite needs; use a local disk")
        connection.executescript(_SETTINGS)
    except sqlite3.Error as error:
        connection.close()
        raise why_it_can_not_start(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection that only reads, for one thread at a time. Raises sqlite3.Error."""
    connection = _connect(path, busy_s)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _reach(path: Path, wanted: Path) -> int:
    """A descriptor of the database at `path`, or of the file beside it that is wanted."""
    try:
        return os.open(wanted, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    except (FileNotFoundError, NotADirectoryError):
        what = f"there is no directory {path.parent}; make it, or name another under accounts.database"
    except IsADirectoryError:
        what = "is a directory; name a file under accounts.database"
    except OSError as error:
        what = (
            f"can't be written ({wanted.name}: {_words(error)}); give the user that runs kyma-proxy the right to write it and "
            "its directory"
        )
    raise StartError(f"{path}: {what}")


def _connect(path: Path, busy_s: float) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
