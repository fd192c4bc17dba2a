"""Runs long computations in slices, so that streams are served in between.

A large body takes tens of milliseconds to be read. The work on it is a generator that yields every few milliseconds. In each
iteration of the loop one slice of one work is done, whatever the number of works; they take turns. So many large bodies at once
make each other wait, and nobody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, Generic, TypeVar

from kyma_proxy.net.inline_coroutine import OneShotFuture

T = TypeVar("T")


class _Work(Generic[T]):
    """A computation under way."""

    def __init__(self, steps: Generator[None, None, T]) -> None:
        self.steps = steps
        self.ended = OneShotFuture[bool]()
        self.result: T | None = None
        self.error: BaseException | None = None

    def step(self) -> bool:
        """Do one slice; returns False when there is no more to do."""
        try:
            next(self.steps)
        except StopIteration as stop:
            self.result = stop.value
        except Exception as error:
            self.error = error
        else:
            return True
        self.ended.resolve(True)
        return False


class Slices:
    """Takes turns among all long computations of the process. `call_soon` is the loop's."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._works: Final[deque[_Work[Any]]] = deque()
        self._is_scheduled = False

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Run a computation to its end. Returns what it returns, raises what it raises; if cancelled it goes no further.

        It may only be awaited by an `InlineCoroutine`.
        """
        work = _Work(steps)
        self._works.append(work)
        self._schedule()
        try:
            await work.ended
        except BaseException:
            if work in self._works:
                self._works.remove(work)
            steps.close()
            raise
        error, work.error = work.error, None
        if error is None:
            return work.result  # type: ignore[return-value]
        try:
            raise error
        finally:
            del error  # it holds this frame and the work's, which must not hold it: with it the body would stay

    @property
    def waiting(self) -> int:
        """The number of computations that have not ended."""
        return len(self._works)

    def _schedule(self) -> None:
        if self._works and not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._next)

    def _next(self) -> None:
        self._is_scheduled = False
        if self._works:  # else all were cancelled
            work = self._works.popleft()
            if work.step():
                self._works.append(work)
            self._schedule()
