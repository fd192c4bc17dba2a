"""Long computations take turns, one slice in each iteration of the loop, and leave the loop to everybody else in between."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from kyma_proxy.net.inline_coroutine import InlineCoroutine
from kyma_proxy.net.slices import Slices
from tests.waiting import until


class Loop:
    """The iterations of a loop, by hand."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def call_soon(self, call: object) -> None:
        self.calls.append(call)

    def iterate(self) -> None:
        """One iteration: what was scheduled before it."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()  # type: ignore[operator]


class Tasks:
    """Coroutines under way, and their results."""

    def __init__(self) -> None:
        self.results: dict[str, object] = {}
        self.done: list[str] = []

    async def follow(self, slices: Slices, name: str, steps: Generator[None, None, object]) -> None:
        try:
            self.results[name] = await slices.run(steps)
        except (ValueError, asyncio.CancelledError) as error:
            self.results[name] = error


def counting(done: list[str], name: str, slices: int, error: Exception | None = None) -> Generator[None, None, str]:
    for _ in range(slices):
        done.append(name)
        yield
    if error is not None:
        raise error
    return name


async def test_works_take_turns_and_each_iteration_does_one_slice() -> None:
    loop, tasks, running = Loop(), Tasks(), asyncio.get_running_loop()
    slices = Slices(loop.call_soon)
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        InlineCoroutine(tasks.follow(slices, name, counting(tasks.done, name, count)), running, lambda: None)
    counts = []
    while slices.waiting:
        before = len(tasks.done)
        loop.iterate()
        counts.append(len(tasks.done) - before)
    assert tasks.done == ["a", "b", "c", "a", "c", "a"]
    assert max(counts) == 1
    await until(lambda: len(tasks.results) == 3)
    assert tasks.results == {"a": "a", "b": "b", "c": "c"}


async def test_an_error_reaches_who_waits_and_nobody_else() -> None:
    loop, tasks, running = Loop(), Tasks(), asyncio.get_running_loop()
    slices = Slices(loop.call_soon)
    refused = ValueError("refused")
    InlineCoroutine(tasks.follow(slices, "bad", counting(tasks.done, "bad", 1, refused)), running, lambda: None)
    InlineCoroutine(tasks.follow(slices, "good", counting(tasks.done, "good", 2)), running, lambda: None)
    while slices.waiting:
        loop.iterate()
    await until(lambda: len(tasks.results) == 2)
    assert tasks.results == {"bad": refused, "good": "good"}


@pytest.mark.parametrize("others", [0, 1])
async def test_a_cancelled_work_goes_no_further(others: int) -> None:
    loop, tasks, running = Loop(), Tasks(), asyncio.get_running_loop()
    slices = Slices(loop.call_soon)
    gone = InlineCoroutine(tasks.follow(slices, "gone", counting(tasks.done, "gone", 9)), running, lambda: None)
    for at in range(others):
        InlineCoroutine(tasks.follow(slices, f"{at}", counting(tasks.done, f"{at}", 2)), running, lambda: None)
    loop.iterate()
    gone.cancel()
    await until(lambda: "gone" in tasks.results)
    assert isinstance(tasks.results["gone"], asyncio.CancelledError)
    for _ in range(4):
        loop.iterate()
    assert tasks.done.count("gone") == 1
    await until(lambda: len(tasks.results) == 1 + others)
    assert tasks.done.count("0") == 2 * others
    assert not slices.waiting
