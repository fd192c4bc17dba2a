"""This file holds what all callers' connections share: the limits in force, who serves a request, who is connected."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.errors import GatewayError
from kyma_proxy.net.sweeper import Sweeper

if TYPE_CHECKING:
    from kyma_proxy.net.downstream.connection import DownstreamConnection


class FlowControl(Protocol):
    """Who writes an answer to a caller, and must wait while the caller is slow."""

    def pause(self) -> None:
        """Write no more than what is on its way."""

    def resume(self) -> None:
        """Write on."""

    def leave(self) -> None:
        """The caller has left."""


class Bridge(FlowControl, Protocol):
    """The control plane's end of one caller's connection; it calls `Edge.finish` after each answer."""

    def serve(self, inbound: Inbound) -> None:
        """Answer one request."""


class Handlers(Protocol):
    """Who serves what the public listener takes in."""

    def relay(self, inbound: Inbound, edge: DownstreamConnection) -> Coroutine[Any, Any, None]:
        """Serve a relayed endpoint; cancelled when the caller leaves."""

    def reject(self, error: GatewayError, request_id: str) -> None:
        """Take note of a request that was refused at the door."""


class Listener:
    """The public listener's shared state."""

    def __init__(
        self,
        current: Callable[[], Snapshot],
        sweeper: Sweeper,
        handlers: Handlers,
        bridge: Callable[[DownstreamConnection], Bridge],
    ) -> None:
        self.current = current
        self.sweeper = sweeper
        self.handlers = handlers
        self.bridge = bridge
        self.connections: set[DownstreamConnection] = set()
        self.is_draining = False
        self._prefix = os.urandom(8).hex()
        self._numbers = itertools.count(1)

    def fresh_id(self) -> str:
        """A request id that no other request has, of this process or another."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def drain(self) -> None:
        """Take no further request: idle connections are closed now, the others after their answer."""
        self.is_draining = True
        for edge in list(self.connections):
            edge.close_when_idle()
