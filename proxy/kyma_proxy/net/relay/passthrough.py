"""Passes the body of an answer to a caller whose dialect its source speaks: unchanged, or without one usage event.

The request is the caller's with one value replaced. (Contract §3.3, §3.6, §4.1.)
"""

from __future__ import annotations

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import is_json, read_routing_fields
from kyma_proxy.core.http.headers import AnswerHead
from kyma_proxy.core.http.sample import Sample
from kyma_proxy.core.http.source_request import asks_for_usage, request_bytes
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.dialect import sse
from kyma_proxy.dialect.completion_estimate import estimated_completion_tokens
from kyma_proxy.dialect.contract import Cleaning, Dialect
from kyma_proxy.dialect.usage_filter import UsageFilter
from kyma_proxy.net.relay.body import BadAnswer, Body


class PassthroughBody(Body):
    """The caller's dialect is the source's: bytes pass unchanged, but for the usage event that the gateway itself asked for."""

    __slots__ = (
        "_asks_for_usage", "_cleaning", "_dialect", "_exchange", "_filter", "_has_begun", "_has_length", "_held", "_is_error",
        "_sample", "_source", "_streams",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, step: Step, dialect: Dialect) -> None:
        cleaning = dialect.cleaning
        self.dropped = ()
        self._exchange = exchange
        self._source = step.source
        self._dialect = dialect
        self._cleaning: Cleaning | None = (
            cleaning if cleaning is not None and cleaning.may_be_needed(exchange.inbound.body) else None
        )
        self._asks_for_usage = asks_for_usage(exchange, step.source)
        self._filter: UsageFilter | None = None
        self._has_begun = self._has_length = self._is_error = self._streams = False
        self._held = b""
        self._sample = Sample()

    def request(self) -> list[bytes | memoryview]:
        exchange = self._exchange
        body, routing = exchange.inbound.body, exchange.routing
        assert routing is not None  # noqa: S101  (routed)
        if self._cleaning is not None:
            body, self.dropped = self._cleaning.cleaned(body)
            routing = read_routing_fields(body)
        return request_bytes(exchange, self._source, body, routing, with_usage=self._asks_for_usage)

    def begin(self, head: AnswerHead) -> None:
        self._streams = head.streams
        self._is_error = head.is_error
        self._has_length = head.length is not None
        if self._asks_for_usage and head.streams:
            self._filter = UsageFilter()

    def feed(self, piece: bytes) -> bytes | None:
        if not self._has_begun:
            held = self._held + piece
            if self._streams and not self._is_answer(held):
                return None
            self._has_begun = True
            self._held = b""
            piece = held
        self._sample.add(piece)
        return piece if self._filter is None else self._filter.feed(piece)

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
        last = self._finish(is_certain=is_certain)
        return last if self._filter is None else self._filter.feed(last) + self._filter.flush()

    def _finish(self, *, is_certain: bool) -> bytes:
        """The source's last bytes, if they have not been passed on yet."""
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
