"""Passes a request that arrives at a process which was replaced on to the one that has taken its place, and the answer back.

Its connection can't be handed over: it is encrypted, or more has been read of it than the requests that are answered. So the
other process gets one end of a pair of sockets instead, with the request as if the caller had connected there. It alone
identifies, admits, logs and charges the request. The caller's connection is closed after the answer, which says so.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from kyma_proxy.core.http.inbound import Inbound

if TYPE_CHECKING:
    from kyma_proxy.net.downstream.connection import DownstreamConnection
    from kyma_proxy.net.downstream.listener import HandOver

_NO_LINGER: Final = struct.pack("ii", 1, 0)
_OF_THE_CONNECTION: Final = (b"connection", b"keep-alive", b"content-length", b"transfer-encoding", b"expect")


def encoded(inbound: Inbound) -> bytes:
    """The request as it is sent on a connection of its own."""
    lines = [
        b"%b: %b\r\n" % (name, value) for name, value in inbound.headers if name.lower() not in _OF_THE_CONNECTION
    ]  # fmt: skip
    target = b"%b?%b" % (inbound.path, inbound.query) if inbound.query else inbound.path
    return b"%b %b HTTP/1.%d\r\n%bconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
        inbound.method, target, 0 if inbound.is_http_10 else 1, b"".join(lines), len(inbound.body), inbound.body,
    )  # fmt: skip


def descriptor_of(transport: asyncio.Transport) -> int:
    """A descriptor of the transport's socket that stays open when the transport is closed."""
    return os.dup(transport.get_extra_info("socket").fileno())


class Forwarding(asyncio.Protocol):
    """One request on its way through this process; a `FlowControl`."""

    def __init__(self, inbound: Inbound, downstream: DownstreamConnection, hand_over: HandOver) -> None:
        """Hand the request over."""
        self._downstream: DownstreamConnection | None = downstream
        self._transport: asyncio.Transport | None = None
        self._request = encoded(inbound)
        inbound.body = b""
        self._is_paused = not downstream.is_writable
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        hand_over(theirs.detach())
        self._opening = asyncio.get_running_loop().create_task(self._open(ours))

    async def _open(self, ours: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
        except OSError:
            ours.close()
            self._end()

    # ---- asyncio.Protocol, for the other process's end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._downstream is None:
            self._transport.abort()
            return
        self._transport.write(self._request)
        self._request = b""
        if self._is_paused:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._downstream is not None and self._downstream.is_answerable:
            self._downstream.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        """The answer is over. If it is not whole, its framing shows that to the caller."""
        downstream, self._downstream = self._downstream, None
        if downstream is not None:
            downstream.finish(close=True)

    # ---- FlowControl, for the caller's end

    def pause(self) -> None:
        self._is_paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        self._is_paused = False
        if self._transport is not None:
            self._transport.resume_reading()

    def leave(self) -> None:
        self._downstream = None
        if self._transport is not None:
            self._transport.abort()


def reset_at_close(transport: asyncio.Transport) -> None:
    """Have the other side told, when this one closes, that what it has read is not whole."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
