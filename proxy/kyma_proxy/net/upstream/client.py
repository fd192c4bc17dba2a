"""Makes whole HTTP exchanges with providers: one request, one response in memory. (Contract §9, §10.)

It serves what is not relayed (image jobs, health checks) over the relay's connections. A connection that was closed in the
moment of its reuse is replaced by a fresh one, once. Redirects are not followed: a provider's address comes from the
configuration alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from kyma_proxy.config.snapshot import Provider, Timeouts
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.pool import DialError, UpstreamPool
from kyma_proxy.net.upstream.response_handler import ResponseHandler

MAX_BYTES: Final = 32 * 2**20
_STALE_S: Final = 0.5


class ProviderResponse(NamedTuple):
    """A provider's response; names of `fields` in lower case."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes


class NoResponse(NamedTuple):
    """The reason why there is no response. `is_undone`: the provider surely did nothing. `is_final`: a retry is useless.

    `nothing_came`: the connection ended before one byte of the response.
    """

    kind: FailureKind
    detail: str
    is_undone: bool = False
    is_stale: bool = False
    is_final: bool = False
    nothing_came: bool = False


class NoResponseError(Exception):
    """There is no response; `why` not."""

    def __init__(self, why: NoResponse) -> None:
        super().__init__(why.detail)
        self.why = why


class UpstreamClient:
    """Sends requests to providers and waits for their responses."""

    def __init__(self, upstreams: UpstreamPool) -> None:
        self._upstreams = upstreams

    async def send(
        self, provider: Provider, request: list[bytes | memoryview], timeouts: Timeouts, *, is_fresh: bool = False,
        on_sent: Callable[[], None] | None = None, max_bytes: int = MAX_BYTES,
    ) -> ProviderResponse:  # fmt: skip
        """Send a request and wait for the whole response. Raises NoResponseError; cancelling closes the connection.

        `is_fresh` asks for a connection of its own: an idle one may be closed, which says nothing about the provider. `on_sent`
        is called just before the first byte goes out; until then a cancelled request has reached nobody. A body of more than
        `max_bytes` is no response.
        """
        connection = None if is_fresh else self._upstreams.take(provider.origin)
        if connection is not None:
            try:
                return await _ResponseCollector(connection, max_bytes).response(request, timeouts, on_sent)
            except NoResponseError as error:
                if not error.why.is_stale:
                    raise
        connection = await self._dialled(provider, timeouts.connect)
        return await _ResponseCollector(connection, max_bytes).response(request, timeouts, on_sent)

    async def _dialled(self, provider: Provider, timeout_s: float | None) -> UpstreamConnection:
        dialled: asyncio.Future[UpstreamConnection | DialError] = asyncio.get_running_loop().create_future()
        dialling = self._upstreams.dial(provider, timeout_s, dialled.set_result)
        try:
            connection = await asyncio.shield(dialled)
        except asyncio.CancelledError:
            dialling.cancel()
            dialled.add_done_callback(self._put_back)
            raise
        if isinstance(connection, DialError):
            raise NoResponseError(NoResponse(connection.kind, connection.detail, is_undone=True))
        return connection

    def _put_back(self, dialled: asyncio.Future[UpstreamConnection | DialError]) -> None:
        """Keep a connection that was opened in the moment in which its waiter was cancelled."""
        connection = dialled.result()
        if not isinstance(connection, DialError):
            self._upstreams.put_back(connection)


class _ResponseCollector(ResponseHandler):
    """Collects one response from a connection."""

    __slots__ = ("_body", "_connection", "_done", "_fields", "_max_bytes", "_size", "_status")

    def __init__(self, connection: UpstreamConnection, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes
        # Not an exception: it would hold the frame that waits, and with it the request and this, in a cycle.
        self._done: asyncio.Future[ProviderResponse | NoResponse] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._fields: dict[bytes, bytes] = {}
        self._body = bytearray()  # a piece weighs more than its bytes
        self._size = 0

    async def response(
        self, request: list[bytes | memoryview], timeouts: Timeouts, on_sent: Callable[[], None] | None
    ) -> ProviderResponse:
        """The response to a request. Raises NoResponseError."""
        if self._connection.transport.is_closing():
            raise NoResponseError(NoResponse(FailureKind.BROKEN, "the connection was closed", is_undone=True, is_stale=True))
        if on_sent is not None:
            on_sent()
        total_due = None if timeouts.total is None else monotonic() + timeouts.total
        self._connection.send(self, request, timeouts, total_due)
        try:
            result = await self._done
        finally:
            if self._done.cancelled():
                self._connection.abort()
        if isinstance(result, NoResponse):
            raise NoResponseError(result)
        return result

    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        self._status = status
        self._fields = fields
        self._connection.start_idle_timer()

    def on_body(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._max_bytes:
            self._body += piece
        elif not self._done.done():
            self._connection.abort()
            self._body.clear()
            detail = f"its answer is larger than {self._max_bytes // 2**20} MiB"
            self._done.set_result(NoResponse(FailureKind.BROKEN, detail, is_final=True))

    def on_end(self, *, is_certain: bool) -> None:
        if not self._done.done():
            self._done.set_result(ProviderResponse(self._status, self._fields, bytes(self._body)))

    def on_cut(self, kind: FailureKind, detail: str, *, nothing_came: bool) -> None:
        connection = self._connection
        is_sudden = monotonic() - connection.timers.sent_at < _STALE_S  # later it may have begun to work on what was asked
        is_cut = nothing_came and kind is FailureKind.BROKEN
        is_stale = is_cut and not connection.is_fresh and is_sudden
        if not self._done.done():
            self._done.set_result(NoResponse(kind, detail, is_stale=is_stale, nothing_came=is_cut))
