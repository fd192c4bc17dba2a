"""A coroutine without a task: it goes on when it is told, ends when it is cancelled, and loses nothing on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kyma_proxy.net.inline_coroutine import InlineCoroutine, OneShotFuture


def begin(coroutine: Coroutine[Any, Any, None], failed: Callable[[], None] = lambda: None) -> InlineCoroutine:
    return InlineCoroutine(coroutine, asyncio.get_running_loop(), failed)


async def turns(count: int = 5) -> None:
    """Let the loop take some turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_first_step_is_taken_at_once() -> None:
    seen = []

    async def first() -> None:
        seen.append("began")

    begin(first())
    assert seen == ["began"]


async def test_it_goes_on_after_the_call_that_told_and_not_within_it() -> None:
    outcome: OneShotFuture[str] = OneShotFuture()
    seen: list[str] = []

    async def waiting() -> None:
        seen.append(await outcome)

    begin(waiting())
    outcome.resolve("first")
    outcome.resolve("second")
    assert seen == []
    await turns()
    assert seen == ["first"]


async def test_what_was_told_before_is_not_waited_for() -> None:
    outcome: OneShotFuture[None] = OneShotFuture()
    outcome.resolve(None)
    seen = []

    async def waiting() -> None:
        await outcome
        seen.append("went on")

    begin(waiting())
    assert seen == ["went on"]


async def test_cancelling_raises_where_it_waits_once_and_never_after_its_end() -> None:
    outcome: OneShotFuture[None] = OneShotFuture()
    seen = []

    async def waiting() -> None:
        try:
            await outcome
        except asyncio.CancelledError:
            seen.append("cancelled")

    turn = begin(waiting())
    turn.cancel()
    turn.cancel()
    outcome.resolve(None)
    await turns()
    turn.cancel()
    await turns()
    assert seen == ["cancelled"]


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_error_goes_to_the_loop_and_ends_it_and_who_began_it_hears_of_it(at_once: bool) -> None:
    outcome: OneShotFuture[None] = OneShotFuture()
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(type(context.get("exception"))))

    async def failing() -> None:
        if not at_once:
            await outcome
        raise ValueError

    turn = begin(failing(), lambda: heard.append("failed"))
    outcome.resolve(None)
    await turns()
    turn.cancel()
    await turns()
    assert heard == [ValueError, "failed"]


async def test_to_await_anything_else_is_an_error_and_no_silence() -> None:
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(str(context.get("exception"))))

    async def waiting() -> None:
        await asyncio.sleep(0)

    begin(waiting(), lambda: heard.append("failed"))
    assert heard == ["an InlineCoroutine awaits OneShotFutures only, not None", "failed"]
