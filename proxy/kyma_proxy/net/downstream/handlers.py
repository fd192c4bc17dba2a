"""Defines what a connection needs from whoever serves the requests that it takes in."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.core.http.request_head import RequestHead
from kyma_proxy.errors import GatewayError

if TYPE_CHECKING:
    from kyma_proxy.net.downstream.connection import DownstreamConnection


class Handlers(Protocol):
    """Serves what the public listener takes in."""

    def relay(self, inbound: Inbound, downstream: DownstreamConnection) -> Coroutine[Any, Any, None]:
        """Serve a relayed endpoint; cancelled when the caller leaves."""

    def screen(self, head: RequestHead, headers: Headers) -> int | None:
        """Decide about a request whose head has come, and not all of its body. Raises GatewayError if it would be in vain.

        Returns the most bytes that its body may have; None if the listener's limit is enough.
        """

    def reject(self, error: GatewayError, request_id: str) -> None:
        """Take note of a request that was refused before it was served."""
