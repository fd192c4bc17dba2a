"""Counts requests, attempts, tokens and times. A request costs a few dictionary and list operations; a scrape renders them."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from kyma_proxy.core.exchange import ABANDONED, ANSWERED, Exchange, State

_Bounds = tuple[float, ...]

SECONDS: Final[_Bounds] = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OVERHEAD_SECONDS: Final[_Bounds] = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)


class Histogram:
    """The count of each bucket (not cumulative; the last bucket has all larger values) and the sum of the observed values."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: _Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Counters:
    """The counts of this process since its start."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, int, State], int] = {}
        """Relayed requests by endpoint, model, provider, status and ending."""
        self.attempts: dict[tuple[str, str], int] = {}
        """Failed attempts by provider and kind of failure."""
        self.rejected: dict[str, int] = {}
        """Requests that the listener refused, by error code."""
        self.tokens: dict[tuple[str, str], int] = {}
        """Tokens by model and kind: prompt, completion, cached."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.stale_retries = 0
        self.ttft = Histogram(SECONDS)
        self.duration = Histogram(SECONDS)
        self.overhead = Histogram(OVERHEAD_SECONDS)

    def count(self, exchange: Exchange, now: float) -> None:
        """Count a request that has ended."""
        model = exchange.model.counted_as if exchange.model is not None else ""
        provider = exchange.answered_by.provider.name if exchange.answered_by is not None else ""
        key = (exchange.endpoint.name, model, provider, exchange.status, exchange.state)
        self.requests[key] = self.requests.get(key, 0) + 1
        received = exchange.inbound.received
        self.bytes_in += exchange.bytes_in
        self.bytes_out += exchange.bytes_out
        self.duration.observe(now - received)
        if exchange.first_byte:
            self.ttft.observe(exchange.first_byte - received)
            self.overhead.observe(exchange.overhead_s)
        usage = exchange.usage
        if usage.prompt is not None:
            self._add_tokens(model, "prompt", usage.prompt)
        if usage.completion is not None:
            self._add_tokens(model, "completion", usage.completion)
        if usage.cached:
            self._add_tokens(model, "cached", usage.cached)
        for attempt in exchange.attempts:
            if attempt.result not in (ANSWERED, ABANDONED):
                failed = (attempt.provider, attempt.result)
                self.attempts[failed] = self.attempts.get(failed, 0) + 1

    def reject(self, code: str) -> None:
        """Count a request that the listener refused."""
        self.rejected[code] = self.rejected.get(code, 0) + 1

    def _add_tokens(self, model: str, kind: str, tokens: int) -> None:
        self.tokens[(model, kind)] = self.tokens.get((model, kind), 0) + tokens
