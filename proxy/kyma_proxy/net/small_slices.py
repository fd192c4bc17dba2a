"""Runs a computation in slices that are shorter than what an event takes: no stream waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import perf_counter
from typing import Final, TypeVar

SLICE_S: Final = 0.0001
"""More work is not done in one turn of the loop: a part of the time that an event takes through the gateway."""
T = TypeVar("T")


async def in_slices(steps: Generator[None, None, T]) -> T:
    """The result of a computation that yields often; it lets the loop serve others again and again."""
    while True:
        started = perf_counter()
        try:
            while perf_counter() - started < SLICE_S:
                next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        await asyncio.sleep(0)
