"""This file is the pump: one answer on its way from a provider's connection to a caller's, without a coroutine.

Each piece is written out in the very call in which it came in. Before the first piece of a 2xx answer goes out another
source may still be tried; that moment is the commit, and it is taken here, synchronously. (Contract §4.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.exchange import ANSWERED, Attempt, Event, Exchange
from kyma_proxy.core.http.body import is_json
from kyma_proxy.core.http.headers import KEEP_ALIVE, encode_answer_head
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.http.sample import Sample
from kyma_proxy.core.http.source_request import request_bytes
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, moves_on
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.core.routing.retry_after import retry_after
from kyma_proxy.dialect import sse
from kyma_proxy.dialect.completion_estimate import estimated_completion_tokens
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.registry import DIALECTS
from kyma_proxy.dialect.usage_filter import UsageFilter
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.contract import Downstream
from kyma_proxy.net.inline_coroutine import OneShotFuture
from kyma_proxy.net.upstream.connection import UpstreamConnection, monotonic


class Relay:
    """One attempt's answer. Once it `is_over`, `failed` says why its source did not answer; None where it did.

    `running` are all attempts that are under way for the request, this one among them: the first to commit drops the
    others, which `was_dropped` tells of. `ended` hears of the end; it has a listener only while somebody waits.
    """

    __slots__ = (
        "_added_head",
        "_caller",
        "_chunked",
        "_dialect",
        "_exchange",
        "_fields",
        "_has_begun",
        "_has_length",
        "_headers",
        "_held",
        "_is_asked",
        "_is_error",
        "_is_last",
        "_reason",
        "_running",
        "_sample",
        "_source",
        "_status",
        "_streams",
        "_withholding",
        "_write",
        "asked_at",
        "attempt",
        "broke_by",
        "dialling",
        "ended",
        "failed",
        "is_over",
        "is_reused",
        "is_trial",
        "needs_fresh",
        "step",
        "total_due",
        "upstream",
        "waited_s",
        "was_dropped",
        "was_stale",
    )  # fmt: skip

    upstream: UpstreamConnection

    def __init__(
        self, exchange: Exchange, step: Step, caller: Downstream, attempt: Attempt, dialect: Dialect,
        *, running: list[Relay], total_due: float | None, is_last: Callable[[], bool],
        added_head: Callable[[Exchange, Step], bytes],
    ) -> None:  # fmt: skip
        self.step = step
        self.attempt = attempt
        self.total_due = total_due
        self.is_trial = False
        self.ended: OneShotFuture[Relay | None] | None = None
        self.failed: AttemptFailure | None = None
        self.is_over = self.was_dropped = False
        self.was_stale = self.needs_fresh = self.is_reused = False
        self.broke_by: FailureKind | None = None
        self.asked_at = self.waited_s = 0.0
        self.dialling: asyncio.Task[UpstreamConnection] | None = None
        self._exchange = exchange
        self._caller = caller
        self._dialect = dialect
        self._source = DIALECTS[step.source.provider.dialect]
        self._running = running
        self._is_last = is_last
        self._is_asked = False
        self._added_head = added_head
        self._has_begun = False
        # known with the head
        self._status = 0
        self._reason = b""
        self._headers: Headers = []
        self._fields: dict[bytes, bytes] = {}
        self._has_length = False
        self._is_error = False
        self._streams = False
        self._held = b""
        # known with the commit
        self._chunked = False
        self._withholding: UsageFilter | None = None
        self._sample = Sample()
        self._write = caller.transport.write

    # ---- what the provider's connection tells it

    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        self._status = status
        self._reason = reason
        self._headers = headers
        self._fields = fields
        self._has_length = b"content-length" in fields
        self._is_error = not 200 <= status < 300
        if moves_on(status, is_last=status == 404 and self._is_last()):
            self._fail(FailureKind.STATUS, f"answered {status}", status, retry_after(fields))
            return
        kind = fields.get(b"content-type", b"")
        self._streams = kind.lower().startswith(b"text/event-stream") and not self._is_error
        # A compressed stream can't be looked into: it goes out as it is.
        if self._streams and fields.get(b"content-encoding", b"identity").lower() != b"identity":
            self._streams = False

    def on_body(self, piece: bytes) -> None:
        exchange = self._exchange
        if not self._has_begun:
            if self.is_over:
                return
            if self._streams and not self._held_is_fine(piece):
                return
            piece = self._held + piece
            self._held = b""
            self._commit(piece)
            return
        self._sample.add(piece)
        if self._withholding is not None:
            piece = self._withholding.feed(piece)
            if not piece:
                return
        size = len(piece)
        exchange.bytes_out += size
        self._write(b"%x\r\n%b\r\n" % (size, piece) if self._chunked else piece)

    def on_end(self, *, is_certain: bool) -> None:
        if not self._has_begun:
            if self.is_over or not self._may_end(is_certain=is_certain):
                return
            self._commit(self._held)
        elif not is_certain and not self._is_finished():
            self.broke_by = FailureKind.BROKEN
            self._break("the connection was closed before the answer's end")
            return
        self._finish()

    def on_cut(self, failure: FailureKind, detail: str, *, nothing_came: bool) -> None:
        if self.is_over:
            return
        if self._has_begun:
            if self._has_told_its_end():
                self._finish()
                return
            self.broke_by = failure
            self._break(detail)
            return
        self.was_stale = nothing_came and failure is FailureKind.BROKEN and self.is_reused
        self._resolve(AttemptFailure(failure, self.step.source.provider.name, detail))

    # ---- what the gateway and the caller's connection tell it

    def pause(self) -> None:
        """The caller is slow: let the provider wait."""
        self.upstream.pause()

    def resume(self) -> None:
        """The caller has caught up."""
        self.upstream.resume()

    def leave(self) -> None:
        """The caller has left."""
        self.abandon(Event.LEAVE)

    def drop(self) -> None:
        """The answer is not wanted any more, nor any other: close the providers' connections at once, and tell nobody."""
        self._drop()
        self._drop_others()

    def begin(self, connection: UpstreamConnection) -> None:
        """From now on this connection brings the answer."""
        self.upstream = connection
        self.dialling = None
        self._is_asked = True

    def request(self) -> list[bytes | memoryview]:
        """The bytes of the request to the source."""
        exchange = self._exchange
        assert exchange.routing is not None  # noqa: S101  (routed)
        return request_bytes(exchange, self.step.source, exchange.inbound.body, exchange.routing)

    def unreachable(self, failure: FailureKind, detail: str) -> None:
        """There is no connection over which the source could be asked."""
        self.dialling = None
        if not self.is_over:
            self._resolve(AttemptFailure(failure, self.step.source.provider.name, detail))

    def let_go(self) -> None:
        """Nobody waits any more; what has not begun to go out is not wanted, and says nothing of its source."""
        self.ended = None
        if not self._has_begun:
            self._drop()
        self.step.health.abandoned(is_trial=self.is_trial)

    def again(self) -> Relay:
        """Begin anew, over a fresh connection."""
        self.is_over = self.was_stale = False
        self.failed = None
        self.needs_fresh = True
        self._is_asked = False
        return self

    def _drop(self) -> bool:
        if self.is_over:
            return False
        self.is_over = self.was_dropped = True
        self.step.health.abandoned(is_trial=self.is_trial)
        self.is_trial = False
        self.waited_s = monotonic() - self.asked_at
        if self._is_asked:
            self.upstream.abandon()
        elif self.dialling is not None:
            self.dialling.cancel()
            self.dialling = None
        return True

    def _drop_others(self) -> bool:
        """Close the connections of all other attempts; says whether there was any."""
        dropped = False
        for other in self._running:
            if other is not self and other._drop():
                dropped = True
        return dropped

    def abandon(self, event: Event) -> None:
        """The caller left, or the gateway goes down; nothing, where the answer is over already."""
        were_others = self._drop_others()
        if self.is_over:
            if were_others:
                self._exchange.step(event)
            return
        self.upstream.abandon()
        if event is Event.DRAIN:
            self._tell_the_truth(GatewayError(Kind.DRAINING, "The gateway is going down; send the request again."))
        self._exchange.step(event)
        self._resolve(None)

    def usage(self) -> Usage:
        """What the provider reported, read from the answer's ends once they have gone out."""
        return self._source.read_usage(self._sample.opening, self._sample.tail)

    def delivered(self) -> int:
        """About how many tokens of the answer went out."""
        sample = self._sample
        return estimated_completion_tokens(sample.opening, sample.tail, self._exchange.bytes_out, self._streams)

    # ---- the commit and the ways out

    def _held_is_fine(self, piece: bytes) -> bool:
        """Whether the stream may go out: its first event has come and is no error."""
        held = self._held + piece
        event = sse.first_event(held)
        if event is None:
            self._held = held
            return False
        if event and self._source.is_error(event):
            self._fail(FailureKind.ERROR_EVENT, "its stream began with an error", self._status, None)
            return False
        return True

    def _is_finished(self) -> bool:
        """Whether an answer whose end only its connection's end tells is whole, as far as its bytes can say."""
        sample = self._sample
        if sample.is_all and not self._streams:
            return is_json(sample.tail)
        return self._source.is_finished(sample.tail, self._streams)

    def _has_told_its_end(self) -> bool:
        """Whether the stream that has gone out says of itself that it is whole: its connection's end takes nothing away."""
        tail = self._sample.tail
        return (
            self._streams and not self._has_length and sse.ends_between_events(tail) and self._dialect.is_finished(tail, True)
        )

    def _may_end(self, *, is_certain: bool) -> bool:
        """Whether what came, of which nothing has gone out, is an answer; else the next source may be tried."""
        held = self._held
        provider = self.step.source.provider.name
        if not is_certain and not self._is_error and not self._source.is_finished(held, self._streams):
            self._resolve(AttemptFailure(FailureKind.BROKEN, provider, "the connection was closed before the answer's end"))
            return False
        if self._streams and not held:
            self._resolve(AttemptFailure(FailureKind.BROKEN, provider, "its stream was empty"))
            return False
        if held and self._source.is_error(sse.first_event(held + b"\n\n") or b""):
            self._resolve(AttemptFailure(FailureKind.ERROR_EVENT, provider, "its stream began with an error", self._status))
            return False
        return True

    def _commit(self, piece: bytes) -> None:
        exchange = self._exchange
        exchange.step(Event.REFUSE if self._is_error else Event.COMMIT)
        self._has_begun = True
        self.attempt.result = ANSWERED
        if exchange.answering is not self:  # another was asked after this one
            exchange.answering = self
            self._caller.attach(self)
        self._drop_others()
        exchange.status = self._status
        exchange.answered_by = self.step.source
        exchange.model = self.step.model
        exchange.layer = self.step.layer
        exchange.provider_request_id = _provider_request_id(self._fields)
        is_http_10 = exchange.inbound.is_http_10
        has_body = self._status not in (204, 304)
        self._chunked = has_body and not self._has_length and not is_http_10
        exchange.closing = not exchange.inbound.keep_alive or (is_http_10 and not self._has_length) or self._caller.will_close
        added = self._added_head(exchange, self.step)
        if is_http_10 and not exchange.closing:
            added += KEEP_ALIVE
        head = encode_answer_head(
            self._status, self._reason, self._headers, added,
            length=self._fields.get(b"content-length"), chunked=self._chunked, close=exchange.closing,
        )  # fmt: skip
        self._sample.add(piece)
        if self._streams and exchange.asks_for_usage(self.step.source):
            self._withholding = UsageFilter()
            piece = self._withholding.feed(piece)
        size = len(piece)
        exchange.bytes_out = size
        if size:
            self._write(b"%b%x\r\n%b\r\n" % (head, size, piece) if self._chunked else head + piece)
        else:
            self._write(head)
        # From here no other source is asked: the prompt need not be kept, and of the answer's head nothing but its length.
        exchange.inbound.body = b""
        self._headers = []
        self._fields = {}
        now = exchange.first_byte = monotonic()
        exchange.overhead_s += now - self.upstream.read_at
        self.waited_s = now - self.asked_at
        if self._status == 404:
            self.step.health.abandoned(is_trial=self.is_trial)
        else:
            first_byte_s = None if self._is_error else now - self.upstream.sent_at  # to refuse is no feat
            self.step.health.answered(now, is_trial=self.is_trial, streams=self._streams, first_byte_s=first_byte_s)
        self.is_trial = False
        self.upstream.answer_began()
        if not self._caller.is_writable:
            self.upstream.pause()

    def _write_held(self, piece: bytes) -> None:
        """Write the last bytes of a stream that were held back to be looked at."""
        size = len(piece)
        if size:
            self._exchange.bytes_out += size
            self._write(b"%x\r\n%b\r\n" % (size, piece) if self._chunked else piece)

    def _finish(self) -> None:
        """The answer has come whole, and but for what is held of it gone out."""
        exchange = self._exchange
        if self._withholding is not None:
            self._write_held(self._withholding.flush())
        exchange.step(Event.END)
        if self._chunked:
            self._write(b"0\r\n\r\n")
        self._resolve(None)  # which only schedules; what follows may begin the next request
        self._caller.finish(close=exchange.closing)

    def _fail(self, failure: FailureKind, detail: str, status: int, retry_after: int | None) -> None:
        self.upstream.abandon()
        self._resolve(AttemptFailure(failure, self.step.source.provider.name, detail, status, retry_after))

    def _break(self, detail: str) -> None:
        """The provider stopped in mid-answer. Never pass it off as finished. (Contract §4.4.)"""
        name = self.step.source.provider.name
        self._tell_the_truth(
            GatewayError(Kind.PROVIDER_ERROR, f"The provider {name} stopped in the middle of its answer: {detail}.")
        )
        self._exchange.step(Event.CUT)
        self._resolve(None)

    def _tell_the_truth(self, error: GatewayError) -> None:
        """End a committed answer so that the caller can see that it is not whole."""
        exchange = self._exchange
        if not self._streams or self._has_length:
            # Where there is neither a length nor chunks, an ordinary close would look like the answer's end.
            self._caller.abort(reset=not self._has_length and not self._chunked)
            return
        between = sse.ends_between_events(self._sample.tail)
        event = self._dialect.error_event(error, exchange.inbound.request_id, between)
        self._write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)
        # No last chunk: a client that does not read the event still sees an incomplete answer.
        self._caller.finish(close=True)

    def _resolve(self, failed: AttemptFailure | None) -> None:
        self.is_over = True
        self.failed = failed
        ended, self.ended = self.ended, None  # the two would refer to each other
        if ended is not None:
            ended.tell(self)


def _provider_request_id(fields: dict[bytes, bytes]) -> str | None:
    value = fields.get(b"x-request-id") or fields.get(b"request-id")
    return value.decode("latin-1")[:128] if value is not None else None
