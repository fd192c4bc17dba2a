"""This file says what a relay needs of the caller's connection."""

from __future__ import annotations

import asyncio
from typing import Protocol

from kyma_proxy.net.downstream.listener import FlowControl


class Downstream(Protocol):
    """The caller's side of a relay: where bytes go, and who must be told that they can't go on."""

    transport: asyncio.Transport
    is_writable: bool

    @property
    def will_close(self) -> bool:
        """Whether the connection will be closed after this answer, whatever the caller wishes."""

    def attach(self, flow: FlowControl) -> None:
        """Whom to tell when the caller is slow, or leaves."""

    def finish(self, *, close: bool) -> None:
        """The answer has gone out whole; the connection may serve again unless `close`."""

    def abort(self, *, reset: bool = False) -> None:
        """Close at once, so that the caller sees an incomplete answer; `reset` tells it apart from a close."""
