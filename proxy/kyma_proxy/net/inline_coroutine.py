"""Runs a request's coroutine inside the callbacks that bring what it waits for, without a task.

A task's first step waits for the loop's next iteration, and its wake-up takes a future and another iteration: some 3 µs a
request, and time before the first byte. An `InlineCoroutine` takes its first step at once, and the next one in the iteration
after a `OneShotFuture` was resolved. Whatever needs a task (a dial, with its time-out and sockets) has one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar, cast

T = TypeVar("T")


class OneShotFuture(Generic[T]):
    """A single-use, single-waiter future. The first result counts."""

    __slots__ = ("_is_resolved", "_value", "_waiter")

    def __init__(self) -> None:
        self._is_resolved = False
        self._value: T | None = None
        self._waiter: InlineCoroutine | None = None

    def resolve(self, value: T) -> None:
        """Set the result; the waiter goes on in the loop's next iteration. Later results are ignored."""
        if self._is_resolved:
            return
        self._is_resolved = True
        self._value = value
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()

    def __await__(self) -> Generator[OneShotFuture[T], None, T]:
        while not self._is_resolved:
            yield self
        return cast("T", self._value)

    def add_waiter(self, waiter: InlineCoroutine) -> None:
        """Wake `waiter` when there is a result. (For InlineCoroutine.)"""
        self._waiter = waiter


class _Ended(OneShotFuture[None]):
    """The future that never comes: to raise StopIteration and to catch it costs 5,000 instructions, and to await this a few."""

    __slots__ = ()


ENDED: Final = _Ended()
"""`await ENDED` ends a coroutine that an `InlineCoroutine` runs, as its return would. It must stand behind every `finally`."""


class InlineCoroutine:
    """A running coroutine, which may await `OneShotFuture`s and nothing else.

    If it raises, the loop's exception handler is called, and then `on_failure`.
    """

    __slots__ = ("_coroutine", "_is_cancelled", "_loop", "_on_failure")

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, on_failure: Callable[[], None]
    ) -> None:
        """Take the first step at once."""
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._loop = loop
        self._on_failure = on_failure
        self._is_cancelled = False
        self._step()

    def wake(self) -> None:
        """Go on in the loop's next iteration. (For OneShotFuture.)"""
        self._loop.call_soon(self._step)

    def cancel(self) -> None:
        """Raise CancelledError where the coroutine waits, in the loop's next iteration; does nothing if it has ended."""
        if self._coroutine is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        coroutine = self._coroutine
        if coroutine is None:
            return
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                awaited = coroutine.throw(asyncio.CancelledError())
            else:
                awaited = coroutine.send(None)
            if awaited is ENDED:
                self._coroutine = None
                return
            if not isinstance(awaited, OneShotFuture):
                coroutine.close()
                raise TypeError(f"an InlineCoroutine awaits OneShotFutures only, not {awaited!r}")
        except StopIteration:
            self._coroutine = None
        except Exception as error:
            self._coroutine = None
            self._loop.call_exception_handler({"message": "a request's coroutine failed", "exception": error})
            self._on_failure()
        else:
            awaited.add_waiter(self)
