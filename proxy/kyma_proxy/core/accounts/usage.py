"""Records what an answer used, and computes what it costs. (Contract §8, §11.)"""

from __future__ import annotations

from typing import Final

from kyma_proxy.config.snapshot import Price
from kyma_proxy.core.accounts.quantities import Quantities

PER_MILLE: Final = 1000


class Usage:
    """The tokens of one answer; never changed. `source` is `reported`, `estimated` or `none`.

    `prompt` includes the tokens that were read from a cache (`cached`) and those that were written to one. Anthropic reports
    the writes by their lifetime, in `usage.cache_creation` as `ephemeral_5m_input_tokens` and `ephemeral_1h_input_tokens`;
    a `cache_creation_input_tokens` without them is `cache_write_5m`, the usual lifetime. A count of writes without a lifetime,
    which is not Anthropic's, is `cache_write`. `searches` is the number of web searches that the provider made: Anthropic's
    and OpenRouter's `usage.server_tool_use.web_search_requests`, Perplexity's `usage.num_search_queries`. `service_tier` is
    the tier that the provider says it served.
    """

    __slots__ = (
        "cache_write", "cache_write_1h", "cache_write_5m", "cached", "completion", "prompt", "searches", "service_tier",
        "source",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917  positional calls are the cheap ones
        self, prompt: int | None, completion: int | None, cached: int | None, source: str, cache_write_5m: int = 0,
        cache_write_1h: int = 0, cache_write: int = 0, searches: int | None = None, service_tier: str | None = None,
    ) -> None:  # fmt: skip
        self.prompt = prompt
        self.completion = completion
        self.cached = cached
        self.source = source
        self.cache_write_5m = cache_write_5m
        self.cache_write_1h = cache_write_1h
        self.cache_write = cache_write
        self.searches = searches
        self.service_tier = service_tier

    def with_completion(self, completion: int, source: str) -> Usage:
        """The same with another count of output tokens."""
        return Usage(
            self.prompt, completion, self.cached, source, self.cache_write_5m, self.cache_write_1h, self.cache_write,
            self.searches, self.service_tier,
        )  # fmt: skip

    def _values(self) -> tuple[int | str | None, ...]:
        return (
            self.prompt, self.completion, self.cached, self.source, self.cache_write_5m, self.cache_write_1h, self.cache_write,
            self.searches, self.service_tier,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"Usage{self._values()}"


class MeasuredUsage(Usage):
    """The usage of an answer that is measured by more than tokens."""

    __slots__ = ("quantities",)

    def __init__(
        self, prompt: int | None, completion: int | None, cached: int | None, source: str, quantities: Quantities
    ) -> None:  # fmt: skip
        super().__init__(prompt, completion, cached, source)
        self.quantities = quantities


NO_USAGE: Final = Usage(None, None, None, "none")


def cost_nano_usd(usage: Usage, price: Price) -> int | None:
    """The cost of an answer's tokens in nano-dollars, rounded up; None if usage or price is unknown."""
    prompt, per_input = usage.prompt, price.input
    if prompt is None or per_input is None:
        return None
    cached = min(usage.cached or 0, prompt)
    rest = prompt - cached
    millionths = cached * (per_input if price.cached_input is None else price.cached_input)
    if usage.cache_write_5m or usage.cache_write_1h or usage.cache_write:
        for_hour = min(usage.cache_write_1h, rest)
        rest -= for_hour
        for_minutes = min(usage.cache_write_5m, rest)
        rest -= for_minutes
        written = min(usage.cache_write, rest)
        rest -= written
        millionths += for_hour * _hour_write_price(price, per_input) + for_minutes * _write_price(price, per_input)
        millionths += written * (per_input if price.cached_write is None else price.cached_write)
    millionths += rest * per_input + (usage.completion or 0) * (price.output or 0)
    return -(-millionths // 10**6)


def most_nano_usd(prompt: int, output: int, price: Price) -> int:
    """The most that so many tokens can cost, in nano-dollars, rounded up; 0 for a model without a price.

    Where a source charges for writing its cache, the whole prompt may be written.
    """
    per_input = price.input
    if per_input is None:
        return 0
    dearest = per_input
    if price.may_write_cache:
        dearest = max(per_input, _write_price(price, per_input), _hour_write_price(price, per_input))
    elif price.cached_write is not None:
        dearest = max(per_input, price.cached_write)
    return -(-(prompt * dearest + output * (price.output or 0)) // 10**6)


def _write_price(price: Price, per_input: int) -> int:
    """The price of input that Anthropic keeps for five minutes: by default its own 1.25 times the price of input.

    https://platform.claude.com/docs/en/about-claude/pricing
    """
    return -(-5 * per_input // 4) if price.cached_write is None else price.cached_write


def _hour_write_price(price: Price, per_input: int) -> int:
    """The price of input that Anthropic keeps for an hour: by default twice the price of input.

    A configured price for five minutes is never undercut. (See `_write_price` for the source.)
    """
    if price.cached_write_1h is not None:
        return price.cached_write_1h
    return max(2 * per_input, price.cached_write or 0)
