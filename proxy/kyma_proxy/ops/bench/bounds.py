"""Bounds what a comparison may ask of a provider, in requests and in dollars. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

_TOKENS_PER_PRICE: Final = 1_000_000


class Price(NamedTuple):
    """Dollars for a million tokens."""

    input: float
    output: float

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The cost of a request."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / _TOKENS_PER_PRICE


class Bounds:
    """Counts what was sent. A request counts with the most that it may cost until its use is known, so no bound is passed."""

    def __init__(self, max_requests: int | None, max_usd: float | None, price: Price | None) -> None:
        self._max_requests = max_requests
        self._max_usd = max_usd
        self._price = price
        self.requests = 0
        self.usd = 0.0

    def take(self, prompt_bytes: int, max_tokens: int) -> float | None:
        """Take what a request may cost, or return None if it would pass a bound. No token is shorter than a byte."""
        most = 0.0 if self._price is None else self._price.usd(prompt_bytes, max_tokens)
        if self._max_requests is not None and self.requests >= self._max_requests:
            return None
        if self._max_usd is not None and self.usd + most > self._max_usd:
            return None
        self.requests += 1
        self.usd += most
        return most

    def settle(self, taken: float, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Put what a request cost in the place of what was taken for it; that stays if its use is not known."""
        if self._price is not None and prompt_tokens is not None and completion_tokens is not None:
            self.usd += self._price.usd(prompt_tokens, completion_tokens) - taken
