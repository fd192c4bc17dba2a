"""Looks after every deadline of the process with one timer.

A connection is watched in one slot of a wheel: that of the earliest moment at which it could be late. It costs nothing to move
a deadline further away: when the slot comes round, the connection is asked again. So a stream's idle timer costs one stored
timestamp a chunk, and no timer is armed or cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

_log: Final = logging.getLogger("kyma-proxy")
TICK_S: Final = 0.05
_TICKS_PER_S: Final = 20


class Watched(Protocol):
    """Something with a deadline. `slot` belongs to the sweeper; it begins as 0."""

    slot: int

    def look(self, now: float) -> float | None:
        """Act on a deadline that has passed; return when to look next, or None when there is nothing to wait for."""


class Tick:
    """The time between two sweeps. `ended_at` is 0.0 until it is over.

    Who notes the tick in which something happened needs no clock, and knows the moment to 50 ms; a loop that was held up makes
    a long tick, so nothing counts as earlier than it was.
    """

    __slots__ = ("ended_at",)

    def __init__(self) -> None:
        self.ended_at = 0.0


class Sweeper:
    """A wheel of 50 ms slots, each a set of connections to look at."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._slots: dict[int, set[Watched]] = {}
        self._next = self._slot_of(clock())
        self._timer: asyncio.TimerHandle | None = None
        self._every_tick: list[Callable[[], None]] = []
        self.tick = Tick()
        """The tick that is under way."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to sweep, until `stop`."""
        self._timer = loop.call_later(TICK_S, self._tick, loop)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def every_tick(self, action: Callable[[], None]) -> None:
        """Call `action` at each tick as well; it must not raise."""
        self._every_tick.append(action)

    def watch(self, item: Watched, due: float) -> None:
        """Look at `item` at `due` or earlier; it is never watched twice."""
        slot = max(int(due * _TICKS_PER_S) + 1, self._next)
        watched = item.slot
        if watched:
            if watched <= slot:
                return
            self._slots[watched].discard(item)
        item.slot = slot
        members = self._slots.get(slot)
        if members is None:
            self._slots[slot] = {item}
        else:
            members.add(item)

    def forget(self, item: Watched) -> None:
        """Stop watching `item`, and let go of it."""
        if item.slot:
            members = self._slots.get(item.slot)
            if members is not None:
                members.discard(item)
            item.slot = 0

    def sweep(self, now: float) -> None:
        """Look at everything whose slot has come."""
        self.tick.ended_at = now
        self.tick = Tick()
        current = self._slot_of(now)
        first, self._next = self._next, current + 1  # whoever is watched meanwhile, however late, is looked at next time
        for slot in range(first, self._next):
            for item in self._slots.pop(slot, ()):
                item.slot = 0
                try:
                    due = item.look(now)
                except Exception:
                    _log.exception("the timeout check of a connection failed")
                    continue  # the others' deadlines must not depend on it
                if due is not None:
                    self.watch(item, max(due, now))

    def watched(self) -> int:
        """The number of connections that are watched."""
        return sum(len(members) for members in self._slots.values())

    def _slot_of(self, moment: float) -> int:
        return int(moment * _TICKS_PER_S)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(TICK_S, self._tick, loop)
        self.sweep(self._clock())
        for action in self._every_tick:
            action()
