"""The ends of an upstream connection without a network and without a pool: they only note what is done to them."""

from __future__ import annotations

from time import monotonic

from kyma_proxy.net.sweeper import Sweeper
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.connection_owner import ConnectionOwner
from kyma_proxy.net.upstream.outflow import Outflow


class NotingOwner(ConnectionOwner):
    """Owns connections, and counts those that can serve again."""

    def __init__(self) -> None:
        self.sweeper = Sweeper(monotonic)
        self.outflow = Outflow()
        self.reusable = 0

    def opened(self, connection: UpstreamConnection) -> None: ...

    def put_back(self, connection: UpstreamConnection) -> None:
        self.reusable += 1

    def remember_session(self, connection: UpstreamConnection) -> None: ...

    def expired(self, connection: UpstreamConnection) -> None: ...

    def spoiled(self, connection: UpstreamConnection) -> None: ...

    def lost(self, connection: UpstreamConnection) -> None: ...


class NotingTransport:
    """Takes every byte, and notes if it is aborted and if it is read from."""

    def __init__(self) -> None:
        self.is_aborted = False
        self.is_reading = True

    def write(self, _: bytes) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True
