"""Counts requests, attempts, tokens and times, by endpoint, model and provider; a scrape renders them.

Each of these three is a name of the configuration, or empty, and never a caller's word: so the number of series is bounded. A
request costs one look-up of its series and a few additions to integers in lists that are there already.
"""

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


class Series:
    """The counts of the requests of one endpoint, for one model, that one provider answered.

    `endings` are by status and ending. `prompt`, `completion` and `cached` are tokens; None until a provider has reported any.
    """

    __slots__ = (
        "bytes_in", "bytes_out", "cached", "completion", "duration", "endings", "first_byte", "overhead", "prompt",
    )  # fmt: skip

    def __init__(self) -> None:
        self.endings: dict[tuple[int, State], int] = {}
        self.bytes_in = 0
        self.bytes_out = 0
        self.prompt: int | None = None
        self.completion: int | None = None
        self.cached: int | None = None
        self.first_byte = Histogram(SECONDS)
        self.duration = Histogram(SECONDS)
        self.overhead = Histogram(OVERHEAD_SECONDS)

    def count(self, exchange: Exchange, now: float) -> None:
        """Count a request that has ended."""
        ending = (exchange.status, exchange.state)
        self.endings[ending] = self.endings.get(ending, 0) + 1
        self.bytes_in += exchange.bytes_in
        self.bytes_out += exchange.bytes_out
        received = exchange.inbound.received
        self.duration.observe(now - received)
        if exchange.first_byte:
            self.first_byte.observe(exchange.first_byte - received)
            self.overhead.observe(exchange.overhead_s)
        usage = exchange.usage
        if usage.prompt is not None:
            self.prompt = (self.prompt or 0) + usage.prompt
        if usage.completion is not None:
            self.completion = (self.completion or 0) + usage.completion
        if usage.cached:
            self.cached = (self.cached or 0) + usage.cached


class Counters:
    """The counts of this process since its start."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str], Series] = {}
        """Relayed requests by endpoint, model and provider. A model that nobody knows, and no provider, is ""."""
        self.attempts: dict[tuple[str, str, str, str], int] = {}
        """Failed attempts by endpoint, model, provider and kind of failure."""
        self.rejected: dict[str, int] = {}
        """Requests that the listener refused, by error code."""
        self.stale_retries = 0

    def count(self, exchange: Exchange, now: float) -> None:
        """Count a request that has ended."""
        model, source = exchange.model, exchange.answered_by
        key = (
            exchange.endpoint.name,
            "" if model is None else model.counted_as,
            "" if source is None else source.provider.name,
        )
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series()
        series.count(exchange, now)
        for attempt in exchange.attempts:
            if attempt.result not in (ANSWERED, ABANDONED):
                failed = (exchange.endpoint.name, attempt.step.model.counted_as, attempt.provider, attempt.result)
                self.attempts[failed] = self.attempts.get(failed, 0) + 1

    def reject(self, code: str) -> None:
        """Count a request that the listener refused."""
        self.rejected[code] = self.rejected.get(code, 0) + 1
