"""This file owns a caller's connection: one protocol each, from its first byte to its last.

It parses requests strictly (llhttp, through httptools), holds them to the limits of size and time, keeps pipelined ones
in order, and gives each complete one away: a relayed endpoint to the gateway, anything else to the control plane.
The relay writes to the transport by itself; the edge says when that must wait, and is told when an answer is over.
(Contract §1, §5; RFC 9112.)

Once a request is complete nothing further is parsed until it has been answered; what comes meanwhile waits, in bounded
memory. The end of the caller's stream means that the caller has left, also where only its sending half was closed: the
two look alike, and a departed caller must not be paid for.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from typing import Final, cast

import httptools

from kyma_proxy.core.http.answers import cors_lines, error_lines, json_answer
from kyma_proxy.core.http.endpoints import RELAYED
from kyma_proxy.core.http.inbound import Headers, Inbound, header, request_id
from kyma_proxy.core.http.repeat import Repeat, repeat_of
from kyma_proxy.core.http.request_head import MAX_TARGET_BYTES, RequestHead, read_request_head
from kyma_proxy.dialect.registry import DIALECTS
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.listener import Bridge, FlowControl, Listener
from kyma_proxy.net.inline_coroutine import InlineCoroutine

_MAX_BACKLOG_BYTES: Final = 64 * 1024
_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 4 * 2**20
_MIN_BODY_BYTES_PER_S: Final = 1000
_MAX_BYTES_PER_BODY_BYTE: Final = 8  # a chunk of one byte takes six
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_MAX_PIECES: Final = 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

monotonic = time.monotonic


class DownstreamConnection(asyncio.Protocol):
    """One caller's connection."""

    __slots__ = (
        "_backlog",
        "_body",
        "_body_began",
        "_body_bytes",
        "_bridge",
        "_deadline",
        "_head",
        "_head_began",
        "_head_bytes",
        "_headers",
        "_is_busy",
        "_is_closing",
        "_is_declining",
        "_is_lingering",
        "_is_reading",
        "_is_taking",
        "_joined",
        "_keeps_alive",
        "_limits",
        "_linger_bytes",
        "_listener",
        "_loop",
        "_parser",
        "_passed",
        "_queue",
        "_reading",
        "_refusal",
        "_repeat",
        "_turn",
        "_unsent",
        "_url",
        "flow",
        "is_writable",
        "slot",
        "transport",
    )  # fmt: skip
    __deletable__ = ("_parser",)  # mypyc wants to know

    transport: asyncio.Transport

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        # for the life of the connection
        self._listener = listener
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._bridge: Bridge | None = None
        self._queue: deque[Inbound | GatewayError] = deque()
        self._backlog = b""
        self._reading = 0
        self._repeat: Repeat | None = None
        self._passed: dict[frozenset[bytes], bytes] = {}
        self._keeps_alive = False
        self._is_closing = self._is_lingering = False
        self._linger_bytes = 0
        self.slot = 0
        # for the answer under way
        self._is_busy = self._is_taking = False
        self._turn: InlineCoroutine | None = None
        self.flow: FlowControl | None = None
        self._deadline: float | None = None
        self._unsent = 0
        self.is_writable = True
        # for the request being read
        self._refusal: GatewayError | None = None
        self._is_reading = False
        self._begin()

    def _begin(self) -> None:
        self._limits = self._listener.current().limits
        self._url = b""
        self._headers: Headers = []
        self._head: RequestHead | None = None
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._joined: list[bytes] = []
        self._body_bytes = 0
        self._head_began = False
        self._body_began = 0.0
        self._is_declining = False

    # ---- what the transport tells it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        listener = self._listener
        if len(listener.connections) >= self._limits.max_connections:
            self._answer_error(
                GatewayError(Kind.OVERLOADED, "Every connection of the gateway is in use; try again.", retry_after=1)
            )
            return
        listener.connections.add(self)
        self._set_deadline(self._limits.head_timeout)

    def data_received(self, data: bytes) -> None:
        if self._is_lingering or self._is_closing:
            self._linger_bytes += len(data)
            if self._linger_bytes > _LINGER_BYTES:
                self.transport.abort()
        elif self._is_busy or self._queue or not self.is_writable:
            self._backlog += data
            if len(self._backlog) > _MAX_BACKLOG_BYTES:
                self.transport.pause_reading()
        else:
            repeat = self._repeat
            body = None if repeat is None or self._is_reading else repeat.body_of(data)
            if repeat is not None and body is not None and len(body) <= self._limits.max_body:
                self._queue.append(self._inbound(repeat.head, repeat.headers, body, repeat.passed))
                self._next()
            else:
                self._feed(data)

    def eof_received(self) -> bool:
        if self._is_busy:
            self.transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        listener = self._listener
        listener.connections.discard(self)
        listener.sweeper.forget(self)
        self._queue.clear()
        self._backlog = b""
        self._is_closing = True
        # The relay hears of it in this very call: no piece may come between the loss and the task's waking up.
        flow, self.flow = self.flow, None
        if flow is not None and flow is not self._bridge:
            flow.leave()
        if self._turn is not None:
            self._turn.cancel()
        if self._bridge is not None:
            self._bridge.leave()
        # The parser, the lane and this refer to each other; the collector, which seldom looks, shall not have to find out.
        self._begin()
        self._repeat = self._turn = self._bridge = None
        del self._parser

    def pause_writing(self) -> None:
        self.is_writable = False
        self._unsent = self.transport.get_write_buffer_size()
        self._set_deadline(self._limits.write_timeout)
        if self.flow is not None:
            self.flow.pause()

    def resume_writing(self) -> None:
        self.is_writable = True
        if self._is_busy:
            self._deadline = None
        elif not self._is_closing:
            self._rest()
        if self.flow is not None:
            self.flow.resume()

    # ---- what the parser tells it

    def on_message_begin(self) -> None:
        self._begin()
        self._is_reading = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:  # afterwards they are trailers, which nobody asked for
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._refusal is not None:
            return
        parser = self._parser
        try:
            if self._head_bytes + self._reading > self._limits.max_head and self._head_size() > self._limits.max_head:
                raise self._head_too_large()
            head = self._head = read_request_head(
                parser.get_method(), parser.get_http_version(), self._url, self._headers, self._limits.max_body
            )
        except GatewayError as error:
            self._refusal = error
            return
        if parser.should_upgrade():
            self._is_declining = True
            return
        if head.expects_continue and not self._is_busy and not self._queue:
            self.transport.write(_CONTINUE)

    def on_body(self, piece: bytes) -> None:
        self._body_bytes += len(piece)
        if self._body_bytes <= self._limits.max_body:
            self._body.append(piece)
            if len(self._body) >= _MAX_PIECES:  # a piece weighs more than its bytes
                self._joined.append(b"".join(self._body))
                self._body.clear()
        elif self._refusal is None:
            self._refusal = _too_large(self._limits.max_body)
            self._body.clear()

    def on_message_complete(self) -> None:
        head = self._head
        if self._refusal is not None or self._is_declining or head is None:
            return
        self._is_reading = False
        body = self._body
        whole = body[0] if len(body) == 1 and not self._joined else b"".join((*self._joined, *body))
        self._passed = {}
        self._keeps_alive = self._parser.should_keep_alive()
        self._queue.append(self._inbound(head, self._headers, whole, self._passed))
        self._body = []
        self._joined = []

    def _inbound(self, head: RequestHead, headers: Headers, body: bytes, passed: dict[frozenset[bytes], bytes]) -> Inbound:
        return Inbound(
            method=head.method,
            path=head.path,
            query=head.query,
            headers=headers,
            body=body,
            request_id=request_id(head.request_id, self._listener.fresh_id()),
            received=monotonic(),
            is_http_10=head.is_http_10,
            keep_alive=self._keeps_alive,
            passed=passed,
        )

    # ---- taking requests in, one after the other

    def _feed(self, data: bytes) -> None:
        self._reading = len(data)
        queued = len(self._queue)
        is_new = not self._is_reading and not queued
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._queue:
                self._refusal = GatewayError(Kind.BAD_HTTP, "A request that offers an upgrade can't be pipelined.")
            elif self._refusal is None:
                self._decline_upgrade(data[upgrade.args[0] :])
                return
        except httptools.HttpParserError as error:
            self._refusal = self._refusal or self._malformed(error)
        if self._refusal is None and (self._is_reading or self._head is None):
            # Where the piece began with the end of another request, only what the parser has told is this one's.
            self._head_bytes += len(data) if len(self._queue) == queued else self._head_size() + self._body_bytes
            self._check_overhead()
        if self._refusal is not None:
            self._queue.append(self._refusal)
        if is_new and len(self._queue) == 1 and self._keeps_alive and not self._is_reading and self._refusal is None:
            self._repeat = None if self._head is None else repeat_of(data, self._head, self._headers, self._passed)
        if self._queue:
            if not self._is_busy:
                self._next()
        elif self._is_reading:
            self._time_reading()

    def _time_reading(self) -> None:
        """The head's time counts from its first byte, the body's from the head's end; what comes at once has no timer."""
        if self._head is None:
            if not self._head_began:
                self._head_began = True
                self._set_deadline(self._limits.head_timeout)
        elif not self._body_began:
            self._body_began = monotonic()
            self._set_deadline(self._limits.body_timeout)

    def _next(self) -> None:
        """Serve what is complete, or read on. What is answered at once makes room for the next here, not within itself."""
        if self._is_taking:
            return
        self._is_taking = True
        try:
            while (self._queue or self._backlog) and not self._is_busy and self.is_writable and not self._is_over:
                if not self._queue:
                    data, self._backlog = self._backlog, b""
                    self.transport.resume_reading()
                    self._feed(data)
                    continue
                self._is_busy = True
                self._deadline = None
                item = self._queue.popleft()
                if isinstance(item, GatewayError):
                    self._answer_error(item)
                else:
                    self._dispatch(item)
        finally:
            self._is_taking = False

    def _dispatch(self, inbound: Inbound) -> None:
        if inbound.method == b"POST" and inbound.path in RELAYED:
            turn = InlineCoroutine(self._listener.handlers.relay(inbound, self), self._loop, self.abort)
            self._turn = turn if self._is_busy else None  # it may have been answered already
            return
        if self._bridge is None:
            self._bridge = self._listener.bridge(self)
        self.flow = self._bridge
        self._bridge.serve(inbound)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Serve a request that offers another protocol as what it is in this one (RFC 9110 §7.8).

        The parser stops at such a head, so the head is given to a fresh one without its offer.
        """
        kept = b"".join(
            b"%b: %b\r\n" % (name, value) for name, value in self._headers if name.lower() not in (b"connection", b"upgrade")
        )
        head = self._head
        assert head is not None  # noqa: S101  (the parser has just completed it)
        line = b"%b %b HTTP/1.%d\r\n" % (head.method, self._url, 0 if head.is_http_10 else 1)
        self._parser = httptools.HttpRequestParser(self)
        self._head_bytes = 0
        self._feed(line + kept + b"\r\n" + rest)

    # ---- what the gateway and the control plane tell it

    def attach(self, flow: FlowControl) -> None:
        """From now on `flow` is told when the caller is slow."""
        self.flow = flow

    @property
    def will_close(self) -> bool:
        """Whether the connection will be closed after the answer under way, whatever the caller wishes."""
        return self._listener.is_draining

    @property
    def _is_over(self) -> bool:
        return self._is_closing or self.transport.is_closing()

    @property
    def is_open(self) -> bool:
        """Whether the caller is still there to be answered."""
        return not self._is_closing

    def cancel(self) -> None:
        """Cancel what serves the request."""
        if self._turn is not None:
            self._turn.cancel()

    def respond(self, answer: bytes, *, close: bool) -> None:
        """Send a whole answer."""
        self.transport.write(answer)
        self.finish(close=close)

    def finish(self, *, close: bool) -> None:
        """The answer has gone out; the connection may serve again unless `close`."""
        self.flow = None
        self._turn = None
        self._is_busy = False
        if self._is_closing:
            return
        if close or self._listener.is_draining:
            self._close()
            return
        if not self._is_reading and self._head is not None:
            self._begin()
        if self.is_writable:
            self._rest()
        else:
            self._set_deadline(self._limits.write_timeout)  # nothing further is served until this answer has been taken

    def _rest(self) -> None:
        """Between two answers: serve what waits, or wait for more."""
        if self._is_reading:
            self._read_on()
        else:
            self._set_deadline(self._limits.keep_alive)
        if self._queue or self._backlog:
            self._next()

    def _read_on(self) -> None:
        """A request began to arrive while another was being served: its time counts from now."""
        self._time_reading()
        head = self._head
        if head is not None and head.expects_continue and not self._body_bytes and not self._queue:
            self.transport.write(_CONTINUE)

    def abort(self, *, reset: bool = False) -> None:
        """Close at once: what is not on the wire is lost, and the caller sees an incomplete answer."""
        if reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._turn = None
        self._is_busy = False
        self._is_closing = True
        self.transport.abort()

    def close_when_idle(self) -> None:
        """Close unless an answer is under way or a request has begun to arrive."""
        if not self._is_busy and not self._is_reading:
            self._close()

    # ---- deadlines

    def look(self, now: float) -> float | None:
        """The sweeper's question: is anything late?"""
        due = self._deadline
        if due is not None and self._body_began and not self._is_busy and not self._is_closing:
            due = self._body_began + self._limits.body_timeout + self._body_bytes / _MIN_BODY_BYTES_PER_S
        if due is None or now < due:
            return due
        if self._is_closing:
            self.transport.abort()
        elif not self.is_writable:
            return self._look_at_stall(now)
        elif self._is_reading:
            what = "head" if self._head is None else "body"
            self._answer_error(
                GatewayError(Kind.REQUEST_TIMEOUT, f"The request's {what} did not arrive in time; send it again.")
            )
        else:
            self._close()
        return self._deadline

    def _look_at_stall(self, now: float) -> float | None:
        """A caller who takes nothing at all is gone; one who takes something gets more time."""
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self.transport.abort()
            return None
        self._unsent = unsent
        self._deadline = now + self._limits.write_timeout
        return self._deadline

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = due = monotonic() + seconds
        self._listener.sweeper.watch(self, due)

    # ---- refusing

    def _answer_error(self, error: GatewayError) -> None:
        """Tell the caller what is wrong with the request, and close: what follows can't be trusted to be one."""
        listener = self._listener
        self._is_busy = True
        identity = request_id(header(self._headers, b"x-request-id"), listener.fresh_id())
        dialect = DIALECTS["anthropic" if self._url.startswith(b"/v1/messages") else "openai"]
        added = error_lines(error, identity, dialect.id_field) + cors_lines(self._headers, listener.current().cors_origins)
        self.transport.write(json_answer(error.kind.status, dialect.error_body(error, identity), added, close=True))
        listener.handlers.reject(error, identity)
        self._linger()

    def _linger(self) -> None:
        """Close so that the caller can read the answer although it may still be sending (RFC 9112 §9.6)."""
        if self.transport.get_extra_info("ssl_object") is not None:
            self._close()
            return
        self._is_lingering = self._is_closing = True
        self.transport.write_eof()
        self._set_deadline(_LINGER_S)

    def _close(self) -> None:
        """Close once everything is on the wire, or when the caller has taken nothing for too long."""
        if (self._backlog or self._queue) and self.transport.get_extra_info("ssl_object") is None:
            self._linger()
            return
        self._is_closing = True
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._set_deadline(self._limits.write_timeout)

    def _head_size(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _check_overhead(self) -> None:
        """Bound what is sent beside the body: the head, then trailers and chunk extensions, which the parser gathers."""
        limit = self._limits.max_head
        if self._head is None:
            if self._head_bytes > limit:
                self._refusal = self._head_too_large()
        elif self._head_bytes > 2 * limit + _MAX_BYTES_PER_BODY_BYTE * self._body_bytes:
            self._refusal = GatewayError(Kind.HEAD_TOO_LARGE, f"The request's trailers are larger than {limit} bytes.")

    def _head_too_large(self) -> GatewayError:
        if len(self._url) > MAX_TARGET_BYTES:
            return GatewayError(Kind.URI_TOO_LONG, f"The request's target is longer than {MAX_TARGET_BYTES} bytes.")
        return GatewayError(Kind.HEAD_TOO_LARGE, f"The request's headers are larger than {self._limits.max_head} bytes.")

    def _malformed(self, error: httptools.HttpParserError) -> GatewayError:
        if isinstance(error, httptools.HttpParserInvalidURLError) and len(self._url) > MAX_TARGET_BYTES:
            return self._head_too_large()
        reason = str(error).strip("'\"").rstrip(".") or "it can't be parsed"
        return GatewayError(Kind.BAD_HTTP, f"This is not a valid HTTP/1.1 request: {reason}.")


def _too_large(limit: int) -> GatewayError:
    return GatewayError(Kind.BODY_TOO_LARGE, f"The request's body is larger than {limit} bytes.")
