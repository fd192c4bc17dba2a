"""Counts requests, attempts, tokens and times, by endpoint, model and provider; a scrape renders them.

Each of these three is a name of the configuration, or empty, and never a caller's word: so the number of series is bounded. A
request costs one look-up of its series and a few additions to integers in lists that are there already.
"""

from __future__ import annotations

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
        """Count a value. (The search is compiled, where `bisect` would compare objects.)"""
        bounds = self.bounds
        low, high = 0, len(bounds)
        while low < high:
            middle = (low + high) >> 1
            if bounds[middle] < value:
                low = middle + 1
            else:
                high = middle
        self.counts[low] += 1
        self.total += value


class Ending:
    """The number of requests that ended with this status and so."""

    __slots__ = ("count", "state", "status")

    def __init__(self, status: int, state: State, count: int = 1) -> None:
        self.status = status
        self.state = state
        self.count = count


class Series:
    """The counts of the requests of one endpoint, for one model, that one provider answered.

    `endings` are in the order in which they first came: usually a request has the first. `prompt`, `completion` and `cached`
    are tokens; None until a provider has reported any.
    """

    __slots__ = (
        "bytes_in", "bytes_out", "cached", "completion", "duration", "endings", "first_byte", "overhead", "prompt",
    )  # fmt: skip

    def __init__(self) -> None:
        self.endings: list[Ending] = []
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
        self._count_ending(exchange.status, exchange.state)
        self.bytes_in += exchange.bytes_in
        self.bytes_out += exchange.bytes_out
        received = exchange.inbound.received
        self.duration.observe(now - received)
        if exchange.first_byte:
            self.first_byte.observe(exchange.first_byte - received)
            self.overhead.observe(exchange.overhead_s)
        usage = exchange.usage
        prompt, completion, cached = usage.prompt, usage.completion, usage.cached
        if prompt is not None:
            self.prompt = (self.prompt or 0) + prompt
        if completion is not None:
            self.completion = (self.completion or 0) + completion
        if cached:
            self.cached = (self.cached or 0) + cached

    def _count_ending(self, status: int, state: State) -> None:
        for ending in self.endings:
            if ending.status == status and ending.state is state:
                ending.count += 1
                return
        self.endings.append(Ending(status, state))


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

    def take(self) -> Counters:
        """Everything that was counted, which begins anew here."""
        taken = Counters()
        taken.series, self.series = self.series, {}
        taken.attempts, self.attempts = self.attempts, {}
        taken.rejected, self.rejected = self.rejected, {}
        taken.stale_retries, self.stale_retries = self.stale_retries, 0
        return taken

    def reject(self, code: str) -> None:
        """Count a request that the listener refused."""
        self.rejected[code] = self.rejected.get(code, 0) + 1
