"""Holds the connections on which the caller has not said anything yet: a socket each, and nothing else.

The loop handles everything that is ready in one turn: some hundred callers who leave at once hold up everybody's events for
milliseconds. Here they are watched by a selector of their own, which is one file to the loop, and a few are handled in a turn.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from kyma_proxy.net.downstream.listener import HandOver

AT_ONCE: Final = 4
"""As many are handled in a turn of the loop."""


class _Silent(NamedTuple):
    accepted: socket.socket
    due: float
    heard: Callable[[socket.socket], None]


class SilentConnections:
    """Connections that have sent nothing yet, in the order in which they came."""

    def __init__(self, *, in_turns: bool = sys.platform == "linux") -> None:
        """Without `in_turns` the loop watches each by itself, as it must where there is no epoll(7)."""
        self._loop = asyncio.get_running_loop()
        self._held: dict[int, _Silent] = {}
        self._selector = select.epoll() if in_turns else None
        if self._selector is not None:
            self._loop.add_reader(self._selector.fileno(), self._look, self._selector)

    def __len__(self) -> int:
        return len(self._held)

    def add(self, accepted: socket.socket, due: float, heard: Callable[[socket.socket], None]) -> None:
        """Hold it until it says something, and then give it to `heard`; or until it leaves, or is late."""
        descriptor = accepted.fileno()
        self._held[descriptor] = _Silent(accepted, due, heard)
        if self._selector is None:
            self._loop.add_reader(descriptor, self._hear, descriptor)
        else:
            self._selector.register(descriptor, select.EPOLLIN | select.EPOLLRDHUP)

    def _look(self, selector: select.epoll) -> None:
        for descriptor, events in selector.poll(0, AT_ONCE):
            if events != select.EPOLLIN:  # it leaves, perhaps after it has said something
                self._hear(descriptor)
            else:
                silent = self._take(descriptor)
                silent.heard(silent.accepted)

    def _hear(self, descriptor: int) -> None:
        """Something has come, or it has left."""
        silent = self._take(descriptor)
        try:
            is_open = silent.accepted.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            is_open = False
        if is_open:
            silent.heard(silent.accepted)
        else:
            silent.accepted.close()

    def _take(self, descriptor: int) -> _Silent:
        if self._selector is None:
            self._loop.remove_reader(descriptor)
        else:
            self._selector.unregister(descriptor)  # another process may have the connection afterwards, so it stays open
        return self._held.pop(descriptor)

    def close_oldest(self) -> bool:
        """Close the one that has been silent for longest. Returns False if there is none."""
        for descriptor in self._held:
            self._take(descriptor).accepted.close()
            return True
        return False

    def close_late(self, now: float) -> float | None:
        """Close those that have been silent for too long; returns when the next one has been, None if there is none."""
        for descriptor, silent in [*self._held.items()]:
            if now < silent.due:
                return silent.due
            self._take(descriptor).accepted.close()
        return None

    def hand_over(self, take: HandOver, *, are_new: bool) -> None:
        """Give all their descriptors away."""
        for descriptor in [*self._held]:
            take(self._take(descriptor).accepted.detach(), is_new=are_new)

    def close_all(self) -> None:
        """Close all of them."""
        while self.close_oldest():
            pass

    def close(self) -> None:
        """Close all, and hold no more."""
        self.close_all()
        if self._selector is not None and not self._selector.closed:
            self._loop.remove_reader(self._selector.fileno())
            self._selector.close()
