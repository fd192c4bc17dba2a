"""Owns one connection to a provider, and serves one request at a time over it.

It feeds the answer's parser (llhttp, through httptools) and hands head, body and end to a `ResponseHandler`, which never sees
the socket. Between two answers the connection belongs to its pool.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, cast

import httptools

from kyma_proxy.config.origin import Origin
from kyma_proxy.config.snapshot import Timeouts
from kyma_proxy.core.http.answer_repeat import AnswerHeads
from kyma_proxy.core.http.chunks import MAX_CHUNKS_BYTES, size_of_events
from kyma_proxy.core.http.content_coding import ContentDecoder
from kyma_proxy.core.http.framing import MAX_BYTES_PER_BODY_BYTE
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.upstream.connection_owner import ConnectionOwner
from kyma_proxy.net.upstream.framing import excess_beside_body, framing, known_name, refuse_interim_body
from kyma_proxy.net.upstream.outflow import PORTION_BYTES, LargeRequest
from kyma_proxy.net.upstream.portions import MAX_PORTION_BYTES, Portions
from kyma_proxy.net.upstream.response_handler import ResponseHandler
from kyma_proxy.net.upstream.timers import AnswerTimers

_TLS_ALERT: Final = b"\x15\x03"
_log: Final = logging.getLogger("kyma-proxy")
_USUAL_BYTES_BESIDE: Final = 512
_LARGE_READ_BYTES: Final = 64 * 1024


class UpstreamConnection(asyncio.Protocol):
    """One connection to a provider: `is_fresh` before its first answer, `is_complete` once the end of an answer was read."""

    __slots__ = (
        "_announced", "_count", "_ends_with_connection", "_handler", "_head_bytes", "_headers", "_is_ambiguous",
        "_is_between_chunks", "_is_informational", "_is_lost", "_is_reusable", "_is_spoiled", "_is_yielding", "_lost_by",
        "_max_direct_bytes", "_outgoing", "_owner", "_passes_chunks", "_paused", "_pieces", "_portions", "_reason", "heads",
        "is_complete", "is_fresh", "keep_alive_s", "on_body", "origin", "parser", "slot", "timers", "transport",
    )  # fmt: skip
    __deletable__ = ("parser",)  # mypyc wants to know

    transport: asyncio.Transport
    parser: httptools.HttpResponseParser  # it and the connection refer to each other, until `break_cycle`

    def __init__(self, owner: ConnectionOwner, origin: Origin, keep_alive_s: float) -> None:
        # for the life of the connection
        self._owner = owner
        self.heads = AnswerHeads()  # or, set by the owner, those that all connections to the origin share
        self.origin, self.keep_alive_s = origin, keep_alive_s
        self.slot, self.is_fresh = 0, True
        self.timers = AnswerTimers()
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # llhttp's body callback appends without a frame of Python
        # for one answer
        self._handler: ResponseHandler | None = None
        self._headers: Headers = []
        self._reason = b""
        self._announced = self.is_complete = self._is_informational = self._ends_with_connection = False
        self._is_ambiguous = self._is_reusable = self._is_spoiled = self._paused = False
        self._count = self._head_bytes = 0  # the bytes of the head, and later those beside the body
        self._portions = Portions()
        self._outgoing: LargeRequest | None = None
        self._max_direct_bytes = MAX_PORTION_BYTES
        self._is_yielding = self._is_lost = False
        self._lost_by: Exception | None = None
        self._passes_chunks = self._is_between_chunks = False

    # ---- sending a request

    def send(
        self, handler: ResponseHandler, pieces: list[bytes | memoryview], timeouts: Timeouts, total_due: float | None
    ) -> None:
        """Send a request; `handler` receives the answer. `total_due` is when the whole request must have ended."""
        self._handler = handler
        self._passes_chunks = self._is_between_chunks = False
        self._owner.sweeper.watch(self, self.timers.begin(timeouts, total_due))
        if len(pieces) == 1:
            self.transport.write(pieces[0])
        elif sum([len(piece) for piece in pieces]) <= PORTION_BYTES:
            self.transport.writelines(pieces)
        else:
            self._outgoing = LargeRequest(self._owner.outflow, self.transport, pieces, self.timers)
            handler.on_outgoing(self._outgoing)
            self._outgoing.go_on()

    def pause_writing(self) -> None:
        if self._outgoing is not None:
            self._outgoing.pause()

    def resume_writing(self) -> None:
        if self._outgoing is not None:
            self._outgoing.resume()

    def _drop_outgoing(self) -> bool:
        """Send no more of the request. Returns True if all of it was sent."""
        outgoing, self._outgoing = self._outgoing, None
        if outgoing is None:
            return True
        outgoing.drop()
        return outgoing.is_sent

    def start_idle_timer(self) -> None:
        """The caller has bytes of the answer: the first-byte timer ends, and the idle timer counts from now on."""
        due = self.timers.start_idle()
        if due is not None and self._handler is not None:
            self._owner.sweeper.watch(self, due)

    def hold(self, seconds: float) -> None:
        """Call `on_hold_over` after so many seconds, unless the idle timer has started by then."""
        self._owner.sweeper.watch(self, self.timers.hold(seconds))

    def pause(self) -> None:
        """Read no more until `resume`: the caller is slower than the provider. Meanwhile only the total timeout counts."""
        if self._handler is not None:  # a connection that has answered belongs to the pool, and to the next caller
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self.timers.note_read()
            if not self._portions.is_empty:
                self._yield_turn()
            elif not self._is_yielding:
                self.transport.resume_reading()

    def decode(self, decoder: ContentDecoder) -> None:
        """Give the handler what this makes of the answer's body."""
        self._portions.decoder = decoder
        self._max_direct_bytes = -1

    def pass_chunks(self) -> None:
        """From now on give the handler whole chunks as they came (`on_chunks`), if the answer is framed beyond doubt."""
        self._passes_chunks = not self._is_ambiguous

    def abort(self) -> None:
        """Close at once; the handler hears nothing more. The answer is not wanted."""
        self._handler = None
        self._drop_outgoing()
        self.transport.abort()

    def break_cycle(self) -> None:
        """Let go of the parser, as the connection is closed: the garbage collector runs rarely."""
        if hasattr(self, "parser"):
            del self.parser

    def look(self, now: float) -> float | None:
        """Act on a timer that has run out; returns when to look next. (For Sweeper.)"""
        if self._handler is None:
            due = self.timers.read_at + self.keep_alive_s
            if now >= due:
                self._owner.expired(self)
                return None
            return due
        timers = self.timers
        if now >= timers.total_due:
            self._cut(FailureKind.TOTAL_TIMEOUT, "the whole answer took too long")
            return None
        if self._paused or not self._portions.is_empty:  # the caller is slow, or so are we
            return min(now + 1.0, timers.total_due)
        if timers.ends_hold(now):
            self._handler.on_hold_over()
            return now  # what it has done may have moved the deadlines
        late = timers.late(now)
        if late is not None:
            self._cut(*late)
            return None
        return timers.due

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpResponseParser(self)
        # A length beside chunks does not count (`on_headers_complete`), and spaces after a chunk's size change nothing in how
        # the answer is framed. To refuse either would blame a source that answers well.
        self.parser.set_dangerous_leniencies(lenient_chunked_length=True, lenient_spaces_after_chunk_size=True)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._is_between_chunks and len(data) <= MAX_CHUNKS_BYTES:
            passing = self._handler
            size = size_of_events(data)
            if size and passing is not None:
                # The parser stands between two chunks, before these and after them, and need not see them.
                self.timers.read_in = self._owner.sweeper.tick
                passing.on_chunks(data, size)
                return
        self.timers.note_read()
        handler = self._handler  # an attribute that is compared with None here would count as one that can't become None
        if handler is None:
            self._owner.spoiled(self)  # bytes that nobody asked for
            return
        try:
            try:
                self._feed(data, handler)
            except httptools.HttpParserCallbackError as error:
                if not isinstance(error.__context__, httptools.HttpParserError):
                    raise  # not the answer's fault, but the handler's
                self._is_spoiled = True
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self._is_spoiled = True  # what was understood before the error still counts
                if not self._announced and data.startswith(_TLS_ALERT):
                    self._cut(FailureKind.BROKEN, "it speaks TLS at this port; base_url should begin with https://")
            size = self._deliver() if self._pieces else 0
            if (len(data) - size > _USUAL_BYTES_BESIDE or not size) and not self.is_complete:
                self._count_beside(len(data) - size, size)
            if self.is_complete or self._is_spoiled:
                self._end_read()
            if not (self._passes_chunks and data.endswith(b"\r\n")):
                self._is_between_chunks = False  # the next size may have begun
            if len(data) >= _LARGE_READ_BYTES and self._handler is not None and not self._paused:
                self._yield_turn()  # libuv would read 8 MiB of a socket before it looks at another, be they body or not
        except Exception as error:
            self._fail(error)

    def _feed(self, data: bytes, handler: ResponseHandler) -> None:
        """Parse what was read; unless it is a whole answer with a head as one before, which is recognised."""
        is_first = not (self._announced or self._head_bytes)
        whole = self.heads.read(data) if is_first else None
        if whole is not None:
            self._announced = self.is_complete = self._is_reusable = True
            self._pieces += whole.pieces
            self._count = len(self._pieces)
            handler.on_head(200, whole.reason, whole.headers, whole.fields)
            return
        self.parser.feed_data(data)
        if is_first and self.is_complete and self._is_reusable and not self._is_spoiled:
            self.heads.learn(data, self._headers)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.sweeper.forget(self)
        self._owner.lost(self)
        self._drop_outgoing()
        self.break_cycle()
        self._is_lost, self._lost_by = True, exc
        if self._portions.is_empty and self._handler is not None:  # else what had come before is still the handler's
            self._end_with_connection(exc)

    def _end_with_connection(self, exc: Exception | None) -> None:
        handler = self._handler
        if handler is not None and exc is None and self._announced and self._ends_with_connection:
            self._handler = None
            handler.on_end(is_certain=False)  # a body without a length ends with its connection (RFC 9112 §6.3)
        else:
            self._cut(FailureKind.BROKEN, "the connection broke" if exc is not None else "the connection was closed")

    # ---- callbacks of the parser

    def on_message_begin(self) -> None:
        if self.is_complete:
            self._is_spoiled = True  # a second answer, to no request

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._announced:  # afterwards they are trailers, which are not passed on
            self._headers.append((known_name(name), value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            refuse_interim_body(status, self._headers)
            self._is_informational = True
            self._headers, self._reason = [], b""
        elif not self._announced:
            fields, self._ends_with_connection, self._is_ambiguous = framing(self._headers, self.parser)
            self._announced = True
            if self._handler is not None:
                self._handler.on_head(status, self._reason, self._headers, fields)

    def on_chunk_header(self) -> None:
        self._is_between_chunks = False

    def on_chunk_complete(self) -> None:
        self._is_between_chunks = True

    def on_message_complete(self) -> None:
        if self._is_informational:
            self._is_informational = False
        elif not self.is_complete:
            self.is_complete = True
            self._count = len(self._pieces)
            # An answer with a length beside its chunks, or with chunks in HTTP/1.0, may hide another one from whoever reads it
            # otherwise. So nothing more is read from such a connection (RFC 9112 §6.1, §6.3).
            self._is_reusable = self.parser.should_keep_alive() and not self._is_ambiguous

    # ---- delivering and ending

    def _deliver(self) -> int:
        """Deliver what was read of the body, in portions if it is much; returns how many bytes it is."""
        pieces = self._pieces
        if self.is_complete:
            del pieces[self._count :]
        if not pieces:
            return 0
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        size = len(piece)
        if self._handler is None:
            return size
        if size <= self._max_direct_bytes:
            self._handler.on_body(piece)
        else:
            self._portions.put(piece)
            self._deliver_portion(self._handler)
        return size

    def _count_beside(self, beside: int, size: int) -> None:
        """Bound what comes beside the body, of which `size` bytes came with it: the parser collects some of it."""
        self._head_bytes += max(0, beside - (MAX_BYTES_PER_BODY_BYTE - 1) * size)
        if (excess := excess_beside_body(self._head_bytes, self._announced)) is not None:
            self._cut(FailureKind.BROKEN, excess)

    def _deliver_portion(self, handler: ResponseHandler) -> None:
        """Deliver the next portion. The others have their turns, while nothing is read."""
        portions = self._portions
        if handler.is_light and portions.decoder is None:
            handler.on_body(portions.take_all())
            return
        try:
            portion = portions.take()
        except ValueError:
            self._cut(FailureKind.BROKEN, "its compressed answer can't be decoded")
            return
        if portion:
            handler.on_body(portion)
        if not portions.is_empty and not self._paused and self._handler is not None:
            self._yield_turn()

    def _yield_turn(self) -> None:
        """Go on in the next turn of the loop, after everybody else."""
        if not self._is_yielding:
            self._is_yielding = True
            if not self.transport.is_closing():
                self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_yielding = False
        try:
            if self._handler is not None and not self._portions.is_empty and not self._paused:  # else `resume` goes on
                self._deliver_portion(self._handler)
                self._end_read()
        except Exception as error:
            self._fail(error)
        if not (self._paused or self._is_yielding or self.transport.is_closing()):
            self.transport.resume_reading()

    def _end_read(self) -> None:
        """Tell the end, if that has come and everything before it is delivered."""
        if not self._portions.is_empty:
            return
        if self.is_complete:
            self._finish()
        elif self._is_spoiled:
            self._cut(FailureKind.BROKEN, "its answer is not HTTP")
        elif self._is_lost:
            self._end_with_connection(self._lost_by)

    def _fail(self, error: Exception) -> None:
        """Cut the answer after a failure of the gateway's own."""
        if self._handler is None:
            raise error  # the handler expects nothing more; the loop reports it
        _log.exception("an answer of %s failed inside the gateway", self.origin.host)
        self._cut(FailureKind.BROKEN, "the gateway failed")

    def _finish(self) -> None:
        """The answer is whole: make room for the next, then tell."""
        handler, self._handler = self._handler, None
        transport = self.transport
        is_sent = self._drop_outgoing() and not transport.get_write_buffer_size()  # else it did not hear the request out
        if self._is_reusable and is_sent and not self._is_spoiled and not transport.is_closing():
            if self.is_fresh and self.origin.scheme == "https":
                self._owner.remember_session(self)
            self._headers, self._reason = [], b""
            self._announced = self.is_complete = self.is_fresh = False
            self._head_bytes = 0
            self._portions.begin()
            self._max_direct_bytes = MAX_PORTION_BYTES
            self.resume()
            self._owner.put_back(self)
        else:
            transport.abort()
        if handler is not None:
            handler.on_end(is_certain=True)

    def _cut(self, kind: FailureKind, detail: str) -> None:
        handler, self._handler = self._handler, None
        self._drop_outgoing()
        self.transport.abort()
        if handler is not None:
            handler.on_cut(kind, detail, nothing_came=not self._announced and self._head_bytes == 0)
