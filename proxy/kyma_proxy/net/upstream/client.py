"""This file makes whole exchanges with providers: one question, one answer in memory. (Contract §9, §10.)

It is for what is not relayed, over the same connections. A connection that was closed in the moment of its reuse is replaced
by a fresh one, once. Redirects are answers like any other: a provider's address comes from the configuration alone.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from kyma_proxy.config.snapshot import Provider, Timeouts
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.dialect.images.contract import ProviderRequest
from kyma_proxy.net.upstream.connection import UpstreamConnection, monotonic
from kyma_proxy.net.upstream.pool import DialError, UpstreamPool

MAX_BYTES: Final = 32 * 2**20
_STALE_S: Final = 0.5


class ProviderResponse(NamedTuple):
    """A provider's answer; names of `fields` in lower case."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes


class NoResponse(NamedTuple):
    """Why there is no answer. `is_undone`: the provider surely did nothing. `is_final`: it would be the same again."""

    failure: FailureKind
    detail: str
    is_undone: bool = False
    is_stale: bool = False
    is_final: bool = False


class NoResponseError(Exception):
    """There is no answer; `why` not."""

    def __init__(self, why: NoResponse) -> None:
        super().__init__(why.detail)
        self.why = why


class UpstreamClient:
    """Makes such exchanges."""

    def __init__(self, upstreams: UpstreamPool) -> None:
        self._upstreams = upstreams

    async def make(self, provider: Provider, call: ProviderRequest, timeouts: Timeouts) -> ProviderResponse:
        """Ask, and wait for the whole answer. Raises CallFailed; cancelling closes the connection."""
        request = call.request(provider)
        connection = self._upstreams.take(provider.origin)
        if connection is not None:
            try:
                return await _Answer(connection).to(request, timeouts)
            except NoResponseError as failed:
                if not failed.why.is_stale:
                    raise
        connection = await self._dialled(provider, timeouts.connect)
        return await _Answer(connection).to(request, timeouts)

    async def _dialled(self, provider: Provider, timeout_s: float | None) -> UpstreamConnection:
        dialled: asyncio.Future[UpstreamConnection | DialError] = asyncio.get_running_loop().create_future()
        dialling = self._upstreams.dial(provider, timeout_s, dialled.set_result)
        try:
            made = await asyncio.shield(dialled)
        except asyncio.CancelledError:
            dialling.cancel()
            dialled.add_done_callback(self._take_back)
            raise
        if isinstance(made, DialError):
            raise NoResponseError(NoResponse(made.failure, made.detail, is_undone=True))
        return made

    def _take_back(self, dialled: asyncio.Future[UpstreamConnection | DialError]) -> None:
        """Nobody waits any more for a connection that was opened in the moment of the cancelling."""
        made = dialled.result()
        if not isinstance(made, DialError):
            self._upstreams.put_back(made)


class _Answer:
    """Gathers one answer from a connection."""

    __slots__ = ("_connection", "_fields", "_pieces", "_size", "_status", "_told")

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        # Not an exception: it would hold the frame that waits, and with it the request and this, in a cycle.
        self._told: asyncio.Future[ProviderResponse | NoResponse] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._fields: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._size = 0

    async def to(self, request: list[bytes | memoryview], timeouts: Timeouts) -> ProviderResponse:
        """The answer to a request. Raises CallFailed."""
        if self._connection.transport.is_closing():
            raise NoResponseError(NoResponse(FailureKind.BROKEN, "the connection was closed", is_undone=True, is_stale=True))
        total_due = None if timeouts.total is None else monotonic() + timeouts.total
        self._connection.send(self, request, timeouts, total_due)
        try:
            told = await self._told
        finally:
            if self._told.cancelled():
                self._connection.abandon()
        if isinstance(told, NoResponse):
            raise NoResponseError(told)
        return told

    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        self._status = status
        self._fields = fields
        self._connection.answer_began()

    def on_body(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= MAX_BYTES:
            self._pieces.append(piece)
        elif not self._told.done():
            self._connection.abandon()
            self._pieces.clear()
            detail = f"its answer is larger than {MAX_BYTES // 2**20} MiB"
            self._told.set_result(NoResponse(FailureKind.BROKEN, detail, is_final=True))

    def on_end(self, *, is_certain: bool) -> None:
        if not self._told.done():
            self._told.set_result(ProviderResponse(self._status, self._fields, b"".join(self._pieces)))

    def on_cut(self, failure: FailureKind, detail: str, *, nothing_came: bool) -> None:
        connection = self._connection
        is_sudden = monotonic() - connection.sent_at < _STALE_S  # later it may have begun to work on what was asked
        is_stale = nothing_came and failure is FailureKind.BROKEN and not connection.is_fresh and is_sudden
        if not self._told.done():
            self._told.set_result(NoResponse(failure, detail, is_stale=is_stale))
