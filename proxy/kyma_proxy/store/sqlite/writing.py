"""This file writes: one thread, which gathers what the loop hands over and makes it durable in groups. (Contract §8.)

Charges gather for a moment in a list; the thread looks by itself, so that handing one over wakes nobody. An operation wakes it
at once. What is not on disk stays where it is and is tried again in the same order, so nothing is lost or doubled while the
disk is full or locked. The thread takes from the list's front and the loop adds to its end; both are single steps in C.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from time import monotonic
from typing import Any, Final, NamedTuple

from kyma_proxy.store.contract import MAX_WAITING, Charge, Figures, RowRefused, StoreUnavailable
from kyma_proxy.store.sqlite import ledger
from kyma_proxy.store.sqlite.failures import UNFIT, is_the_disks
from kyma_proxy.store.sqlite.operation import Operation, OperationResult, Work, tell, unavailable

_log: Final = logging.getLogger("kyma-proxy")
_MAX_HELD: Final = 2 * MAX_WAITING
"""More charges are not held: requests that were let in before the store failed can't become that many."""
_MAX_OPERATIONS: Final = 10_000
_MAX_IN_A_GROUP: Final = 2_000
_STAYS_AWAKE_S: Final = 1.0


class Timing(NamedTuple):
    """How long the store waits for what, in seconds."""

    gather: float = 0.025
    """For more charges, before a group is written."""
    busy: float = 1.0
    """For another program's lock on the database, before a commit fails."""
    retry: float = 0.25
    """After a commit that failed, before the next."""
    patience: float = 5.0
    """For the disk, before an operation fails, a silent disk counts as failing, and closing gives up."""


USUAL: Final = Timing()
"""What a charge's 100 ms allow."""


class Writer:
    """The writing thread and what waits for it. Methods are the loop's, except those that say otherwise."""

    def __init__(self, connection: sqlite3.Connection, timing: Timing) -> None:
        """Begin to write; the connection is the thread's from here on, and is closed with it."""
        self._connection = connection
        self._timing = timing
        # What the loop adds to and the thread takes from:
        self._charges: list[Charge] = []
        self._days: list[tuple[str, int]] = []
        self._messages: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        # The thread's, for all to see:
        self.commits = self.charged = self.operations_done = 0
        self.last_commit_s = 0.0
        self.last_error: str | None = None
        self._has_failed = False
        self._began: float | None = None
        self._sleeps = False
        # The loop's:
        self._dropped = 0
        self._ends: float | None = None
        # The thread's own:
        self._operations: list[Operation] = []
        self._refused = 0
        self._awake_until = 0.0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def is_failing(self) -> bool:
        """Whether the last commit failed, takes too long, or too much waits for it."""
        began = self._began
        return (
            self._has_failed
            or len(self._charges) >= MAX_WAITING
            or (began is not None and monotonic() - began > self._timing.patience)
        )

    @property
    def waiting(self) -> int:
        """How many charges are not on disk yet."""
        return len(self._charges)

    @property
    def figures(self) -> Figures:
        """What has been done so far."""
        lost = self._dropped + self._refused
        return Figures(self.commits, self.charged, self.operations_done, lost, self.last_commit_s)

    def charge(self, charge: Charge) -> None:
        """Hand over a charge; it takes some 100 nanoseconds."""
        if len(self._charges) >= _MAX_HELD:
            self._dropped += 1
            return
        self._charges.append(charge)
        if self._sleeps:
            self._messages.put(None)

    def key_used(self, key: str, day: int) -> None:
        """Hand over on which day a key was used."""
        if len(self._days) >= MAX_WAITING:
            return
        self._days.append((key, day))
        if self._sleeps:
            self._messages.put(None)

    async def do(self, work: Work) -> Any:
        """Have work done in the next group; what it returns or raises. Raises StoreUnavailable, and then it is not done."""
        if self._ends is not None:
            raise StoreUnavailable("the database is closed")
        if self._messages.qsize() + len(self._operations) >= _MAX_OPERATIONS:
            raise unavailable(self.last_error)
        loop = asyncio.get_running_loop()
        patience = self._timing.patience
        operation = Operation(work, loop, monotonic() + patience)
        timer = loop.call_later(patience, lambda: operation.give_up(self.last_error))
        operation.future.add_done_callback(lambda _: timer.cancel())
        self._messages.put(operation)
        return await operation.future

    def close(self) -> bool:
        """Write what waits, for as long as its patience with the disk lasts, and end the thread; whether it has ended."""
        if self._ends is None:
            self._ends = monotonic() + self._timing.patience
            self._messages.put(None)
        self._thread.join(self._timing.patience + self._timing.busy + self._timing.retry)
        return not self._thread.is_alive()

    # All below is the thread's.

    def _run(self) -> None:
        while not self._is_over():
            self._wait()
            self._attempt()
        if self._charges:
            _log.error("database: closed with %d charges that could not be written: %s", len(self._charges), self.last_error)
        tell((one, None, unavailable(self.last_error)) for one in self._operations if one.take())
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _is_over(self) -> bool:
        if self._ends is None:
            return False
        self._take_messages(0.0)
        return monotonic() >= self._ends or not (self._charges or self._days or self._operations)

    def _wait(self) -> None:
        """Wait for what is to be written; charges gather meanwhile, an operation ends it."""
        now = monotonic()
        if self._has_failed:
            self._rest(now + self._timing.retry)
            return
        if self._charges or self._days:
            self._awake_until = now + _STAYS_AWAKE_S
        elif now > self._awake_until and not self._operations:
            self._sleep()
        if not self._operations:
            self._take_messages(self._timing.gather if self._ends is None else 0.0)

    def _rest(self, until: float) -> None:
        """Let a disk that has just failed be, whatever comes meanwhile."""
        while (left := until - monotonic()) > 0:
            self._take_messages(left)

    def _sleep(self) -> None:
        """Sleep until somebody wakes the thread, as nothing has come for a while."""
        self._sleeps = True
        # Who adds after this look sees `_sleeps` and wakes us; who added before it is seen here.
        if not (self._charges or self._days):
            self._take_messages(None)
        self._sleeps = False
        self._awake_until = monotonic() + _STAYS_AWAKE_S

    def _take_messages(self, timeout: float | None) -> None:
        """Wait for a message for so long (None: until one comes), and take all that are there."""
        try:
            message = self._messages.get(timeout=timeout) if timeout != 0.0 else self._messages.get_nowait()
            while True:
                if message is not None:
                    self._operations.append(message)
                message = self._messages.get_nowait()
        except queue.Empty:
            return

    def _attempt(self) -> None:
        """Write all that is there: charges first, as they were first."""
        if not (self._charges or self._days or self._operations):
            return
        self._began = monotonic()
        try:
            self._roll_back()  # what the last attempt could not even roll back
            self._write_charges(len(self._charges))
            self._write_days()
            self._write_operations()
        except Exception as error:
            self._failed(error)
        self._began = None

    def _write_charges(self, count: int) -> None:
        """Write the first so many; a group that is refused is halved until what is unfit in it stands alone."""
        size = _MAX_IN_A_GROUP
        while count > 0:
            size = min(size, count)
            group = self._charges[:size]
            try:
                ledger.write_charges(self._connection, group)
            except UNFIT as error:
                if size > 1:
                    size //= 2
                    continue
                self._refuse(group[0], error)
            else:
                self._committed()
                self.charged += size
            del self._charges[:size]
            count -= size
            size = _MAX_IN_A_GROUP

    def _refuse(self, charge: Charge, error: Exception) -> None:
        """What can't be written alone either is in the ledger already, or would be refused for ever."""
        with contextlib.suppress(UnicodeError):
            if ledger.is_charged(self._connection, charge.reference):
                return
        self._refused += 1
        _log.error("database: charge %r of account %r is refused: %s", charge.reference, charge.account, error)

    def _write_days(self) -> None:
        days = self._days[:]
        if not days:
            return
        try:
            ledger.write_days(self._connection, days)
        except UNFIT as error:
            _log.error("database: the last uses of %d keys are refused: %s", len(days), error)
        else:
            self._committed()
        del self._days[: len(days)]

    def _write_operations(self) -> None:
        operations = [one for one in self._operations if one.take()]
        self._operations = operations
        if not operations:
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._do(one) for one in operations]
            self._connection.execute("COMMIT")
        except BaseException:
            for one in operations:
                one.put_back()
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            raise
        self._operations = []
        self.operations_done += len(operations)
        self._committed()
        tell(outcomes)

    def _do(self, operation: Operation) -> OperationResult:
        """Do one of a group; what is wrong with it does not touch the others."""
        execute = self._connection.execute
        execute("SAVEPOINT operation")
        try:
            result = operation.work(self._connection)
        except Exception as error:
            if is_the_disks(error):
                raise
            execute("ROLLBACK TO operation")
            execute("RELEASE operation")
            refused = RowRefused(str(error)) if isinstance(error, sqlite3.Error | OverflowError | UnicodeError) else error
            return operation, None, refused
        execute("RELEASE operation")
        return operation, result, None

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()

    def _committed(self) -> None:
        now = monotonic()
        self.commits += 1
        self.last_commit_s = now - (self._began or now)
        self._began = now
        if self._has_failed:
            self._has_failed = False
            _log.warning("database: can be written again; %d charges wait", len(self._charges))

    def _failed(self, error: Exception) -> None:
        self.last_error = str(error)
        if not self._has_failed:
            trace = None if is_the_disks(error) else error
            _log.error("database: %s; what is to be written is kept and tried again", error, exc_info=trace)
        self._has_failed = True
        now = monotonic()
        overdue = [one for one in self._operations if now >= one.due]
        self._operations = [one for one in self._operations if now < one.due]
        tell((one, None, unavailable(self.last_error)) for one in overdue if one.take())
