"""A coroutine runs inline, without a task: it resumes when its result is set, ends when cancelled, and loses no error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kyma_proxy.net.inline_coroutine import ENDED, InlineCoroutine, OneShotFuture


def begin(coroutine: Coroutine[Any, Any, None], failed: Callable[[], None] = lambda: None) -> InlineCoroutine:
    return InlineCoroutine(coroutine, asyncio.get_running_loop(), failed)


async def turns(count: int = 5) -> None:
    """Let the loop take some turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_first_step_runs_at_once() -> None:
    seen = []

    async def first() -> None:
        seen.append("began")

    begin(first())
    assert seen == ["began"]


async def test_it_resumes_after_the_call_that_set_the_result_and_not_within_it() -> None:
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


async def test_a_result_that_is_already_set_is_not_waited_for() -> None:
    outcome: OneShotFuture[None] = OneShotFuture()
    outcome.resolve(None)
    seen = []

    async def waiting() -> None:
        await outcome
        seen.append("went on")

    begin(waiting())
    assert seen == ["went on"]


async def test_cancel_raises_where_it_waits_once_and_never_after_its_end() -> None:
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
async def test_an_error_goes_to_the_loops_handler_and_to_the_callback(at_once: bool) -> None:
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


async def test_awaiting_anything_else_is_an_error() -> None:
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(str(context.get("exception"))))

    async def waiting() -> None:
        await asyncio.sleep(0)

    begin(waiting(), lambda: heard.append("failed"))
    assert heard == ["an InlineCoroutine awaits OneShotFutures only, not None", "failed"]


async def test_a_coroutine_may_end_without_an_exception_and_can_not_be_cancelled_afterwards() -> None:
    seen = []

    async def ends() -> None:
        try:
            seen.append("served")
        finally:
            seen.append("settled")
        await ENDED
        seen.append("never")

    for _ in range(2):
        begin(ends(), lambda: seen.append("failed")).cancel()
        await turns()
    assert seen == ["served", "settled"] * 2
