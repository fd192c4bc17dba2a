"""Defines an operation: work that a coroutine gives to the writing thread, done once, or timed out and never done."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from kyma_proxy.store.contract import StoreUnavailable

Work = Callable[[sqlite3.Connection], Any]


class Operation:
    """Work to be done within a transaction, and the future that the coroutine awaits.

    The writing thread claims it to do it, the loop claims it to let it time out. Only one of them can.
    """

    __slots__ = ("_claimed", "deadline", "future", "loop", "work")

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        """`deadline` is the monotonic moment at which it times out."""
        self.work = work
        self.loop = loop
        self.deadline = deadline
        self.future: asyncio.Future[Any] = loop.create_future()
        self._claimed: Final = threading.Lock()

    def claim(self) -> bool:
        """Claim it, for good unless `unclaim` is called. Returns False if it is claimed already."""
        return self._claimed.acquire(blocking=False)

    def unclaim(self) -> None:
        """Release the claim: it was not done, and may be claimed again."""
        self._claimed.release()

    def time_out(self, reason: str | None) -> None:
        """On the loop: fail, unless the thread is doing it just now; then the thread's result counts."""
        if self.claim():
            resolve([(self, None, unavailable(reason))])


OperationResult = tuple[Operation, Any, Exception | None]
"""An operation, what it returned, and what it raised."""


def unavailable(reason: str | None) -> StoreUnavailable:
    """The error of an operation that timed out."""
    return StoreUnavailable(f"the database could not be written in time: {reason or 'it is busy'}; nothing was changed")


def resolve_threadsafe(results: Iterable[OperationResult]) -> None:
    """From the thread: resolve the futures, with one call for each loop, as it is waking a loop that costs."""
    by_loop: dict[asyncio.AbstractEventLoop, list[OperationResult]] = {}
    for result in results:
        by_loop.setdefault(result[0].loop, []).append(result)
    for loop, of_loop in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no coroutine waits
            loop.call_soon_threadsafe(resolve, of_loop)


def resolve(results: Iterable[OperationResult]) -> None:
    """On the loop: resolve the futures, except those that were cancelled meanwhile."""
    for operation, value, error in results:
        if operation.future.done():
            continue
        if error is None:
            operation.future.set_result(value)
        else:
            operation.future.set_exception(error)
