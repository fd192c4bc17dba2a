"""Opens the accounts that a configuration names. (Contract §8, §12.)"""

from __future__ import annotations

import os
import time
from pathlib import Path

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.ops.memory import collector_paused
from kyma_proxy.store.sqlite import opening
from kyma_proxy.store.sqlite.store import SqliteStore
from kyma_proxy.store.sqlite.writer import DEFAULT_TIMING


def open_accounts(
    snapshot: Snapshot, *, check_integrity: bool = False, shared_lock: int | None = None
) -> AccountService | None:
    """The accounts, or None if none are required. Raises StartError. `shared_lock` is as for `SqliteStore.open`."""
    if not snapshot.accounts.required:
        return None
    return open_database(snapshot, check_integrity=check_integrity, shared_lock=shared_lock)


def open_database(snapshot: Snapshot, *, check_integrity: bool = False, shared_lock: int | None = None) -> AccountService:
    """The accounts in the configured database, required or not; it is created if there is none. Raises StartError."""
    store = SqliteStore.open(Path(snapshot.accounts.database), check_integrity=check_integrity, shared_lock=shared_lock)
    try:
        with collector_paused():
            return AccountService(store, wall=time.time, random_bytes=os.urandom)
    except BaseException:
        store.close()
        raise


def needs_upgrade(snapshot: Snapshot) -> bool:
    """True if this program has to upgrade the configured database before it uses it. Raises StartError."""
    path = Path(os.path.realpath(snapshot.accounts.database))
    return opening.needs_upgrade(path, DEFAULT_TIMING.busy_timeout)
