"""Translates between a caller and a source that speak different dialects. (Contract §3.4, §4.)"""

from __future__ import annotations

import time
from typing import Final

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.headers import AnswerHead, encode_request_head
from kyma_proxy.core.http.sample import Sample
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.dialect import sse
from kyma_proxy.dialect.completion_estimate import estimated_completion_tokens
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.registry import TRANSLATORS
from kyma_proxy.dialect.translation import StreamTranslation, Translation
from kyma_proxy.dialect.vision import refuse_translated_images
from kyma_proxy.net.relay.body import BadAnswer, Body

MAX_WHOLE_BYTES: Final = 64 * 1024 * 1024
"""A whole answer must be there before it can be translated; a larger one is a failure."""


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
        translate = TRANSLATORS[to.name, step.source.provider.dialect]
        made = translate(exchange, step.source, step.model, int(time.time()))
        refuse_translated_images(made.request.body, step.model)
        self.translation: Translation | None = made
        self._stream: StreamTranslation | None = None
        self._has_begun = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._lost: tuple[str, ...] = ()
        self._usage = NO_USAGE
        self._sample = Sample()
        self.dropped = ()

    def request(self) -> list[bytes | memoryview]:
        asked = self._made().request
        head = encode_request_head(
            self._exchange.inbound, asked.endpoint.path, self._source, len(asked.body), is_translated=True
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
            if out:
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
        self.dropped = self._made().request.dropped + self._lost
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
            whole = made.aggregate(body) if is_stream else made.answer(head.status, body)
            events = None
            if self._wants_stream() and whole.status < 400:  # a client that reads events could not read one piece
                events = body if is_stream else made.as_stream(body)
        except ValueError:
            raise BadAnswer(FailureKind.BROKEN, "its answer is not what its dialect promises") from None
        self._lost = whole.dropped
        if events is not None:
            stream = self._stream = made.stream()
            out = stream.feed(events) + stream.flush()
            if not stream.is_finished:
                raise BadAnswer(FailureKind.BROKEN, "its answer can't be given as a stream, or has no end")
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
        stream, tail = self._stream, self._sample.tail
        # The words of an end may stand in the answer's text too, so the source must have ended it as well.
        return (
            stream is not None and stream.is_finished and sse.ends_between_events(tail) and self._to.is_finished(tail, True)
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
