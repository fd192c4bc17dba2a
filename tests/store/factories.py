"""Rows and stores for tests, another program that locks the database, and queries of what is on disk."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyma_proxy.store.contract import AccountRow, Charge, Entry, EntryKind, JobRow, KeyRow
from kyma_proxy.store.sqlite.inbox import DEFAULT_CAPACITY, Capacity
from kyma_proxy.store.sqlite.opening import connect
from kyma_proxy.store.sqlite.store import Connect, SqliteStore
from kyma_proxy.store.sqlite.writer import Timing
from tests.processes import environment
from tests.waiting import PATIENCE_S

AT = 1_750_000_000
TODAY = AT // 86_400
FAST = Timing(gather=0.005, busy_timeout=0.02, backoff=0.02, timeout=PATIENCE_S)
"""Short waits, and no operation times out."""

_HOLDS_A_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def account(name: str, *, created: int = AT) -> AccountRow:
    return AccountRow(name, f"{name}@example.com", created)


def key(name: str, holder: str, *, created: int = AT) -> KeyRow:
    return KeyRow(name, holder, hashlib.sha256(name.encode()).digest(), name[:8], "default", created)


def purchase(holder: str, payment: str, amount: int = 10_000, kind: EntryKind = "purchase") -> Entry:
    return Entry(holder, AT, kind, amount, payment)


def charge(holder: str, reference: str, amount: int = 7, *, at: int = AT, model: str = "m", key: str | None = "k") -> Charge:
    return Charge(holder, key, reference, f"request-{reference}", at, model, 100, 10, 1, False, amount)


def job(
    holder: str, name: str, *, n: int = 1, price: int = 54, created: int = AT, idempotency_key: str | None = None
) -> JobRow:
    """A job as it is submitted."""
    digest = None if idempotency_key is None else hashlib.sha256(name.encode()).digest()
    return JobRow(name, holder, f"key-{holder}", f"request-{name}", idempotency_key, digest, "m", n, price, created)


def opened(
    path: Path,
    timing: Timing = FAST,
    *,
    check_integrity: bool = False,
    capacity: Capacity = DEFAULT_CAPACITY,
    connect: Connect = connect,
) -> contextlib.closing[SqliteStore]:
    """A store that is closed at the end of the block."""
    store = SqliteStore.open(path, check_integrity=check_integrity, timing=timing, capacity=capacity, connect=connect)
    return contextlib.closing(store)


@contextlib.contextmanager
def opened_with_connection(path: Path, timing: Timing = FAST) -> Iterator[tuple[SqliteStore, sqlite3.Connection]]:
    """A store that is closed at the end of the block, and the connection with which it writes."""
    connections: list[sqlite3.Connection] = []

    def connect_and_keep(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
        connections.append(connect(path, busy_timeout_s))
        return connections[-1]

    with opened(path, timing, connect=connect_and_keep) as store:
        yield store, connections[-1]


@contextlib.contextmanager
def impatient(store: SqliteStore, timeout: float = 0.15) -> Iterator[None]:
    """What is begun in the block times out soon."""
    timing = store.timing
    store.timing = timing._replace(timeout=timeout)
    yield
    store.timing = timing


def balances(store: SqliteStore) -> dict[str, int]:
    """The balances on disk."""
    return {row.id: row.balance for row in store.load()[0]}


def on_disk(path: Path, sql: str) -> list[Any]:
    """The rows that another program reads from the database."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@contextlib.contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    """Until the end of the block, another program has begun a transaction and does not end it."""
    line = [sys.executable, "-c", _HOLDS_A_LOCK, str(path)]
    with subprocess.Popen(line, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            process.communicate(timeout=PATIENCE_S)
