"""This file runs a request's coroutine in the callbacks that bring what it waits for, without a task.

A task's first step waits for the loop's next turn, and its wake-up takes a future and another turn: some 3 µs a request,
and time before the first byte. A `InlineCoroutine` takes its first step at once, and the next one in the loop's turn after an
`OneShotFuture` was told. Whatever needs a task (a dial, with its time-out and sockets) has one of its own, and tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class OneShotFuture(Generic[T]):
    """What one coroutine waits for and somebody else tells, once; what is told after that is ignored."""

    __slots__ = ("_is_told", "_value", "_waiting")

    def __init__(self) -> None:
        self._is_told = False
        self._value: T | None = None
        self._waiting: InlineCoroutine | None = None

    def tell(self, value: T) -> None:
        """Say what has come out; who waits goes on in the loop's next turn."""
        if self._is_told:
            return
        self._is_told = True
        self._value = value
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.wake()

    def __await__(self) -> Generator[OneShotFuture[T], None, T]:
        while not self._is_told:
            yield self
        return cast("T", self._value)

    def wakes(self, turn: InlineCoroutine) -> None:
        """This one waits for it. (For Turn.)"""
        self._waiting = turn


class InlineCoroutine:
    """A coroutine under way, which may await `OneShotFuture`s and nothing else.

    Where it fails, the loop's exception handler is told, and then `failed` is called.
    """

    __slots__ = ("_coroutine", "_failed", "_is_cancelled", "_loop")

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, failed: Callable[[], None]
    ) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._loop = loop
        self._failed = failed
        self._is_cancelled = False
        self._go_on()

    def wake(self) -> None:
        """Go on in the loop's next turn. (For Outcome.)"""
        self._loop.call_soon(self._go_on)

    def cancel(self) -> None:
        """Raise CancelledError where the coroutine waits, in the loop's next turn; nothing where it has ended."""
        if self._coroutine is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        coroutine = self._coroutine
        if coroutine is None:
            return
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                waited = coroutine.throw(asyncio.CancelledError())
            else:
                waited = coroutine.send(None)
            if not isinstance(waited, OneShotFuture):
                coroutine.close()
                raise TypeError(f"a Turn awaits Outcomes only, not {waited!r}")
        except StopIteration:
            self._coroutine = None
        except Exception as error:
            self._coroutine = None
            self._loop.call_exception_handler({"message": "a request's coroutine failed", "exception": error})
            self._failed()
        else:
            waited.wakes(self)
