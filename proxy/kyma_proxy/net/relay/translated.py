"""Translates between a caller and a source that speak different dialects. (Contract §3.4, §4.)"""

from __future__ import annotations

import time
from time import monotonic
from typing import Final

from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import with_members
from kyma_proxy.core.http.headers import AnswerHead, encode_request_head
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.dialect import sse
from kyma_proxy.dialect.answers.facts import BadAnswer
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.density import is_too_dense
from kyma_proxy.dialect.registry import TRANSLATORS
from kyma_proxy.dialect.translation import Aggregation, Order, StreamTranslation, Translation
from kyma_proxy.dialect.vision import refuse_translated_images
from kyma_proxy.net.relay.body import Body

MAX_WHOLE_BYTES: Final = 4 * 1024 * 1024
"""A whole answer must be there before it can be translated, at once: up to 50 ms for this much. A larger one is a failure."""
MAX_STREAM_BYTES: Final = 32 * 1024 * 1024
"""The same for a stream that becomes one answer, of which only the texts are kept."""
_COPIED_BYTES: Final = 16_384
_UNREADABLE: Final = "its answer is not what its dialect promises"


def order_of(exchange: Exchange, step: Step, body: bytes) -> Order:
    """The order to translate a request for a source."""
    source, supports, refused = step.source, step.source.supports, step.breaker.refused
    if refused is not None:
        supports = supports.without(refused.names(monotonic()))
    return Order(
        body, source.model, step.model.id, source.max_tokens_field, exchange.snapshot.max_tokens, source.stream_usage,
        source.reasoning_field, exchange.inbound.request_id, int(time.time()), step.model.max_output_tokens,
        supports,
        source.reasoning_parser, source.calls_need, f"{source.provider.name} {source.model}",
    )  # fmt: skip


class TranslatedBody(Body):
    """The source speaks another dialect: what comes is translated, event by event, or whole once it is there.

    `translation` holds the prompt, and is let go of when the answer begins.
    """

    __slots__ = (
        "_aggregation", "_exchange", "_has_begun", "_head", "_held", "_held_bytes", "_is_streamed", "_lost",
        "_source", "_stream", "_to", "translation",
    )  # fmt: skip

    _head: AnswerHead

    def __init__(self, exchange: Exchange, step: Step, to: Dialect, made: Translation | None = None) -> None:
        """Translate the request, unless the translation is `made` already. `to` is the caller's dialect.

        Raises GatewayError if the source's dialect has no way to say what the caller asks for.
        """
        self._exchange = exchange
        self._source = step.source
        self._to = to
        if made is None:
            made = TRANSLATORS[exchange.endpoint.key, step.source.endpoint](order_of(exchange, step, exchange.inbound.body))
            refuse_translated_images(made.request.body, step.model, step.source)
        self.translation: Translation | None = made
        self.changes = self.is_translated = True
        self.dropped = ()
        self.endpoint = made.request.endpoint.name
        self._stream: StreamTranslation | None = None
        self._is_streamed = self._has_begun = False
        self._aggregation: Aggregation | None = None
        self._held = bytearray()
        self._held_bytes = 0
        self._lost: tuple[str, ...] = ()

    def request(self) -> list[bytes | memoryview]:
        asked, source = self._made().request, self._source
        body = with_members(asked.body, source.body) if source.body else asked.body
        head = encode_request_head(self._exchange.inbound, asked.endpoint.path, source, len(body), is_translated=True)
        return [head + body] if len(body) <= _COPIED_BYTES else [head, body]

    def begin(self, head: AnswerHead, *, streams: bool) -> None:
        self._head = head
        self._is_streamed = streams
        if streams and self._wants_stream():
            self._stream = self._made().stream()
            head.become(b"text/event-stream", streams=True)
            head.length = None
        elif streams:
            self._aggregation = self._made().aggregation()

    def feed(self, piece: bytes) -> bytes | None:
        stream = self._stream
        if stream is not None:
            out = stream.feed(piece)
            return out if self._has_begun else self._begun(out)
        self._held_bytes += len(piece)
        if self._held_bytes > (MAX_WHOLE_BYTES if self._aggregation is None else MAX_STREAM_BYTES):
            raise BadAnswer(FailureKind.BROKEN, "its answer is too large to be translated")
        if self._aggregation is None:
            self._held += piece
            return None
        try:
            self._aggregation.feed(piece)
        except ValueError:
            raise BadAnswer(FailureKind.NO_ANSWER, _UNREADABLE) from None
        return None

    def _wants_stream(self) -> bool:
        routing = self._exchange.routing
        return routing is not None and routing.streams

    def _begun(self, out: bytes) -> bytes:
        """The answer begins: no other source is asked, so the translation with its prompt need not be kept.

        Raises BadAnswer if the translation can say nothing but that it failed.
        """
        if self._stream is not None and self._stream.has_failed and not self._says_something(out):
            raise BadAnswer(FailureKind.ERROR_EVENT, "its stream can't be read")
        self._has_begun = True
        self.dropped = self._made().request.dropped + self._lost
        self.translation = None
        if self._to.id_field:
            self._head.set_field(self._to.id_field, self._exchange.inbound.request_id.encode())
        return out

    def _says_something(self, out: bytes) -> bool:
        read = self._to.read_event
        return any(read(event.name, event.data).is_answer for event in sse.SseParser().feed(out))

    def finish(self) -> bytes:
        stream = self._stream
        if stream is None:
            return self._finish_whole()
        last = stream.flush()
        if not self._has_begun:
            if not stream.is_finished:
                raise BadAnswer(FailureKind.ERROR_EVENT if stream.has_failed else FailureKind.NO_ANSWER, _UNREADABLE)
            return self._begun(last)
        if not stream.is_finished:
            raise BadAnswer(FailureKind.BROKEN, "its stream ended before its end", last=last)
        return last

    def _finish_whole(self) -> bytes:
        """Translate the whole answer: into one piece, or into a stream if the caller wants that."""
        head, made, body = self._head, self._made(), bytes(self._held).removeprefix(sse.BOM)
        self._held.clear()
        if is_too_dense(body):
            raise BadAnswer(FailureKind.NO_ANSWER, "its answer has too many values")
        try:
            aggregation = self._aggregation
            whole = made.answer(head.status, body) if aggregation is None else aggregation.finish()
            events = None
            if self._wants_stream() and whole.status < 400:  # a client that reads events could not read one piece
                events = made.as_stream(body)
        except ValueError:
            raise BadAnswer(FailureKind.NO_ANSWER, _UNREADABLE) from None
        self._lost = whole.dropped
        if events is not None:
            stream = self._stream = made.stream()
            out = stream.feed(events) + stream.flush()
            if not stream.is_finished:
                raise BadAnswer(FailureKind.NO_ANSWER, "its answer can't be given as a stream, or has no end")
            head.become(b"text/event-stream", streams=True)
            head.length = None
            return self._begun(out)
        head.status = whole.status
        head.length = b"%d" % len(whole.body)
        head.become(b"application/json", streams=False)
        return self._begun(whole.body)

    def _made(self) -> Translation:
        made = self.translation
        assert made is not None  # noqa: S101  (nothing has gone out yet)
        return made

    @property
    def is_finished(self) -> bool:
        return self._stream is None or self._stream.is_finished

    @property
    def is_between_events(self) -> bool | None:
        return True  # a translation writes whole events only

    @property
    def has_reported_error(self) -> bool:
        return self._stream is not None and self._stream.has_failed
