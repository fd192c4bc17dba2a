"""Owns one caller's connection, from its first byte to its last.

A `RequestReader` makes requests of its bytes. They are served one by one, in order: relayed endpoints by the gateway, all
others by the control plane. The relay writes to the transport by itself. The connection tells it when to wait, and is told when
an answer is over. (Contract §1, §5; RFC 9112.)

While a request is being served nothing further is parsed; what arrives meanwhile waits in bounded memory. If the caller ends
its stream it has left, also if it closed only its sending half: the two look alike, and nobody pays for a caller who has left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

from kyma_proxy.core.accounts.accounts import Key
from kyma_proxy.core.http.connection_state import ConnectionEvent, ConnectionState, after
from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.errors import GatewayError
from kyma_proxy.net.downstream.flow_control import Bridge, FlowControl
from kyma_proxy.net.downstream.forwarding import Forwarding, descriptor_of, reset_at_close
from kyma_proxy.net.downstream.handlers import Handlers
from kyma_proxy.net.downstream.incoming_body import IncomingBody
from kyma_proxy.net.downstream.listener import BufferedBody, Listener, no_place
from kyma_proxy.net.downstream.request_reader import RequestReader
from kyma_proxy.net.inline_coroutine import InlineCoroutine

monotonic: Final = time.monotonic  # compiled, a constant is read without a look-up
_MAX_BACKLOG_BYTES: Final = 64 * 1024
_LINGER_S: Final = 2.0


class DownstreamConnection(asyncio.Protocol):
    """One caller's connection."""

    __slots__ = (
        "_backlog", "_body", "_bridge", "_deadline", "_flow", "_handlers", "_is_taking", "_listener", "_loop",
        "_open_bridge", "_reader", "_serving", "_unsent", "buffered", "identified", "is_aborted", "is_writable", "key", "slot",
        "state", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(
        self, listener: Listener, handlers: Handlers, open_bridge: Callable[[DownstreamConnection], Bridge],
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        # for the life of the connection
        self._listener = listener
        self._handlers = handlers
        self._open_bridge = open_bridge
        self._loop = loop
        self._reader = RequestReader(listener)
        self._bridge: Bridge | None = None
        self._backlog = b""
        self._body: IncomingBody | None = None
        self.buffered = BufferedBody(listener)
        self._deadline: float | None = None
        self.slot, self.state = 0, ConnectionState.IDLE
        self.is_writable, self.is_aborted = True, False
        self.identified: Headers | None = None  # the last headers that had a key
        self.key: Key | None = None
        # for the answer under way
        self._is_taking, self._unsent = False, 0
        self._serving: InlineCoroutine | None = None
        self._flow: FlowControl | None = None

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._listener.is_draining and self._leave_idle():  # it was accepted in the last moment
            return
        if self._listener.add(self):
            self._set_deadline(self._reader.limits.head_timeout)
        elif self._listener.may_explain(self):
            self._answer_error(no_place())
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is ConnectionState.IDLE and not self._reader.ready and self.is_writable:
            self._feed(data)
        elif state is ConnectionState.SERVING or state is ConnectionState.IDLE:
            if self.buffered.is_partial and self._incoming().forward(data):
                return
            self._backlog += data
            if len(self._backlog) > _MAX_BACKLOG_BYTES:
                self.transport.pause_reading()
        else:
            self._incoming().throw_away(len(data))

    def eof_received(self) -> bool:
        if self.state is ConnectionState.SERVING:
            self.transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._step(ConnectionEvent.LOSE)
        listener = self._listener
        listener.forget(self)
        listener.sweeper.forget(self)
        self._backlog = b""
        body, self._body = self._body, None
        if body is not None:
            body.close()
        self.buffered.release()
        # The relay is told in this very call: no piece may come between the loss and the coroutine's next step.
        flow, self._flow = self._flow, None
        if flow is not None and flow is not self._bridge:
            flow.leave()
        if self._serving is not None:
            self._serving.cancel()
        if self._bridge is not None:
            self._bridge.leave()
        self._reader.close()
        self._serving = self._bridge = None

    def pause_writing(self) -> None:
        self.is_writable = False
        self._unsent = self.transport.get_write_buffer_size()
        self._set_deadline(self._reader.limits.write_timeout)
        if self._flow is not None:
            self._flow.pause()

    def resume_writing(self) -> None:
        self.is_writable = True
        if self.state is ConnectionState.SERVING:
            self._deadline = None
        elif self.state is ConnectionState.IDLE:
            self._await_request()
        if self._flow is not None:
            self._flow.resume()

    # ---- taking requests, one after the other

    def _feed(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        if reader.ready:
            self._serve_next()
        elif reader.is_reading:
            self._read_on(len(data))

    def _read_on(self, size: int) -> None:
        """A request has arrived in part. The head's time counts from its first byte; only who may send a body has it taken."""
        reader = self._reader
        if reader.head is None:
            if not reader.head_began:
                reader.head_began = True
                self._set_deadline(reader.limits.head_timeout)
            return
        if reader.pace is None:
            self._set_deadline(reader.limits.body_timeout)
        try:
            self._incoming().take(reader.head, size)
        except GatewayError as error:
            self._answer_error(error)

    def _is_taking_in(self) -> bool:
        """True while what arrives is read, be it to be thrown away."""
        is_arriving = self.state is ConnectionState.IDLE and self._reader.is_reading
        return is_arriving or self.buffered.is_partial or self.state is ConnectionState.LINGERING

    def _incoming(self) -> IncomingBody:
        if self._body is None:
            self._body = IncomingBody(
                self.transport, self._reader, self._listener,
                handlers=self._handlers, buffered=self.buffered, is_wanted=self._is_taking_in, serve=self._serve,
            )  # fmt: skip
        return self._body

    def _serve_next(self) -> None:
        """Serve what is complete, or read on. If an answer is sent at once the loop goes on, without recursion."""
        if self._is_taking:
            return
        self._is_taking = True
        ready = self._reader.ready
        try:
            while (ready or self._backlog) and self.state is ConnectionState.IDLE and self.is_writable:
                if self.transport.is_closing():
                    break
                if not ready:
                    data, self._backlog = self._backlog, b""
                    self.transport.resume_reading()
                    self._feed(data)
                    continue
                self._deadline = None
                item = ready.pop(0)
                if not isinstance(item, Inbound):  # compiled, this costs less than to look for an exception
                    self._answer_error(item)
                    continue
                if (refusal := self.buffered.keep(item)) is not None:
                    self._answer_error(refusal)
                    continue
                self._serve(item)
        finally:
            self._is_taking = False

    def _serve(self, inbound: Inbound) -> None:
        self._step(ConnectionEvent.SERVE)
        if inbound.method == b"POST" and inbound.path in self._listener.relayed:
            serving = InlineCoroutine(self._handlers.relay(inbound, self), self._loop, self.abort)
            self._serving = serving if self.state is ConnectionState.SERVING else None  # it may have been answered already
            return
        if (elsewhere := self._listener.elsewhere) is not None:
            self._flow = Forwarding(inbound, self, elsewhere, may_stay=self._listener.hand_over is None)
            return
        if self._bridge is None:
            self._bridge = self._open_bridge(self)
        self._flow = self._bridge
        self._bridge.serve(inbound)

    # ---- for whoever answers

    def attach(self, flow: FlowControl) -> None:
        """From now on `flow` is told when the caller is slow, or leaves."""
        self._flow = flow

    @property
    def will_close(self) -> bool:
        """True if the connection will be closed after the answer under way, whatever the caller wishes."""
        return self._listener.is_draining and self._listener.hand_over is None

    @property
    def is_open(self) -> bool:
        """True while the caller is there to be answered."""
        return self.state is ConnectionState.SERVING or self.state is ConnectionState.IDLE

    @property
    def is_answerable(self) -> bool:
        """True if bytes that are written now can still reach the caller."""
        return self.is_open and not self.transport.is_closing()

    def cancel(self) -> None:
        """Cancel the coroutine that serves the request."""
        if self._serving is not None:
            self._serving.cancel()

    def respond(self, answer: bytes, *, close: bool) -> None:
        """Send a whole answer."""
        self.transport.write(answer)
        self.finish(close=close)

    def finish(self, *, close: bool) -> None:
        """The answer has gone out; the connection may serve again unless `close`."""
        self._flow = None
        self._serving = None
        self.buffered.release()
        if self.state is not ConnectionState.SERVING:
            return
        if close or self.will_close:
            self._close()
            return
        self._step(ConnectionEvent.FINISH)
        reader = self._reader
        if self._listener.is_draining and not (reader.is_reading or reader.ready or self._backlog) and self._leave_idle():
            return
        if not reader.is_reading and reader.head is not None:
            reader.begin()
        if self.is_writable:
            self._await_request()
        else:
            self._set_deadline(reader.limits.write_timeout)  # nothing more is served until this answer has been taken

    def abort(self, *, reset: bool = False) -> None:
        """Close at once: what is not on the wire is lost, so the answer is incomplete; `reset` tells it from a usual close."""
        if reset:
            reset_at_close(self.transport)
        self._serving = None
        self.is_aborted = True
        if self.state is not ConnectionState.CLOSED:
            self._step(ConnectionEvent.CLOSE)
        self.transport.abort()

    def close_when_idle(self) -> None:
        """Leave it, unless an answer is under way or a request has begun to arrive; its head has a moment left."""
        if self.state is ConnectionState.IDLE and not self._reader.is_reading:
            self._leave_idle()
        elif self.state is ConnectionState.IDLE and self._reader.head is None:
            self._set_deadline(_LINGER_S)

    def _leave_idle(self) -> bool:
        """Serve nothing more here: hand it over, or close it. Returns False if what still comes must be forwarded instead."""
        hand_over, transport = self._listener.hand_over, self.transport
        is_whole = not (self._backlog or self._reader.ready or transport.get_write_buffer_size())
        if hand_over is None:
            if is_whole and self._is_encrypted:  # the caller's end of TLS may never come: nobody waits for it
                self._listener.retire(self)
            self._close()
        elif self._is_encrypted or not is_whole:
            return False
        else:
            hand_over(descriptor_of(transport))
            self._step(ConnectionEvent.CLOSE)
            transport.abort()  # it closes only this process's descriptor
        return True

    def forget_head(self) -> None:
        """Judge the next request's head anew."""
        self._reader.forget()

    # ---- deadlines

    def look(self, now: float) -> float | None:
        """Act on a deadline that has passed; returns when to look next. (For Sweeper.)"""
        reader, due = self._reader, self._deadline
        is_idle = self.state is ConnectionState.IDLE
        if due is not None and reader.pace is not None and is_idle and not reader.pace.is_late(now):
            due = reader.pace.due(now)
        if due is None or now < due:
            return due
        if self.state is ConnectionState.SERVING and self.is_writable:  # a form is served while it comes
            self._deadline = self._incoming().look(now)
            return self._deadline
        if not self.is_open or not self.is_writable:
            return self._look_at_stall(now)
        if reader.is_reading:
            self._answer_error(reader.late())
        else:
            self._close()
        return self._deadline

    def _look_at_stall(self, now: float) -> float | None:
        """A caller who takes nothing at all is cut; one who takes something gets more time."""
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self.transport.abort()
            return None
        self._unsent = unsent
        self._deadline = now + (self._reader.limits.write_timeout if unsent else _LINGER_S)
        return self._deadline

    def _await_request(self) -> None:
        """Between two answers: serve what waits, or wait for more."""
        reader = self._reader
        if reader.is_reading:  # it began to arrive while another was being served: its time counts from now
            self._read_on(0)
        else:
            self._set_deadline(reader.limits.keep_alive)
        if reader.ready or self._backlog:
            self._serve_next()

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = due = monotonic() + seconds
        self._listener.sweeper.watch(self, due)

    # ---- refusing and closing

    def _answer_error(self, error: GatewayError) -> None:
        """Tell the caller what is wrong with the request, and close: what follows can't be trusted to be one."""
        reader = self._reader
        self.buffered.release()
        if self.state is ConnectionState.IDLE:
            self._step(ConnectionEvent.SERVE)
        identity = reader.identity()
        self.transport.write(reader.refusal(error, identity))
        self._handlers.reject(error, identity)
        self._linger()

    def _linger(self) -> None:
        """Close so that the caller can read the answer though it may still be sending (RFC 9112 §9.6)."""
        if not self._listener.retire(self):
            self.abort()
            return
        if self._is_encrypted:
            self._close_transport()
            return
        self._step(ConnectionEvent.LINGER)
        self.transport.resume_reading()
        self.transport.write_eof()
        self._await_flush(_LINGER_S)

    def _close(self) -> None:
        """Close once everything is on the wire, or when the caller has taken nothing for too long."""
        if (self._backlog or self._reader.ready or self.buffered.is_partial) and not self._is_encrypted:
            self._linger()
        else:
            self._close_transport()

    def _close_transport(self) -> None:
        self._step(ConnectionEvent.CLOSE)
        self.transport.close()
        self._await_flush(_LINGER_S if self._is_encrypted else 0.0)  # the caller's end of TLS may never come

    @property
    def _is_encrypted(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    def _await_flush(self, linger_s: float) -> None:
        """Watch what is unsent, and then stay for so long; not at all for 0.0."""
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent or linger_s:
            self._set_deadline(self._reader.limits.write_timeout if self._unsent else linger_s)

    def _step(self, event: ConnectionEvent) -> None:
        self.state = after(self.state, event)
