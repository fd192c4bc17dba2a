"""Holds what all callers' connections share: the limits in force, the sweeper, and who is connected."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Protocol

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.http.web_pages import public_policy
from kyma_proxy.net.sweeper import Sweeper


class Connection(Protocol):
    """A caller's connection, as far as the listener needs it."""

    def close_when_idle(self) -> None:
        """Close unless an answer is under way or a request has begun to arrive."""

    def abort(self) -> None:
        """Close at once."""

    def forget_head(self) -> None:
        """Judge the next request's head anew."""


class Listener:
    """The public listener's shared state."""

    def __init__(self, current: Callable[[], Snapshot], sweeper: Sweeper) -> None:
        self.current = current
        self.sweeper = sweeper
        self.connections: set[Connection] = set()
        self.is_draining = False
        self.web_pages = public_policy(current())
        self._prefix = os.urandom(8).hex()
        self._numbers = itertools.count(1)

    def fresh_id(self) -> str:
        """A request id that no other request has, of this process or another."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def apply_snapshot(self) -> None:
        """Adapt to the snapshot in force: a head that was accepted before is judged again."""
        self.web_pages = public_policy(self.current())
        for connection in self.connections:
            connection.forget_head()

    def drain(self) -> None:
        """Take no further request: idle connections are closed now, the others after their answer."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.close_when_idle()
