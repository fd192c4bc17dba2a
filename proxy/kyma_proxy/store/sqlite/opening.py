"""Opens a database for one process alone; if that fails, the error says in one line why, and what to do. (Contract §12.)

The lock is a file beside the database, not a lock on the database: others may read it and back it up while the gateway runs.
The system releases the lock however the process ends. The file stays, as to remove it would be a race.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from kyma_proxy.errors import InUseError, StartError
from kyma_proxy.store.sqlite.failures import start_error
from kyma_proxy.store.sqlite.migrations import migrate, shipped, version

_MIN_SQLITE: Final = (3, 38, 0)
_MAGIC: Final = b"SQLite format 3\0"
_MODE: Final = 0o600
_SETTINGS: Final = """
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -32000;          -- KiB
PRAGMA wal_autocheckpoint = 1000;    -- pages: finding a place in the WAL's index takes longer for each version of a page there
PRAGMA journal_size_limit = 67108864;
BEGIN IMMEDIATE; ROLLBACK;           -- fails if nothing can be written
"""


class Lock:
    """The right to write a database, held until `release` or until the process ends."""

    def __init__(self, path: Path, shared: int | None = None) -> None:
        """Acquire it. Raises InUseError if another process has it, StartError if the directory can't be written.

        `shared` is a descriptor of that other process, which shares the lock by it until it lets go of its own. It is closed
        if it is one of another database's lock.
        """
        descriptor = _open_file(path, Path(f"{path}.lock"))
        self.is_shared = False
        if shared is not None:
            self.is_shared = os.path.sameopenfile(shared, descriptor)
            if self.is_shared:
                descriptor, shared = shared, descriptor
            os.close(shared)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise InUseError(
                    f"{path}: is in use by process {owner or '(unknown)'}; stop that process, or name another file under "
                    "accounts.database"
                ) from None
            raise StartError(f"{path}.lock: {_reason(error)}; without this lock the database is not safe") from None
        self._descriptor: int | None = descriptor

    @property
    def descriptor(self) -> int | None:
        """The descriptor by which another process can share it; None after `release`."""
        return self._descriptor

    def release(self) -> None:
        """Release it; a second call does nothing. If another process shares it, that one has it alone from now on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def create_file(path: Path) -> None:
    """Create the file if there is none, readable by its owner only. Raises StartError if it is no database."""
    descriptor = _open_file(path, path)
    try:
        magic = os.pread(descriptor, len(_MAGIC), 0)
    finally:
        # Before SQLite opens the file: to close any descriptor of a file releases all of the process's locks on it.
        os.close(descriptor)
    if magic not in (b"", _MAGIC):
        raise StartError(f"{path}: is not a database; move it away, or name another file under accounts.database")


def connect(path: Path, busy_timeout_s: float, migrations: Sequence[str] | None = None) -> sqlite3.Connection:
    """A connection that writes, for one thread at a time, to a database of the newest version: that of the last migration.

    `migrations`: None for those of this program. Raises StartError.
    """
    if sqlite3.sqlite_version_info < _MIN_SQLITE:
        raise StartError(f"{path}: this Python has SQLite {sqlite3.sqlite_version}; 3.38 or newer is needed")
    connection = _connect(path, busy_timeout_s)
    try:
        migrate(connection, path, shipped() if migrations is None else migrations)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StartError(f"{path}: its file system can't share memory, which SQLite needs; use a local disk")
        connection.executescript(_SETTINGS)
    except sqlite3.Error as error:
        connection.close()
        raise start_error(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def needs_upgrade(path: Path, busy_timeout_s: float) -> bool:
    """True if this program has to upgrade the database before it uses it. Raises StartError."""
    return 0 < version_of(path, busy_timeout_s) < len(shipped())


def version_of(path: Path, busy_timeout_s: float) -> int:
    """The version of the database; 0 if there is none yet. Raises StartError."""
    if not path.exists():
        return 0
    try:
        with closing(connect_reader(path, busy_timeout_s)) as connection:
            return version(connection, path)
    except sqlite3.Error as error:
        raise start_error(path, error) from error


def connect_reader(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection that only reads, for one thread at a time. Raises sqlite3.Error."""
    connection = _connect(path, busy_timeout_s)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _open_file(database: Path, path: Path) -> int:
    """A descriptor of `path`, which is the database or a file beside it. Raises StartError, which names the database."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    except (FileNotFoundError, NotADirectoryError):
        what = f"there is no directory {database.parent}; make it, or name another under accounts.database"
    except IsADirectoryError:
        what = "is a directory; name a file under accounts.database"
    except OSError as error:
        what = (
            f"can't be written ({path.name}: {_reason(error)}); give the user that runs kyma-proxy the right to write it and "
            "its directory"
        )
    raise StartError(f"{database}: {what}")


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
