"""Defines the pool to which a connection to a provider belongs between two answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from kyma_proxy.net.sweeper import Sweeper
from kyma_proxy.net.upstream.outflow import Outflow

if TYPE_CHECKING:
    from kyma_proxy.net.upstream.connection import UpstreamConnection


class ConnectionOwner(ABC):
    """The pool to which a connection belongs between two answers."""

    __slots__ = ("outflow", "sweeper")

    sweeper: Sweeper
    outflow: Outflow

    @abstractmethod
    def opened(self, connection: UpstreamConnection) -> None:
        """The connection is open."""

    @abstractmethod
    def put_back(self, connection: UpstreamConnection) -> None:
        """An answer is over, and the connection can serve again."""

    @abstractmethod
    def remember_session(self, connection: UpstreamConnection) -> None:
        """A fresh TLS connection has served once: its session can be resumed."""

    @abstractmethod
    def expired(self, connection: UpstreamConnection) -> None:
        """The connection has been idle for `keep_alive_s`."""

    @abstractmethod
    def spoiled(self, connection: UpstreamConnection) -> None:
        """The idle connection has received bytes that nobody asked for."""

    @abstractmethod
    def lost(self, connection: UpstreamConnection) -> None:
        """The connection is closed."""
