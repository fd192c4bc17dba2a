"""This file holds the connections to providers: one protocol each, and the pool that keeps the idle ones warm.

A connection serves one request at a time. It feeds the answer's parser (llhttp, through httptools) and hands head, body
and end to the `Answer` that waits for them; the answer never sees a socket. Idle connections are reused newest first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Iterable
from typing import Final, Protocol, cast

import httptools

from proxy.config.snapshot import Origin, Provider, Timeouts
from proxy.core.inbound import Headers
from proxy.core.outcome import Failure
from proxy.net.dialing import Dialer, SessionContext
from proxy.net.sweeper import Sweeper

MAX_HEAD_BYTES: Final = 256 * 1024
"""The largest head of an answer; more is garbage."""

_WARM_WHILE_USED_S: Final = 300.0
_NEVER: Final = 10.0**12

monotonic = time.monotonic


class Answer(Protocol):
    """Who waits for an answer. Exactly one of `on_end` and `on_cut` is called, last."""

    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        """The answer's head has come; `fields` has the same by lower-case name."""

    def on_body(self, piece: bytes) -> None:
        """A piece of the answer's body has come."""

    def on_end(self, *, is_certain: bool) -> None:
        """The answer is whole; uncertain where only the end of the connection says so."""

    def on_cut(self, failure: Failure, detail: str, *, nothing_came: bool) -> None:
        """There will be no (more) answer; `nothing_came` says that not one byte of it did."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to a provider."""

    __slots__ = (
        "_announced", "_answer", "_complete", "_count", "_ends_with_connection", "_first_byte_s", "_head_bytes", "_headers",
        "_idle_s", "_is_informational", "_is_reusable", "_is_spoiled", "_paused", "_pieces", "_pool", "_reason",
        "_total_due", "is_fresh", "keep_alive_s", "on_body", "origin", "parser", "read_at", "sent_at", "slot", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, pool: UpstreamPool, origin: Origin, keep_alive_s: float) -> None:
        # for the life of the connection
        self._pool = pool
        self.origin = origin
        self.keep_alive_s = keep_alive_s
        self.slot = 0
        self.is_fresh = True
        self.read_at = monotonic()
        self._pieces: list[bytes] = []
        # llhttp's body callback appends without a frame of Python.
        self.on_body = self._pieces.append
        self.parser = httptools.HttpResponseParser(self)
        # for one answer
        self._answer: Answer | None = None
        self._headers: Headers = []
        self._reason = b""
        self._announced = self._complete = self._is_informational = self._ends_with_connection = False
        self._is_reusable = self._is_spoiled = self._paused = False
        self._count = 0
        self._head_bytes = 0
        self.sent_at = 0.0
        self._first_byte_s = self._idle_s = self._total_due = _NEVER

    # ---- what the gateway does with it

    def send(self, answer: Answer, pieces: list[bytes | memoryview], timeouts: Timeouts, total_due: float | None) -> None:
        """Send a request; `answer` hears of what comes. `total_due` is when the whole request must have ended."""
        self._answer = answer
        now = self.sent_at = self.read_at = monotonic()
        self._first_byte_s = _NEVER if timeouts.first_byte is None else timeouts.first_byte
        self._idle_s = _NEVER if timeouts.idle is None else timeouts.idle
        self._total_due = _NEVER if total_due is None else total_due
        self._pool.sweeper.watch(self, min(now + self._first_byte_s, self._total_due))
        if len(pieces) == 1:
            self.transport.write(pieces[0])
        else:
            self.transport.writelines(pieces)

    def answer_began(self) -> None:
        """The caller has bytes of the answer: from now on the idle timer counts."""
        self._first_byte_s = _NEVER
        if self._idle_s < _NEVER and self._answer is not None:
            self._pool.sweeper.watch(self, self.read_at + self._idle_s)

    def pause(self) -> None:
        """Read no more until `resume`: the caller is slower than the provider. No timer counts meanwhile."""
        if self._answer is not None:  # a connection that has answered belongs to the pool, and to the next caller
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self.read_at = monotonic()
            self.transport.resume_reading()

    def abandon(self) -> None:
        """Close at once and tell nobody: the answer is not wanted any more."""
        self._answer = None
        self.transport.abort()

    def look(self, now: float) -> float | None:
        """The sweeper's question: is anything late?"""
        if self._answer is None:
            due = self.read_at + self.keep_alive_s
            if now >= due:
                self._pool.expired(self)
                return None
            return due
        if now >= self._total_due:
            self._cut(Failure.TOTAL_TIMEOUT, "the whole answer took too long")
            return None
        if self._paused:
            return min(now + 1.0, self._total_due)
        if self._first_byte_s < _NEVER:
            due = self.sent_at + self._first_byte_s
            detail = f"no first byte within {self._first_byte_s:g} s"
        else:
            due = self.read_at + self._idle_s
            detail = f"silent for {self._idle_s:g} s"
        if now >= due:
            self._cut(Failure.FIRST_BYTE_TIMEOUT, detail)
            return None
        return min(due, self._total_due)

    # ---- what the transport tells it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        self.read_at = monotonic()
        if self._answer is None:
            self._pool.spoiled(self)  # bytes that nobody asked for
            return
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_spoiled = True  # what was understood before the error still counts
        if not self._announced:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._cut(Failure.BROKEN, f"its head is larger than {MAX_HEAD_BYTES // 1024} KiB")
                return
        if self._pieces:
            self._deliver()
        if self._complete:
            self._finish()
        elif self._is_spoiled:
            self._cut(Failure.BROKEN, "its answer is not HTTP")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.sweeper.forget(self)
        self._pool.lost(self)
        answer = self._answer
        if answer is None:
            return
        if exc is None and self._announced and self._ends_with_connection:
            self._answer = None
            answer.on_end(is_certain=False)  # a body without a length ends with its connection (RFC 9112 §6.3)
        else:
            self._cut(Failure.BROKEN, "the connection broke" if exc is not None else "the connection was closed")

    # ---- what the parser tells it

    def on_message_begin(self) -> None:
        if self._complete:
            self._is_spoiled = True  # a second answer, to no request

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._announced:  # afterwards they are trailers, which are not passed on
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._is_informational = True
            self._headers = []
            self._reason = b""
        elif not self._announced:
            fields = {name.lower(): value for name, value in self._headers}
            has_length = b"content-length" in fields
            self._ends_with_connection = not has_length and b"transfer-encoding" not in fields
            if not self._ends_with_connection and not has_length and _codings(self._headers) != b"chunked":
                raise httptools.HttpParserError("a body in a coding that nobody asked for can't be passed on")
            self._announced = True
            if self._answer is not None:
                self._answer.on_head(status, self._reason, self._headers, fields)

    def on_message_complete(self) -> None:
        if self._is_informational:
            self._is_informational = False
        elif not self._complete:
            self._complete = True
            self._count = len(self._pieces)
            self._is_reusable = self.parser.should_keep_alive()

    # ---- the ways out

    def _deliver(self) -> None:
        pieces = self._pieces
        if self._complete:
            del pieces[self._count :]
        if pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._answer is not None:
                self._answer.on_body(piece)

    def _finish(self) -> None:
        """The answer is whole: make room for the next, then tell."""
        answer, self._answer = self._answer, None
        transport = self.transport
        is_sent = not transport.get_write_buffer_size()  # else it answered without hearing the request out
        if self._is_reusable and is_sent and not self._is_spoiled and not transport.is_closing():
            if self.is_fresh and self.origin.scheme == "https":
                _remember_session(self)
            self._headers = []
            self._reason = b""
            self._announced = self._complete = self.is_fresh = False
            self._head_bytes = 0
            self.resume()
            self._pool.put_back(self)
        else:
            transport.abort()
        if answer is not None:
            answer.on_end(is_certain=True)

    def _cut(self, failure: Failure, detail: str) -> None:
        answer, self._answer = self._answer, None
        self.transport.abort()
        if answer is not None:
            answer.on_cut(failure, detail, nothing_came=not self._announced and self._head_bytes == 0)


class DialFailed(Exception):
    """No connection could be opened; `detail` says why, in words that hold no address or credential."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail


class UpstreamPool:
    """The connections of the process to every origin: those at work, those idle, those on their way."""

    def __init__(self, dialer: Dialer, sweeper: Sweeper) -> None:
        self.sweeper = sweeper
        self._dialer = dialer
        self._idle: dict[Origin, list[UpstreamConnection]] = {}
        self._open: set[UpstreamConnection] = set()
        self._wanted: dict[Origin, Provider] = {}
        self._used_at: dict[Origin, float] = {}
        self._warming: dict[asyncio.Task[None], Origin] = {}

    def take(self, origin: Origin) -> UpstreamConnection | None:
        """The idle connection that was used last, or None."""
        self._used_at[origin] = monotonic()
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    async def dial(self, provider: Provider, timeout_s: float | None) -> UpstreamConnection:
        """A fresh connection. Raises DialFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._dialer.dial(
                    provider.origin, lambda: UpstreamConnection(self, provider.origin, provider.keep_alive)
                )
        except TimeoutError:
            within = "in time" if timeout_s is None else f"within {timeout_s:g} s"
            raise DialFailed(Failure.CONNECT_TIMEOUT, f"no connection {within}") from None
        except ssl.SSLError as error:
            raise DialFailed(Failure.CONNECT, f"TLS failed: {_tls_reason(error)}") from None
        except OSError as error:
            raise DialFailed(Failure.CONNECT, f"no connection: {_reason(error)}") from None
        if connection.transport.is_closing():
            raise DialFailed(Failure.BROKEN, "the connection was closed")
        return connection

    def opened(self, connection: UpstreamConnection) -> None:
        """A connection is open; it is counted until it is lost."""
        self._open.add(connection)

    def warm(self, providers: Iterable[Provider]) -> None:
        """Open connections ahead to these providers, and keep them while they are used; forget all others."""
        self._wanted = {provider.origin: provider for provider in providers if provider.warm_connections}
        for origin in self._wanted:
            self._used_at.setdefault(origin, monotonic())
            self._refill(origin)

    def put_back(self, connection: UpstreamConnection) -> None:
        """A connection's answer is over and it can serve again."""
        self._idle.setdefault(connection.origin, []).append(connection)
        self.sweeper.watch(connection, connection.read_at + connection.keep_alive_s)

    def expired(self, connection: UpstreamConnection) -> None:
        """A connection has been idle long enough; the provider would soon close it. Replace it while in use."""
        connection.abandon()
        self._drop_idle(connection)
        self._refill(connection.origin)

    def spoiled(self, connection: UpstreamConnection) -> None:
        """A connection spoke without being asked; nothing that it says later can be trusted."""
        connection.abandon()
        self._drop_idle(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        self._drop_idle(connection)

    def statistics(self) -> dict[str, int]:
        """How many connections are open, and how many of them idle."""
        return {"open": len(self._open), "idle": sum(len(idle) for idle in self._idle.values())}

    async def close(self) -> None:
        """Close every connection, and end every dial."""
        self._wanted = {}
        for task in list(self._warming):
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)
        for connection in list(self._open):
            connection.abandon()

    def _drop_idle(self, connection: UpstreamConnection) -> None:
        idle = self._idle.get(connection.origin)
        if idle:
            with contextlib.suppress(ValueError):
                idle.remove(connection)

    def _refill(self, origin: Origin) -> None:
        provider = self._wanted.get(origin)
        if provider is None or monotonic() - self._used_at[origin] > _WARM_WHILE_USED_S:
            return
        under_way = list(self._warming.values()).count(origin)
        for _ in range(provider.warm_connections - len(self._idle.get(origin, ())) - under_way):
            task = asyncio.get_running_loop().create_task(self._dial_ahead(provider))
            self._warming[task] = origin
            task.add_done_callback(self._warming.pop)

    async def _dial_ahead(self, provider: Provider) -> None:
        # A request that needs the provider will meet the same failure and report it.
        with contextlib.suppress(DialFailed):
            self.put_back(await self.dial(provider, 10.0))


def _codings(headers: Headers) -> bytes:
    return b",".join(value for name, value in headers if name.lower() == b"transfer-encoding").strip().lower()


def _remember_session(connection: UpstreamConnection) -> None:
    tls = connection.transport.get_extra_info("ssl_object")
    if tls is not None and isinstance(tls.context, SessionContext):
        tls.context.remember(connection.origin.host, tls)


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    return (error.reason or "handshake failure").lower().replace("_", " ")


def _reason(error: OSError) -> str:
    """Short words for a failed connect. The library's own may hold addresses, so only the system's are used."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "its name or address can't be reached"
