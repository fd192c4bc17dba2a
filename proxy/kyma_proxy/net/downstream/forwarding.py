"""Passes a request that another process serves on to that one, and the answer back.

Either this process was replaced, and the connection can't be handed over: it is encrypted, or more has been read of it than the
requests that are answered. Or this is a worker, and the request one for the control plane, which the supervisor has. The other
process gets one end of a pair of sockets, with the request as if the caller had connected there. It alone identifies, admits,
logs and charges the request. Where this process was replaced the caller's connection is closed after the answer, which says so.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from kyma_proxy.core.http.inbound import Inbound

if TYPE_CHECKING:
    from kyma_proxy.net.downstream.connection import DownstreamConnection
    from kyma_proxy.net.downstream.listener import HandOver

_NO_LINGER: Final = struct.pack("ii", 1, 0)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)(?=\r\n|$)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close(?=\r\n|$)", re.IGNORECASE)
_BODILESS: Final = re.compile(rb"HTTP/1\.[01] (?:204|304) ")
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

    def __init__(
        self, inbound: Inbound, downstream: DownstreamConnection, hand_over: HandOver, *, may_stay: bool = False
    ) -> None:
        """Hand the request over. If the caller's connection `may_stay`, it takes further requests after the answer."""
        self._head: bytes | None = b"" if may_stay and inbound.keep_alive and not inbound.is_http_10 else None
        self._is_head = inbound.method == b"HEAD"
        self._left: int | None = None  # bytes of the answer that are still to come, if that is known
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
        downstream = self._downstream
        if downstream is None or not downstream.is_answerable:
            return
        if self._head is not None:
            self._head += data
            if b"\r\n\r\n" not in self._head:
                return
            data = self._begun(self._head)
            self._head = None
        elif self._left is not None:
            self._left -= len(data)
        downstream.transport.write(data)
        if self._left == 0:
            self._downstream = None
            if self._transport is not None:
                self._transport.abort()
            downstream.finish(close=False)

    def _begun(self, data: bytes) -> bytes:
        """The answer's beginning, with its whole head; that does not say `close` where its end can be known without."""
        head, end, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        is_bodiless = self._is_head or _BODILESS.match(head) is not None
        downstream = self._downstream
        if (length is None and not is_bodiless) or downstream is None or downstream.will_close:
            return data
        self._left = 0 if is_bodiless or length is None else int(length[1]) - len(body)
        return _CLOSE.sub(b"", head) + end + body

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
