"""Hands over what is to be written from the event loop to the writing thread.

An operation wakes the thread at once, and so does the first charge or key's use after which it waits for more before it writes.
Those that follow wake it no more, and while nothing comes it sleeps. The loop adds at a list's end and the thread deletes at
its front; both are single steps in C, so they need no lock.
"""

from __future__ import annotations

import queue
from typing import Final, NamedTuple

from kyma_proxy.store.contract import Charge
from kyma_proxy.store.sqlite.operation import Operation


class Capacity(NamedTuple):
    """The bounds of what may wait for the disk."""

    waiting: int = 200_000
    """With this number of charges the store says that it is failing. It is the limit for uses of keys."""
    held: int = 400_000
    """More charges are lost. The requests that were admitted before the store failed can't become that many."""
    operations: int = 10_000
    """More operations fail."""


DEFAULT_CAPACITY: Final = Capacity()


class Inbox:
    """The work that waits to be written. `operations` is the thread's own list, filled by `wait`."""

    def __init__(self, capacity: Capacity = DEFAULT_CAPACITY) -> None:
        self.charges: list[Charge] = []
        self.key_uses: list[tuple[str, int]] = []
        self.operations: list[Operation] = []
        self.is_idle = False
        self.lost = 0
        self._capacity = capacity
        self._messages: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()

    # ---- for the loop

    @property
    def is_full(self) -> bool:
        """True while so many charges wait that no further request should be admitted."""
        return len(self.charges) >= self._capacity.waiting

    @property
    def takes_operations(self) -> bool:
        """False while too many operations wait."""
        return self._messages.qsize() + len(self.operations) < self._capacity.operations

    def add_charge(self, charge: Charge) -> None:
        """Hand over a charge; it takes some 100 nanoseconds."""
        if len(self.charges) >= self._capacity.held:
            self.lost += 1
            return
        self.charges.append(charge)
        if self.is_idle:
            self._wake_idle()

    def add_key_use(self, key: str, day: int) -> None:
        """Hand over the day of a key's use."""
        if len(self.key_uses) >= self._capacity.waiting:
            return
        self.key_uses.append((key, day))
        if self.is_idle:
            self._wake_idle()

    def add_operation(self, operation: Operation) -> None:
        """Hand over an operation, and wake the thread."""
        self._messages.put(operation)

    def wake(self) -> None:
        """Wake the thread."""
        self._messages.put(None)

    def _wake_idle(self) -> None:
        self.is_idle = False  # what follows before the thread has run need not wake it again
        self._messages.put(None)

    # ---- for the thread

    @property
    def is_empty(self) -> bool:
        """True if nothing waits, apart from messages that `wait` has not taken in yet."""
        return not (self.charges or self.key_uses or self.operations)

    def wait(self, timeout: float | None) -> None:
        """Wait for a message, for so many seconds (None: until one comes), and take in all that are there."""
        try:
            message = self._messages.get(timeout=timeout) if timeout != 0.0 else self._messages.get_nowait()
            while True:
                if message is not None:
                    self.operations.append(message)
                message = self._messages.get_nowait()
        except queue.Empty:
            return

    def wait_idle(self) -> None:
        """Wait until something is handed over, without looking for it; returns at once if something is there already."""
        self.is_idle = True
        # Whatever is added after this look sees `is_idle` and wakes the thread; what was added before it is seen here.
        if not (self.charges or self.key_uses):
            self.wait(None)
        self.is_idle = False
