"""Waits for conditions, in the one way in which tests wait: no test sleeps for a time that was guessed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 20.0
"""For whatever a test waits for. It is long, as other tests run at the same time; a test that passes never waits so long."""


async def until(condition: Callable[[], object]) -> None:
    """Wait in an event loop until the condition is true. Raises TimeoutError after `PATIENCE_S`."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.002)


async def until_true(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until a condition is true that has to be awaited itself. Raises TimeoutError after `PATIENCE_S`."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.01)


async def passes(seconds: float) -> None:
    """Wait in an event loop for this long: only where the time itself is what is tested."""
    await asyncio.sleep(seconds)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait outside an event loop until the condition is true. Raises TimeoutError after `PATIENCE_S`."""
    due = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > due:
            raise TimeoutError("the condition did not become true")
        time.sleep(0.005)
