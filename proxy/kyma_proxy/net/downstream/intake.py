"""Divides the reading of bodies among the turns of the loop, however many callers send one at a time.

libuv reads up to eight MiB of one socket before it looks at another, and in one turn whatever all sockets have. So after a
large piece a connection is not read until its next turn comes, and a few have theirs in each turn of the loop. If small pieces
of very many add up to much in a turn, they all wait for theirs as well.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

LARGE_PIECE_BYTES: Final = 64 * 1024
"""A caller who sends so much at once may have more to be read."""
MAX_PIECE_BYTES: Final = 256 * 1024
"""The most that uvloop reads at once."""
_AT_ONCE: Final = 4
"""So many connections are read on in a turn, and one only of those whose next piece may take long."""
_MAX_TURN_BYTES: Final = 2**20


class Sender(Protocol):
    """A connection on which a body is arriving, or what follows one that was refused."""

    @property
    def is_heavy(self) -> bool:
        """True if the next piece may take long."""

    def hold_reading(self) -> None:
        """Read no more until `read_on`, unless no body is arriving any more."""

    def read_on(self) -> None:
        """Read on."""


class Intake:
    """Gives the connections of one listener their turns."""

    def __init__(self) -> None:
        self._waiting: dict[Sender, None] = {}  # in the order of their turns
        self._reading: set[Sender] = set()
        self._turn_bytes = 0
        self._is_scheduled = False

    @property
    def waiting(self) -> int:
        """The number of connections that are not read until their turn comes."""
        return len(self._waiting)

    def took(self, sender: Sender, size: int) -> None:
        """A piece of so many bytes has been read, and more may follow."""
        self._turn_bytes += size
        if size >= LARGE_PIECE_BYTES:
            self._hold(sender)
        elif sender not in self._waiting:
            self._reading.add(sender)
        if self._turn_bytes > _MAX_TURN_BYTES and self._reading:
            for one in [*self._reading]:
                self._hold(one)
        if not self._is_scheduled:
            self._schedule()

    def forget(self, sender: Sender) -> None:
        """The connection is gone."""
        self._waiting.pop(sender, None)
        self._reading.discard(sender)

    def _hold(self, sender: Sender) -> None:
        self._reading.discard(sender)
        self._waiting[sender] = None
        sender.hold_reading()

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """A new turn of the loop has begun."""
        self._is_scheduled = False
        self._turn_bytes = 0
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            sender = next(iter(self._waiting))
            del self._waiting[sender]
            self._reading.add(sender)
            sender.read_on()
            if sender.is_heavy:
                break
        if self._waiting:
            self._schedule()
