"""Sends large requests in portions: in each turn of the loop a few of all connections go on, and each by one portion.

A socket takes some MiB at once. To write to fifty in one turn, or to encrypt 32 MiB in one, would hold up everybody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from kyma_proxy.net.upstream.timers import AnswerTimers

PORTION_BYTES: Final = 256 * 1024
_AT_ONCE: Final = 4


class Outflow:
    """Gives the large requests of a pool their turns."""

    def __init__(self) -> None:
        self._waiting: dict[LargeRequest, None] = {}
        self._is_scheduled = False

    def wait(self, request: LargeRequest) -> None:
        """Have this one go on when its turn comes."""
        self._waiting[request] = None
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def forget(self, request: LargeRequest) -> None:
        """It goes no further."""
        self._waiting.pop(request, None)

    def _next(self) -> None:
        self._is_scheduled = False
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            request = next(iter(self._waiting))
            del self._waiting[request]
            request.go_on()
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)


class LargeRequest:
    """A request of which not all is written yet. Its connection tells it when the transport wants no more, and wants more."""

    def __init__(
        self, outflow: Outflow, transport: asyncio.Transport, pieces: list[bytes | memoryview], timers: AnswerTimers
    ) -> None:
        self.timers = timers
        self._outflow = outflow
        self._transport = transport
        self._pieces: deque[memoryview] = deque([memoryview(piece) for piece in pieces if len(piece)])
        self._is_paused = False
        self._on_room: Callable[[], None] | None = None
        self.is_sent = False
        """True if everything is written."""
        self.is_open = False
        """True while more may follow."""

    def go_on(self) -> None:
        """Write the next portion, now or, if the transport has enough, as soon as it wants more."""
        if self._is_paused or self._transport.is_closing():
            return
        portion: list[memoryview] = []
        room = PORTION_BYTES
        while self._pieces and room:
            piece = self._pieces.popleft()
            if len(piece) > room:
                self._pieces.appendleft(piece[room:])
                piece = piece[:room]
            portion.append(piece)
            room -= len(piece)
        self.is_sent = not self._pieces and not self.is_open
        self._transport.writelines(portion)  # which may pause
        if self._pieces and not self._is_paused:
            self._outflow.wait(self)
        elif self._on_room is not None and not self._is_paused:
            self._on_room()

    def pause(self) -> None:
        """The transport has enough."""
        self._is_paused = True

    def resume(self) -> None:
        """The transport wants more."""
        self._is_paused = False
        if self._pieces:
            self._outflow.wait(self)
        elif self._on_room is not None:
            self._on_room()

    def open(self, on_room: Callable[[], None]) -> None:
        """More follows, until `end`; `on_room` is called each time when all there is has been written."""
        self.is_open, self._on_room = True, on_room

    def add(self, piece: bytes) -> None:
        """Write this too, after all before it."""
        if self.is_open:
            self._pieces.append(memoryview(piece))
            if not self._is_paused:
                self._outflow.wait(self)

    def end(self) -> None:
        """Nothing more follows."""
        self.is_open, self._on_room = False, None
        self.is_sent = not self._pieces

    @property
    def held_bytes(self) -> int:
        """The bytes that are not written yet, with those that wait in the transport while it wants no more."""
        waiting = self._transport.get_write_buffer_size() if self._is_paused else 0
        return waiting + sum([len(piece) for piece in self._pieces])

    def drop(self) -> None:
        """Write no more."""
        self._outflow.forget(self)
        self._pieces.clear()
        self.is_open, self._on_room = False, None
