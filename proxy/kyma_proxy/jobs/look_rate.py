"""Keeps the looks at submitted jobs under one rate, for all jobs together.

They take time from the loop that serves the streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LookRate:
    """Spaces looks evenly. `per_s` is how many are allowed in a second; `clock` is monotonic."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._spacing = 1 / per_s
        self._clock = clock
        self._next = 0.0

    async def wait(self) -> None:
        """Wait for this look's turn; the looks go in the order in which they ask."""
        now = self._clock()
        at = max(now, self._next)
        self._next = at + self._spacing
        if at > now:
            await asyncio.sleep(at - now)
