"""Passes the body of an answer to a caller whose dialect its source speaks: unchanged, or without one usage event.

The request is the caller's with one value replaced. (Contract §3.3, §3.6, §4.1.)
"""

from __future__ import annotations

from typing import NamedTuple

from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import RoutingFields, read_routing_fields
from kyma_proxy.core.http.headers import AnswerHead
from kyma_proxy.core.http.source_request import asks_for_usage, request_bytes
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.dialect.contract import Cleaning
from kyma_proxy.dialect.usage_filter import UsageFilter
from kyma_proxy.net.relay.body import Body


class CleanRequest(NamedTuple):
    """A request without what its source would refuse, the paths of what was removed, and its routing fields."""

    body: bytes
    dropped: tuple[str, ...]
    routing: RoutingFields


def clean_request(body: bytes, cleaning: Cleaning) -> CleanRequest:
    """Remove from a request what its source would refuse."""
    clean, dropped = cleaning.cleaned(body)
    return CleanRequest(clean, dropped, read_routing_fields(clean))


class PassthroughBody(Body):
    """The caller's dialect is the source's: bytes pass unchanged, but for the usage event that the gateway itself asked for."""

    __slots__ = ("_asks_for_usage", "_cleaned", "_exchange", "_filter", "_source")

    def __init__(
        self, exchange: Exchange, step: Step, cleaned: CleanRequest | None = None, *, is_searched: bool = False
    ) -> None:
        """The request is cleaned if its endpoint demands it, unless it `is_searched` already: then `cleaned` is the result."""
        self.changes = self.is_translated = False
        self.dropped = ()
        self.endpoint = exchange.endpoint.name
        if not is_searched:
            cleaning: Cleaning | None = exchange.endpoint.cleaning
            if cleaning is not None and cleaning.may_be_needed(exchange.inbound.body):
                cleaned = clean_request(exchange.inbound.body, cleaning)
        self._exchange = exchange
        self._source = step.source
        self._cleaned = cleaned
        self._asks_for_usage = asks_for_usage(exchange, step.source)
        self._filter: UsageFilter | None = None

    def request(self) -> list[bytes | memoryview]:
        exchange = self._exchange
        body, routing = exchange.inbound.body, exchange.routing
        if self._cleaned is not None:
            body, self.dropped, routing = self._cleaned
        assert routing is not None  # noqa: S101  (routed)
        return request_bytes(exchange, self._source, body, routing, with_usage=self._asks_for_usage)

    def begin(self, head: AnswerHead, *, streams: bool) -> None:
        self._cleaned = None  # the prompt need not be kept
        if self._asks_for_usage and streams:
            self._filter = UsageFilter()
            self.changes = True
            head.length = None

    def feed(self, piece: bytes) -> bytes | None:
        return piece if self._filter is None else self._filter.feed(piece)

    def passes(self, chunks: bytes, size: int) -> bool:
        return self._filter is None or self._filter.passes(chunks, size)

    def finish(self) -> bytes:
        return b"" if self._filter is None else self._filter.flush()

    @property
    def is_finished(self) -> bool:
        return True

    @property
    def is_between_events(self) -> bool | None:
        return True if self._filter is not None and self._filter.is_holding else None

    @property
    def has_reported_error(self) -> bool:
        return False
