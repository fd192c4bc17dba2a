"""Computes what a request may cost, which is held while it is served, and what it cost in the end. (Contract §8.)

Nothing is charged for an answer that did not begin. What the provider reported is charged as reported. What it did not report
is estimated from the prompt and from what was delivered, and marked `estimated`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kyma_proxy.config.snapshot import Price
from kyma_proxy.core.accounts.usage import NO_USAGE, Usage, cost_nano_usd
from kyma_proxy.core.exchange import Exchange, State

REPORTED: Final = "reported"
ESTIMATED: Final = "estimated"
_CHARGED: Final = frozenset({State.COMPLETED, State.BROKEN, State.CLIENT_GONE, State.DRAINED})
_IMPLAUSIBLE_RATIO: Final = 2
"""A reported count that times this is still below our estimate is not the count of the whole answer."""
MAX_NANO: Final = 10**15
"""The highest charge for a request, whatever a provider reports. The ledger takes no larger amount."""


class Bill:
    """The usage of a request, and the `amount` that it costs in nano-dollars, 0 or more."""

    __slots__ = ("amount", "usage")

    def __init__(self, usage: Usage, amount: int) -> None:
        self.usage = usage
        self.amount = amount

    @property
    def tokens(self) -> int:
        """All tokens, as they count against the account's tokens per minute."""
        return (self.usage.prompt or 0) + (self.usage.completion or 0)


NOTHING: Final = Bill(NO_USAGE, 0)


def bill(
    ending: State, *, is_answered: bool, usage: Usage, prompt: int, delivered: Callable[[], int], asked: Price, answered: Price
) -> Bill:
    """The bill of a request that has ended.

    `is_answered`: the head of a 2xx answer went to the caller; False for a provider's error. `prompt`: the estimate at
    admission. `delivered`: estimates the tokens that went out; it is called only if the provider's report is not enough.
    `asked` and `answered` are the prices of the requested model and of the one that answered; the lower total counts.
    """
    if not is_answered or ending not in _CHARGED:
        return NOTHING
    reported, completion = usage.prompt, usage.completion
    is_estimated = False
    if completion is None or ending is not State.COMPLETED:
        estimate = delivered()
        # A count far below what went out was reported when the answer began (Anthropic's message_start says 1), not at its end.
        if completion is None or _IMPLAUSIBLE_RATIO * completion < estimate:
            completion = estimate
            is_estimated = estimate > 0  # embeddings have no output, and no provider reports any
    if reported is not None and ending is not State.COMPLETED and _IMPLAUSIBLE_RATIO * reported < prompt:
        reported = None  # an answer that was cut may hold such numbers in the caller's own text
    if reported is None:
        is_estimated = True
    used = Usage(
        prompt if reported is None else reported,
        completion,
        None if reported is None else usage.cached,
        ESTIMATED if is_estimated else REPORTED,
    )
    return Bill(used, min(_lower_total(used, asked, answered), MAX_NANO))


def bill_of(exchange: Exchange, prompt: int, delivered: Callable[[], int]) -> Bill:
    """The bill of a finished request; see `bill`."""
    asked, answered = exchange.route, exchange.model
    if asked is None or answered is None or not exchange.endpoint.is_charged:
        return NOTHING
    return bill(
        exchange.state, is_answered=exchange.is_answered, usage=exchange.usage, prompt=prompt, delivered=delivered,
        asked=asked.model.price, answered=answered.price,
    )  # fmt: skip


def hold_for(prompt: int, output: int, price: Price) -> int:
    """The amount to hold for a request of this many tokens, in nano-dollars: its bill. 0 for a free model."""
    return cost_nano_usd(Usage(prompt, output, None, ESTIMATED), price) or 0


def _lower_total(used: Usage, asked: Price, answered: Price) -> int:
    """The lower of the two costs. A model without a price is free, a substitute too."""
    total = cost_nano_usd(used, asked) or 0
    return total if asked is answered else min(total, cost_nano_usd(used, answered) or 0)
