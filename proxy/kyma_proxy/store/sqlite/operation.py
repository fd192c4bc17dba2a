"""This file is what a coroutine asks of the writing thread: done once and told, or given up and then never done."""

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
    """Work to be done within a transaction, and the future of whoever waits for it.

    Either side takes it before it decides its fate: the writing thread to do it, the loop to give it up. Only one can.
    """

    __slots__ = ("_taken", "due", "future", "loop", "work")

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """`due` is the monotonic moment from which on it is given up."""
        self.work = work
        self.loop = loop
        self.due = due
        self.future: asyncio.Future[Any] = loop.create_future()
        self._taken: Final = threading.Lock()

    def take(self) -> bool:
        """Whether it is now the taker's, and nobody else's."""
        return self._taken.acquire(blocking=False)

    def put_back(self) -> None:
        """It was not done, and may be taken again."""
        self._taken.release()

    def give_up(self, reason: str | None) -> None:
        """On the loop: let the waiting coroutine fail, unless the thread is at it just now and will tell how it went."""
        if self.take():
            settle([(self, None, unavailable(reason))])


OperationResult = tuple[Operation, Any, Exception | None]
"""An operation, what it returned, and what it raised."""


def unavailable(reason: str | None) -> StoreUnavailable:
    """What is raised where the disk was waited for in vain."""
    return StoreUnavailable(f"the database could not be written in time: {reason or 'it is busy'}; nothing was changed")


def tell(outcomes: Iterable[OperationResult]) -> None:
    """From the thread: tell the coroutines; once a loop, as waking it is what costs."""
    by_loop: dict[asyncio.AbstractEventLoop, list[OperationResult]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, its in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a loop that is closed has nobody left who waits
            loop.call_soon_threadsafe(settle, its)


def settle(outcomes: Iterable[OperationResult]) -> None:
    """On the loop: let the coroutines go on; those that were cancelled meanwhile are gone."""
    for operation, result, error in outcomes:
        if operation.future.done():
            continue
        if error is None:
            operation.future.set_result(result)
        else:
            operation.future.set_exception(error)
