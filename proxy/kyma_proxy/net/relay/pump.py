"""Moves one answer from a provider's connection to a caller's: head, hold, commit, write, end. No coroutine is involved.

Each piece is written in the very call in which it came. Before the first piece of an answer goes out another source may still
be tried; that moment is the commit. What the answer means is the body's matter, and what follows from it the listener's.
(Contract §4.)
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

from kyma_proxy.core.exchange import AttemptRecord
from kyma_proxy.core.http.chunks import joined_body
from kyma_proxy.core.http.content_coding import ContentDecoder, content_decoder
from kyma_proxy.core.http.headers import KEEP_ALIVE, AnswerHead, encode_answer_head
from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, Retry
from kyma_proxy.core.routing.retry_after import bounded_hints
from kyma_proxy.dialect.answers.facts import BadAnswer
from kyma_proxy.dialect.answers.passed_chunks import PassedChunks
from kyma_proxy.dialect.answers.reader import AnswerReader
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.errors import GatewayError
from kyma_proxy.net.downstream.connection import DownstreamConnection
from kyma_proxy.net.relay.body import Body
from kyma_proxy.net.relay.redaction import Redactor, masked
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.outflow import LargeRequest
from kyma_proxy.net.upstream.response_handler import ResponseHandler

monotonic: Final = time.monotonic  # compiled, a constant is read without a look-up
_log: Final = logging.getLogger("kyma-proxy")
MAX_ERROR_BYTES: Final = 64 * 1024
"""How much is held of the body of a provider's error, to read whose trouble it is."""
_HOLD_S: Final = 1.0
"""With `hold: 0` this is how long a whole answer, or a stream's first event of which a part is there, is held."""
A = TypeVar("A", bound=AttemptRecord)


class PumpListener(ABC, Generic[A]):
    """Decides about the answers of attempts.

    Each attempt ends with exactly one of `on_failed`, `on_done`, `on_broken` and `on_crash`; the middle two follow `on_commit`.
    """

    __slots__ = ()

    @abstractmethod
    def judge(self, attempt: A, head: AnswerHead) -> AttemptFailure | None:
        """The failure that an answer with this head is; None if it is for the caller."""

    @abstractmethod
    def judge_error(self, attempt: A, head: AnswerHead, body: bytes) -> AttemptFailure | None:
        """The failure that an error with this body is; None if it is for the caller."""

    @abstractmethod
    def secrets(self, attempt: A) -> tuple[bytes, ...]:
        """The credentials that the source was sent, which no caller may see."""

    @abstractmethod
    def on_commit(self, attempt: A, head: AnswerHead) -> bytes:
        """The answer begins to go out: no other may. Returns the gateway's own lines of its head."""

    @abstractmethod
    def on_done(self, attempt: A) -> None:
        """The answer has gone out whole."""

    @abstractmethod
    def on_failed(self, attempt: A, failure: AttemptFailure) -> None:
        """There is no answer, and nothing has gone out."""

    @abstractmethod
    def on_broken(self, attempt: A, failure: AttemptFailure) -> None:
        """The answer broke off after the commit. The listener ends it with `Pump.cut_short`."""

    @abstractmethod
    def on_crash(self, attempt: A) -> None:
        """The gateway itself has failed, before or after the commit; its log says how."""


class Pump(ResponseHandler, Generic[A]):
    """One attempt's answer. `bytes_out` counts what has gone out of its body; `reader` says what the source's answer says."""

    __slots__ = (
        "_attempt", "_chunked", "_closing", "_decoder", "_dialect", "_downstream", "_error", "_head", "_hold_s", "_inbound",
        "_is_holding", "_listener", "_passed", "_redactor", "_write", "body", "bytes_out", "connection", "has_begun",
        "is_reused", "reader", "received_at",
    )  # fmt: skip

    connection: UpstreamConnection
    _head: AnswerHead
    _passed: PassedChunks

    def __init__(
        self, attempt: A, listener: PumpListener[A], body: Body, downstream: DownstreamConnection, *, inbound: Inbound,
        dialect: Dialect, reader: AnswerReader, hold_s: float,
    ) -> None:  # fmt: skip
        """`dialect` is the caller's. An answer that says nothing yet is held for `hold_s` seconds at the most."""
        self._attempt = attempt
        self._listener = listener
        self._downstream = downstream
        self._inbound = inbound
        self._dialect = dialect
        self._write = downstream.transport.write
        self._hold_s = hold_s
        self._decoder: ContentDecoder | None = None
        self._redactor: Redactor | None = None
        self._error: bytearray | None = None
        self.body, self.reader = body, reader
        self.bytes_out = 0
        self._is_holding = self.is_reused = self.has_begun = False
        # known with the commit
        self._chunked = self._closing = False
        self.received_at = 0.0

    def begin(self, connection: UpstreamConnection, *, is_reused: bool) -> None:
        """From now on this connection brings the answer. `is_reused`: it was idle, and may be stale."""
        self.connection, self.is_reused = connection, is_reused

    # ---- ResponseHandler. Whatever raises in here ends the attempt: the connection tells nobody else.

    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        try:
            self._on_head(status, reason, headers, fields)
        except Exception:
            self._crash()

    def on_body(self, piece: bytes) -> None:
        try:
            if self._redactor is not None or not self.has_begun:
                self._on_body(piece)
                return
            self.reader.add(piece)
            out = self.body.feed(piece) if self.body.changes else piece
            if out:
                size = len(out)
                self.bytes_out += size
                self._write(b"%x\r\n%b\r\n" % (size, out) if self._chunked else out)
        except BadAnswer as bad:
            self._end_early(bad)
        except Exception:
            self._crash()

    def on_chunks(self, chunks: bytes, size: int) -> None:
        try:
            if self.body.changes and not self.body.passes(chunks, size):
                self.on_body(joined_body([chunks]))
                return
            self._passed.add(chunks, size)
            self.bytes_out += size
            self._write(chunks)
        except Exception:
            self._crash()

    @property
    def is_light(self) -> bool:
        return self.has_begun and not self.body.changes and not self.reader.is_searching

    def on_outgoing(self, outgoing: LargeRequest) -> None:
        self.body.send_more(outgoing)

    def on_hold_over(self) -> None:
        try:
            if self._is_holding and not self.reader.is_open:
                self.reader.let_go()
                self._let_out()
        except BadAnswer as bad:
            self._end_early(bad)
        except Exception:
            self._crash()

    def on_end(self, *, is_certain: bool) -> None:
        try:
            self._on_end(is_certain=is_certain)
        except BadAnswer as bad:
            self._end_badly(bad)
        except Exception:
            self._crash()

    def on_cut(self, kind: FailureKind, detail: str, *, nothing_came: bool) -> None:
        try:
            self._on_cut(kind, detail, nothing_came=nothing_came)
        except BadAnswer as bad:
            self._end_badly(bad)
        except Exception:
            self._crash()

    def _crash(self) -> None:
        _log.exception("request %s failed inside the gateway", self._inbound.request_id)
        self._listener.on_crash(self._attempt)

    def _on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        head = self._head = AnswerHead(status, reason, headers, fields)
        failure = self._listener.judge(self._attempt, head)
        if failure is not None:
            self.connection.abort()
            self._listener.on_failed(self._attempt, failure)
            return
        coding = fields.get(b"content-encoding")
        if coding is not None:
            try:
                self._decoder = content_decoder(coding)
            except ValueError as error:
                self.connection.abort()
                self._fail(FailureKind.NO_ANSWER, str(error))
                return
            if self._decoder is not None:
                self.connection.decode(self._decoder)
                head.decode()
        has_length = b"content-length" in fields
        self.reader.begin(
            streams=head.streams, has_length=has_length, is_unframed=not has_length and b"transfer-encoding" not in fields
        )

    def _on_body(self, piece: bytes) -> None:
        """Take a piece of an error that goes out masked, or of an answer that has not begun to go out."""
        try:
            if self._redactor is not None:
                self._put(self._redactor.mask(piece))
            else:
                self._open(piece)
        except BadAnswer as bad:
            self._end_early(bad)

    def _open(self, piece: bytes) -> None:
        """Take a piece before the commit: hold it until it is known whether this is an answer."""
        reader = self.reader
        if self._head.is_error:
            self._hold_error(piece)
            return
        if reader.is_open:  # it has said something, but its translation has not
            reader.add(piece)
            opening = self.body.feed(piece)
            if opening is not None:
                self._commit(opening)
        elif reader.open(piece):
            self._let_out()
        elif not self._hold_s and reader.streams and reader.is_between_events:
            reader.let_go()
            self._let_out()
        elif not self._is_holding and not self.connection.is_complete:
            self._is_holding = True
            self.connection.hold(self._hold_s or _HOLD_S)

    def _let_out(self) -> None:
        """Pass on what has been held."""
        self.body.begin(self._head, streams=self.reader.streams)
        opening = self.body.feed(self.reader.take())
        if opening is not None:
            self._commit(opening)

    def _on_end(self, *, is_certain: bool) -> None:
        if self._decoder is not None:
            if not self._decoder.is_whole() and not self.reader.is_complete:
                raise BadAnswer(FailureKind.BROKEN, "its compressed answer is cut")
            is_certain = True
        if self._head.is_error:
            self._end_error()
            return
        reader = self.reader
        was_open = reader.is_open
        reader.finish(is_certain=is_certain, needs_usage=not self.body.is_translated)
        opening = b""
        if not was_open:
            self.body.begin(self._head, streams=reader.streams)
            opening = self.body.feed(reader.take()) or b""
        self._finish(opening + self.body.finish() if self.body.changes else opening)

    def _end_error(self) -> None:
        """The body of an error is there: it is the caller's, or the operator's trouble."""
        if self.has_begun:
            self._finish(b"" if self._redactor is None else self._redactor.flush())
            return
        body = b"" if self._error is None else bytes(self._error)
        failure = self._listener.judge_error(self._attempt, self._head, body)
        if failure is not None:
            self._listener.on_failed(self._attempt, failure)
            return
        if self._head.length is None:
            self._head.length = b"%d" % len(body)
        opening = self._error_opening(masked(body, self._listener.secrets(self._attempt))) or b""
        self._finish(opening + self.body.finish())

    def _hold_error(self, piece: bytes) -> None:
        """Hold the body of an error. What is too long to be read passes, or is left out where it must be translated."""
        held = self._error
        if held is None:
            held = self._error = bytearray()
        if len(held) <= MAX_ERROR_BYTES:
            held += piece
        if not self.body.changes and len(held) > MAX_ERROR_BYTES:
            redactor = self._redactor = Redactor(self._listener.secrets(self._attempt))
            opening = self._error_opening(redactor.mask(bytes(held)))
            if opening is not None:
                self._commit(opening)

    def _error_opening(self, body: bytes) -> bytes | None:
        """Begin to pass on a provider's error, in which no key is left. Its length stays, as the head has told it."""
        for name, value in bounded_hints(self._head.fields, time.time()):
            self._head.set_field(name, value)
        self.body.begin(self._head, streams=False)
        return self.body.feed(body)

    def _on_cut(self, kind: FailureKind, detail: str, *, nothing_came: bool) -> None:
        if not self.has_begun:
            is_stale = nothing_came and kind is FailureKind.BROKEN and self.is_reused and not self.body.is_once
            retry = Retry.SAME_SOURCE_FRESH_CONNECTION if is_stale else Retry.NEXT_SOURCE
            self._fail(kind, detail, retry=retry, nothing_came=nothing_came and kind is FailureKind.BROKEN)
        elif self.reader.is_complete and self.body.is_finished:  # the connection's end takes nothing away
            self._on_end(is_certain=True)
        else:
            self._break(kind, detail)

    def _end_early(self, bad: BadAnswer) -> None:
        self.connection.abort()
        self._end_badly(bad)

    def _end_badly(self, bad: BadAnswer) -> None:
        if self.has_begun:
            self._put(bad.last)
            self._break(bad.kind, bad.detail)
        else:
            self._fail(bad.kind, bad.detail, status=bad.status)

    # ---- the commit and the ways out

    def _commit(self, opening: bytes) -> None:
        head, inbound = self._head, self._inbound
        added = self._listener.on_commit(self._attempt, head)
        self.has_begun = True
        is_http_10 = inbound.is_http_10
        self._chunked = head.length is None and not is_http_10 and head.status not in (204, 304)
        self._closing = not inbound.keep_alive or (is_http_10 and head.length is None) or self._downstream.will_close
        if is_http_10 and not self._closing:
            added += KEEP_ALIVE
        encoded = encode_answer_head(head, self._attempt.step.source, added, chunked=self._chunked, close=self._closing)
        size = self.bytes_out = len(opening)
        if size and self._chunked:
            self._write(b"%b%x\r\n%b\r\n" % (encoded, size, opening))
        else:
            self._write(encoded + opening)
        head.release()
        connection = self.connection
        self.received_at = connection.timers.read_at
        self._attempt.first_byte = monotonic()
        connection.start_idle_timer()
        passes = self._chunked and self._decoder is None and self._redactor is None and not self.body.is_translated
        if passes and (passed := self.reader.passed_chunks()) is not None:
            self._passed = passed
            connection.pass_chunks()
        if not self._downstream.is_writable:
            connection.pause()

    def _put(self, piece: bytes) -> None:
        size = len(piece)
        if size:
            self.bytes_out += size
            self._write(b"%x\r\n%b\r\n" % (size, piece) if self._chunked else piece)

    def _finish(self, last: bytes) -> None:
        if self.has_begun:
            self._put(last)
        else:
            self._commit(last)
        if self._chunked:
            self._write(b"0\r\n\r\n")
        self._listener.on_done(self._attempt)  # which only schedules; what follows may begin the next request
        self._downstream.finish(close=self._closing)

    def _fail(
        self, kind: FailureKind, detail: str, *, status: int = 0, retry: Retry = Retry.NEXT_SOURCE, nothing_came: bool = False
    ) -> None:
        attempt = self._attempt
        failure = AttemptFailure(kind, attempt.provider, detail, status, retry=retry, nothing_came=nothing_came)
        self._listener.on_failed(attempt, failure)

    def _break(self, kind: FailureKind, detail: str) -> None:
        attempt = self._attempt
        self._listener.on_broken(attempt, AttemptFailure(kind, attempt.provider, detail))

    def cut_short(self, error: GatewayError) -> None:
        """End a committed answer so that the caller can see that it is not whole. (Contract §4.4.)"""
        head = self._head
        if self.body.has_reported_error or self.reader.error is not None:
            self._downstream.finish(close=True)  # the source's own error event says it
            return
        if not head.streams or head.length is not None:
            # Without a length and without chunks, an ordinary close would look like the answer's end.
            self._downstream.abort(reset=head.length is None and not self._chunked)
            return
        between_events = self.body.is_between_events
        if between_events is None:
            between_events = self.reader.is_between_events
        event = self._dialect.error_event_at(self._inbound.path)(error, self._inbound.request_id, between_events)
        self._write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)
        # No last chunk: a client that does not read the event still sees an incomplete answer.
        self._downstream.finish(close=True)
