"""Turns the body of a source's answer into the caller's: unchanged, without the usage that the gateway asked for, or translated.

A body also makes the request that it answers, as both depend on the source's dialect. (Contract §3, §4.)
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Final

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import is_json, read_routing_fields
from kyma_proxy.core.http.headers import AnswerHead, encode_request_head
from kyma_proxy.core.http.sample import Sample
from kyma_proxy.core.http.source_request import request_bytes
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.core.routing.plan import SUBSTITUTE, Step
from kyma_proxy.dialect import sse
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.completion_estimate import estimated_completion_tokens
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.registry import DIALECTS, refuse_blind, translation
from kyma_proxy.dialect.thinking_signature import may_hold_unsigned, without_unsigned
from kyma_proxy.dialect.translation import StreamTranslation, Translation
from kyma_proxy.dialect.usage_filter import UsageFilter

MAX_WHOLE_BYTES: Final = 64 * 1024 * 1024
"""A whole answer must be there before it can be translated; a larger one is a failure."""


class BadAnswer(Exception):
    """What a source has sent is no answer, or no whole one. `last` are bytes that still go to the caller."""

    def __init__(self, kind: FailureKind, detail: str, *, last: bytes = b"") -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.last = last


class Body(ABC):
    """One attempt's request and the body of its answer.

    The calls come in this order: `request` (again for a fresh connection), `begin`, `feed` for each piece, `finish`. `dropped`
    names what the other dialect has no place for; it is known before the first bytes are returned.
    """

    __slots__ = ("dropped",)

    dropped: tuple[str, ...]

    @abstractmethod
    def request(self) -> list[bytes | memoryview]:
        """The bytes of the request for the source."""

    @abstractmethod
    def begin(self, head: AnswerHead) -> None:
        """The head has come. It may be changed until the first bytes are returned."""

    @abstractmethod
    def feed(self, piece: bytes) -> bytes | None:
        """The bytes for the caller, or None while it is not known whether this is an answer. Raises BadAnswer."""

    @abstractmethod
    def finish(self, *, is_certain: bool) -> bytes:
        """The last bytes for the caller. `is_certain` is False if only the connection's end says that the answer is whole.

        Raises BadAnswer if it is not whole, or is no answer.
        """

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """True if the stream that has gone out says of itself that it is whole."""

    @property
    @abstractmethod
    def is_between_events(self) -> bool:
        """True if the stream that has gone out stands between two events."""

    @property
    @abstractmethod
    def has_reported_error(self) -> bool:
        """True if an error event of the source's has told the caller that the answer will not be whole."""

    @abstractmethod
    def usage(self) -> Usage:
        """The usage that the source reported."""

    @abstractmethod
    def delivered(self, size: int) -> int:
        """About how many tokens have gone out in `size` bytes."""


class PassthroughBody(Body):
    """The caller's dialect is the source's: bytes pass unchanged."""

    __slots__ = ("_dialect", "_exchange", "_has_begun", "_has_length", "_held", "_is_error", "_sample", "_source", "_streams",
                 "_strips_unsigned")  # fmt: skip

    def __init__(self, exchange: Exchange, step: Step, dialect: Dialect, *, strips_unsigned: bool) -> None:
        """`strips_unsigned`: thoughts that nobody has signed are taken out of the request."""
        self.dropped = ()
        self._exchange = exchange
        self._source = step.source
        self._dialect = dialect
        self._strips_unsigned = strips_unsigned
        self._has_begun = self._has_length = self._is_error = self._streams = False
        self._held = b""
        self._sample = Sample()

    def request(self) -> list[bytes | memoryview]:
        exchange = self._exchange
        body, routing = exchange.inbound.body, exchange.routing
        assert routing is not None  # noqa: S101  (routed)
        if self._strips_unsigned:
            body, self.dropped = without_unsigned(body)
            routing = read_routing_fields(body)
        return request_bytes(exchange, self._source, body, routing)

    def begin(self, head: AnswerHead) -> None:
        self._streams = head.streams
        self._is_error = head.is_error
        self._has_length = head.length is not None

    def feed(self, piece: bytes) -> bytes | None:
        if not self._has_begun:
            held = self._held + piece
            if self._streams and not self._is_answer(held):
                return None
            self._has_begun = True
            self._held = b""
            piece = held
        self._sample.add(piece)
        return piece

    def _is_answer(self, held: bytes) -> bool:
        """True if the stream's first event has come and is no error. Raises BadAnswer if it is one."""
        event = sse.first_event(held)
        if event is None:
            self._held = held
            return False
        if event and self._dialect.is_error(event):
            raise BadAnswer(FailureKind.ERROR_EVENT, "its stream began with an error")
        return True

    def finish(self, *, is_certain: bool) -> bytes:
        if self._has_begun:
            if not is_certain and not self._is_whole():
                raise BadAnswer(FailureKind.BROKEN, "the connection was closed before the answer's end")
            return b""
        held = self._held
        if not is_certain and not self._is_error and not self._dialect.is_finished(held, self._streams):
            raise BadAnswer(FailureKind.BROKEN, "the connection was closed before the answer's end")
        if self._streams and not held:
            raise BadAnswer(FailureKind.BROKEN, "its stream was empty")
        if held and self._dialect.is_error(sse.first_event(held + b"\n\n") or b""):
            raise BadAnswer(FailureKind.ERROR_EVENT, "its stream began with an error")
        self._has_begun = True
        self._sample.add(held)
        return held

    def _is_whole(self) -> bool:
        """True if an answer that ends with its connection is whole, as far as its bytes can say."""
        sample = self._sample
        if sample.is_all and not self._streams:
            return is_json(sample.tail)
        return self._dialect.is_finished(sample.tail, self._streams)

    @property
    def is_complete(self) -> bool:
        tail = self._sample.tail
        return (
            self._streams and not self._has_length and sse.ends_between_events(tail) and self._dialect.is_finished(tail, True)
        )

    @property
    def is_between_events(self) -> bool:
        return sse.ends_between_events(self._sample.tail)

    @property
    def has_reported_error(self) -> bool:
        return False

    def usage(self) -> Usage:
        return self._dialect.read_usage(self._sample.opening, self._sample.tail)

    def delivered(self, size: int) -> int:
        return estimated_completion_tokens(self._sample.opening, self._sample.tail, size, self._streams)


class FilteredBody(Body):
    """A body without the usage event that the gateway itself asked for. (Contract §3.6.)"""

    __slots__ = ("_filter", "_inner")

    def __init__(self, inner: Body) -> None:
        self.dropped = ()
        self._inner = inner
        self._filter: UsageFilter | None = None

    def request(self) -> list[bytes | memoryview]:
        pieces = self._inner.request()
        self.dropped = self._inner.dropped
        return pieces

    def begin(self, head: AnswerHead) -> None:
        if head.streams:
            self._filter = UsageFilter()
        self._inner.begin(head)

    def feed(self, piece: bytes) -> bytes | None:
        passed = self._inner.feed(piece)
        return passed if passed is None or self._filter is None else self._filter.feed(passed)

    def finish(self, *, is_certain: bool) -> bytes:
        last = self._inner.finish(is_certain=is_certain)
        return last if self._filter is None else self._filter.feed(last) + self._filter.flush()

    @property
    def is_complete(self) -> bool:
        return self._inner.is_complete

    @property
    def is_between_events(self) -> bool:
        return self._inner.is_between_events

    @property
    def has_reported_error(self) -> bool:
        return self._inner.has_reported_error

    def usage(self) -> Usage:
        return self._inner.usage()

    def delivered(self, size: int) -> int:
        return self._inner.delivered(size)


class TranslatedBody(Body):
    """The source speaks another dialect: what comes is translated, event by event, or whole once it is there.

    A stream that its source ends without saying that it is whole is broken; one that begins with an error has not begun.
    `translation` holds the prompt, and is let go of when the answer begins.
    """

    __slots__ = (
        "_exchange", "_has_begun", "_head", "_held", "_held_bytes", "_lost", "_sample", "_source", "_stream", "_to", "_usage",
        "translation",
    )  # fmt: skip

    _head: AnswerHead

    def __init__(self, exchange: Exchange, step: Step, to: Dialect) -> None:
        """Raises GatewayError if the source's dialect has no way to say what the caller asks for. `to` is the caller's."""
        self._exchange = exchange
        self._source = step.source
        self._to = to
        self.translation: Translation | None = translation(exchange, step.source, step.model, int(time.time()))
        self._stream: StreamTranslation | None = None
        self._has_begun = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._lost: tuple[str, ...] = ()
        self._usage = NO_USAGE
        self._sample = Sample()
        self.dropped = ()

    def request(self) -> list[bytes | memoryview]:
        asked = self._made().asked
        head = encode_request_head(
            self._exchange.inbound, asked.endpoint, self._source, len(asked.body), is_translated=True
        )  # fmt: skip
        return [head + asked.body]

    def begin(self, head: AnswerHead) -> None:
        self._head = head

    def feed(self, piece: bytes) -> bytes | None:
        stream = self._stream
        if stream is not None:
            out = stream.feed(piece)
            if not self._has_begun:
                return self._opening(out)
            self._sample.add(out)
            return out
        if self._is_to_stream(piece):
            stream = self._stream = self._made().stream()
            return self._opening(stream.feed(piece), is_alive=piece.startswith(b":"))
        self._held.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > MAX_WHOLE_BYTES:
            raise BadAnswer(FailureKind.BROKEN, "its answer is too large to be translated")
        return None

    def _is_to_stream(self, piece: bytes) -> bool:
        """True if the answer, of which this is the first piece, is a stream for a caller who wants one."""
        head = self._head
        if self._held or head.is_error or not self._wants_stream():
            return False
        if not head.streams and sse.is_stream(piece):  # some sources give a stream no type, or another one
            head.become(b"text/event-stream", streams=True)
        return head.streams

    def _wants_stream(self) -> bool:
        routing = self._exchange.routing
        return routing is not None and routing.streams

    def _opening(self, out: bytes, *, is_alive: bool = False) -> bytes | None:
        """The first bytes of a stream: what the translation says first, or a sign of life. Raises BadAnswer for an error."""
        if not out and not is_alive:
            return None
        if self._to.is_error(sse.first_event(out) or b""):
            raise BadAnswer(FailureKind.ERROR_EVENT, "its stream began with an error, or can't be read")
        self._head.length = None
        return self._begun(out)

    def _begun(self, out: bytes) -> bytes:
        """The answer begins: no other source is asked, so the translation with its prompt need not be kept."""
        self._has_begun = True
        self.dropped = self._made().asked.dropped + self._lost
        self.translation = None
        if self._to.id_field:
            self._head.set_field(self._to.id_field, self._exchange.inbound.request_id.encode())
        self._sample.add(out)
        return out

    def finish(self, *, is_certain: bool) -> bytes:
        stream = self._stream
        if stream is None:
            return self._finish_whole()
        last = stream.flush()
        if self._has_begun:
            self._sample.add(last)
            if not stream.is_finished:
                raise BadAnswer(FailureKind.BROKEN, "its stream ended before its end", last=last)
            return last
        if not stream.is_finished:
            kind = FailureKind.ERROR_EVENT if stream.has_failed else FailureKind.BROKEN
            raise BadAnswer(kind, "its stream ended before it said anything")
        self._head.length = None
        return self._begun(last)

    def _finish_whole(self) -> bytes:
        """Translate the whole answer: into one piece, or into a stream if the caller wants that."""
        head, made, body = self._head, self._made(), b"".join(self._held).removeprefix(sse.BOM)
        self._held.clear()
        is_stream = not head.is_error and (head.streams or sse.is_stream(body))
        try:
            whole = made.folded(body) if is_stream else made.whole(head.status, body)
            events = None
            if self._wants_stream() and whole.status < 400:  # a client that reads events could not read one piece
                events = body if is_stream else made.streamed(body)
        except ValueError:
            raise BadAnswer(FailureKind.BROKEN, "its answer is not what its dialect promises") from None
        self._lost = whole.dropped
        if events is not None:
            stream = self._stream = made.stream()
            out = stream.feed(events) + stream.flush()
            head.become(b"text/event-stream", streams=True)
            head.length = None
            return self._begun(out)
        self._usage = whole.usage
        head.status = whole.status
        head.length = b"%d" % len(whole.body)
        head.become(b"application/json", streams=False)
        return self._begun(whole.body)

    def _made(self) -> Translation:
        made = self.translation
        assert made is not None  # noqa: S101  (nothing has gone out yet)
        return made

    @property
    def is_complete(self) -> bool:
        head, tail = self._head, self._sample.tail
        return (
            head.streams and head.length is None and sse.ends_between_events(tail) and self._to.is_finished(tail, True)
        )  # fmt: skip

    @property
    def is_between_events(self) -> bool:
        return sse.ends_between_events(self._sample.tail)

    @property
    def has_reported_error(self) -> bool:
        return self._stream is not None and self._stream.has_failed

    def usage(self) -> Usage:
        return self._usage if self._stream is None else self._stream.usage

    def delivered(self, size: int) -> int:
        return estimated_completion_tokens(self._sample.opening, self._sample.tail, size, self._head.streams)


def body_for(exchange: Exchange, step: Step) -> Body:
    """The body for an attempt at a source.

    Raises GatewayError if the source's dialect has no way to say what the caller asks for, or its model can't see an image.
    """
    dialect = DIALECTS[exchange.endpoint.dialect]
    if step.source.provider.dialect != dialect.name:
        return TranslatedBody(exchange, step, dialect)
    if step.layer == SUBSTITUTE:
        refuse_blind(exchange.inbound.body, step.model)
    strips_unsigned = dialect is ANTHROPIC and may_hold_unsigned(exchange.inbound.body)
    body = PassthroughBody(exchange, step, dialect, strips_unsigned=strips_unsigned)
    return FilteredBody(body) if exchange.asks_for_usage(step.source) else body
