"""Defines who writes answers to a caller, and so must wait while the caller is slow."""

from __future__ import annotations

from typing import Protocol

from kyma_proxy.core.http.inbound import Inbound


class FlowControl(Protocol):
    """Writes an answer to a caller, and must wait while the caller is slow."""

    def pause(self) -> None:
        """Write no more than what is on its way."""

    def resume(self) -> None:
        """Write on."""

    def leave(self) -> None:
        """The caller has left."""


class Bridge(FlowControl, Protocol):
    """The control plane's end of one caller's connection; it calls `DownstreamConnection.finish` after each answer."""

    def serve(self, inbound: Inbound) -> None:
        """Answer one request."""
