"""Writes what the event loop hands over: one thread, which makes it durable in groups. (Contract §8.)

What could not be written stays in its place and is tried again in the same order, so nothing is lost or doubled while the disk
is full or locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from time import monotonic
from typing import Any, Final, NamedTuple

from kyma_proxy.store.contract import Charge, RowRefused, StoreStatistics, StoreUnavailable
from kyma_proxy.store.sqlite import charges, ledger
from kyma_proxy.store.sqlite.failures import ROW_ERRORS, is_disk_failure
from kyma_proxy.store.sqlite.inbox import Inbox
from kyma_proxy.store.sqlite.operation import Operation, OperationResult, Work, resolve_threadsafe, unavailable

_log: Final = logging.getLogger("kyma-proxy")
_MAX_GROUP: Final = 2_000


class Timing(NamedTuple):
    """Times in seconds."""

    gather: float = 0.05
    """From the first charge of a group, or from the beginning of the last commit, until it is written: more may come."""
    busy_timeout: float = 1.0
    """For another program's lock on the database; then the commit fails."""
    backoff: float = 0.25
    """After a commit that failed, before the next one."""
    timeout: float = 5.0
    """For the disk: then an operation fails, a commit that goes on counts as failing, and closing gives up."""


DEFAULT_TIMING: Final = Timing()
"""Within the 100 ms that a charge may take."""


class Writer:
    """The writing thread. Call the methods from the loop, except those that say otherwise.

    `timing` may be replaced at any time: each wait reads it anew.
    """

    def __init__(self, connection: sqlite3.Connection, inbox: Inbox, timing: Timing) -> None:
        """Begin to write; from here on the connection is the thread's, which closes it."""
        self.timing = timing
        self._connection = connection
        self._inbox = inbox
        # Set by the thread, read by the loop:
        self.last_error: str | None = None
        self._commits = self._charges = self._operations = self._refused = 0
        self._last_commit_s = 0.0
        self._has_failed = False
        self._began: float | None = None
        # Set by the loop, read by the thread:
        self._ends: float | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def is_failing(self) -> bool:
        """True if the last commit failed, if one takes too long, or if too much waits."""
        began = self._began
        return self._has_failed or self._inbox.is_full or (began is not None and monotonic() - began > self.timing.timeout)

    def statistics(self) -> StoreStatistics:
        """Counters and present state."""
        inbox = self._inbox
        return StoreStatistics(
            self._commits, self._charges, self._operations, inbox.lost + self._refused, self._last_commit_s,
            len(inbox.key_uses), inbox.is_idle, self._began is not None,
        )  # fmt: skip

    async def do(self, work: Work) -> Any:
        """Have work done in the next group; returns or raises what it does. Raises StoreUnavailable if it is not done."""
        if self._ends is not None:
            raise StoreUnavailable("the database is closed")
        if not self._inbox.takes_operations:
            raise unavailable(self.last_error)
        loop = asyncio.get_running_loop()
        timeout = self.timing.timeout
        operation = Operation(work, loop, monotonic() + timeout)
        timer = loop.call_later(timeout, lambda: operation.time_out(self.last_error))
        operation.future.add_done_callback(lambda _: timer.cancel())
        self._inbox.add_operation(operation)
        return await operation.future

    def close(self) -> bool:
        """Write what waits, within the timeout, and end the thread; returns False if it has not ended."""
        if self._ends is None:
            self._ends = monotonic() + self.timing.timeout
            self._inbox.wake()
        self._thread.join(self.timing.timeout + self.timing.busy_timeout + self.timing.backoff)
        return not self._thread.is_alive()

    # ---- the thread

    def _run(self) -> None:
        inbox = self._inbox
        while not self._is_over():
            self._wait()
            self._write()
        if inbox.charges:
            _log.error("database: closed with %d charges that could not be written: %s", len(inbox.charges), self.last_error)
        resolve_threadsafe((one, None, unavailable(self.last_error)) for one in inbox.operations if one.claim())
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _is_over(self) -> bool:
        if self._ends is None:
            return False
        self._inbox.wait(0.0)
        return monotonic() >= self._ends or self._inbox.is_empty

    def _wait(self) -> None:
        """Wait until there is something to write. Charges gather meanwhile; an operation ends the wait.

        The time that the last commit took is taken off: who waited for it already waits no longer for a slow disk.
        """
        inbox = self._inbox
        if self._has_failed:
            self._back_off(monotonic() + self.timing.backoff)
            return
        if inbox.is_empty:
            inbox.wait_idle()
        if not inbox.operations:
            inbox.wait(max(0.0, self.timing.gather - self._last_commit_s) if self._ends is None else 0.0)

    def _back_off(self, until: float) -> None:
        """Leave a disk that has just failed alone, whatever is handed over meanwhile."""
        while (remaining := until - monotonic()) > 0:
            self._inbox.wait(remaining)

    def _write(self) -> None:
        """Write all that waits: charges first, as they came first."""
        inbox = self._inbox
        if inbox.is_empty:
            return
        self._began = monotonic()
        try:
            self._roll_back()  # what the last try could not even roll back
            self._write_charges(len(inbox.charges))
            self._write_key_uses()
            self._write_operations()
        except Exception as error:
            self._failed(error)
        self._began = None

    def _write_charges(self, count: int) -> None:
        """Write the first `count` charges. A group that is refused is halved until the charge at fault stands alone."""
        waiting, size = self._inbox.charges, _MAX_GROUP
        while count > 0:
            size = min(size, count)
            group = waiting[:size]
            try:
                charges.write_charges(self._connection, group)
            except ROW_ERRORS as error:
                if size > 1:
                    size //= 2
                    continue
                self._refuse(group[0], error)
            else:
                self._committed()
                self._charges += size
            del waiting[:size]
            count -= size
            size = _MAX_GROUP

    def _refuse(self, charge: Charge, error: Exception) -> None:
        """Drop a charge that can't be written alone either: it is in the ledger already, or would be refused for ever."""
        with contextlib.suppress(UnicodeError):
            if ledger.is_charged(self._connection, charge.reference):
                return
        self._refused += 1
        _log.error("database: charge %r of account %r is refused: %s", charge.reference, charge.account, error)

    def _write_key_uses(self) -> None:
        key_uses = self._inbox.key_uses[:]
        if not key_uses:
            return
        try:
            ledger.write_key_uses(self._connection, key_uses)
        except ROW_ERRORS as error:
            _log.error("database: the last uses of %d keys are refused: %s", len(key_uses), error)
        else:
            self._committed()
        del self._inbox.key_uses[: len(key_uses)]

    def _write_operations(self) -> None:
        operations = [one for one in self._inbox.operations if one.claim()]
        self._inbox.operations = operations
        if not operations:
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [self._do(one) for one in operations]
            self._connection.execute("COMMIT")
        except BaseException:
            for one in operations:
                one.unclaim()
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            raise
        self._inbox.operations = []
        self._operations += len(operations)
        self._committed()
        resolve_threadsafe(results)

    def _do(self, operation: Operation) -> OperationResult:
        """Do one operation of a group; an error of its own does not touch the others."""
        execute = self._connection.execute
        execute("SAVEPOINT operation")
        try:
            value = operation.work(self._connection)
        except Exception as error:
            if is_disk_failure(error):
                raise
            execute("ROLLBACK TO operation")
            execute("RELEASE operation")
            refused = RowRefused(str(error)) if isinstance(error, sqlite3.Error | OverflowError | UnicodeError) else error
            return operation, None, refused
        execute("RELEASE operation")
        return operation, value, None

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()

    def _committed(self) -> None:
        now = monotonic()
        self._commits += 1
        self._last_commit_s = now - (self._began or now)
        self._began = now
        if self._has_failed:
            self._has_failed = False
            _log.warning("database: can be written again; %d charges wait", len(self._inbox.charges))

    def _failed(self, error: Exception) -> None:
        self.last_error = str(error)
        if not self._has_failed:
            trace = None if is_disk_failure(error) else error
            _log.error("database: %s; what waits is kept and tried again", error, exc_info=trace)
        self._has_failed = True
        now = monotonic()
        operations = self._inbox.operations
        overdue = [one for one in operations if now >= one.deadline]
        self._inbox.operations = [one for one in operations if now < one.deadline]
        resolve_threadsafe((one, None, unavailable(self.last_error)) for one in overdue if one.claim())
