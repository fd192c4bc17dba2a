"""Takes in the body of a request that arrives in pieces: only from who may send it, at a pace, within bounds, and in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from kyma_proxy.core.http.body_pace import BodyPace
from kyma_proxy.core.http.request_head import RequestHead
from kyma_proxy.net.downstream.handlers import Handlers
from kyma_proxy.net.downstream.intake import MAX_PIECE_BYTES
from kyma_proxy.net.downstream.listener import MIN_COUNTED_BYTES, BufferedBody, Listener
from kyma_proxy.net.downstream.request_reader import RequestReader
from kyma_proxy.net.releases import MIN_BYTES

_MAX_THROWN_AWAY_BYTES: Final = 4 * 2**20
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class IncomingBody:
    """The bodies of one connection, one after the other. `is_wanted` returns True while what arrives is read."""

    __slots__ = ("_buffered", "_handlers", "_is_wanted", "_listener", "_reader", "_thrown_away", "_transport")

    def __init__(
        self, transport: asyncio.Transport, reader: RequestReader, listener: Listener, *, handlers: Handlers,
        buffered: BufferedBody, is_wanted: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._transport = transport
        self._reader = reader
        self._listener = listener
        self._handlers = handlers
        self._buffered = buffered
        self._is_wanted = is_wanted
        self._thrown_away = 0

    def take(self, head: RequestHead, size: int) -> None:
        """A piece of so many bytes has come, and the body is not whole. Raises GatewayError."""
        reader = self._reader
        if reader.pace is None:
            self._begin(head)
        else:
            reader.pace.add(monotonic(), reader.body_bytes)
        refusal = self._buffered.count(reader.body_bytes)
        if refusal is not None:
            raise refusal
        self._listener.intake.took(self, size)

    def _begin(self, head: RequestHead) -> None:
        """Take the rest of a body, if the caller may send it. Raises GatewayError."""
        reader, limits = self._reader, self._reader.limits
        if self._listener.hand_over is None:  # otherwise the process that follows this one decides
            most = self._handlers.screen(head, reader.headers)
            if most is not None:
                reader.lower_max_body(most)
        if head.expects_continue or head.length >= MIN_COUNTED_BYTES:  # after a small body the connection can serve again
            refusal = self._listener.unserved(head.method, head.path)
            if refusal is not None:
                raise refusal
        reader.pace = BodyPace(monotonic(), reader.body_bytes, limits.body_timeout, limits.min_body_rate)
        if head.expects_continue and not reader.body_bytes:  # else it has not waited (RFC 9110 §10.1.1)
            self._transport.write(_CONTINUE)

    def throw_away(self, size: int) -> None:
        """So many bytes have come behind a request that was refused."""
        self._thrown_away += size
        if self._thrown_away > _MAX_THROWN_AWAY_BYTES:
            self._transport.abort()
        else:
            self._listener.intake.took(self, size)

    @property
    def is_heavy(self) -> bool:
        """True if the next piece may take long. (For Intake.)"""
        return self._reader.may_enlarge(MAX_PIECE_BYTES)

    def hold_reading(self) -> None:
        """Read no more until `read_on`. (For Intake.)"""
        if self._is_wanted() and not self._transport.is_closing():
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Read on. (For Intake.)"""
        if self._is_wanted() and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """The connection is gone, and with it what has come of a body."""
        self._listener.intake.forget(self)
        if self._reader.body_bytes >= MIN_BYTES:
            self._listener.releases.add(self._reader.take_body())
