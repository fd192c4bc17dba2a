"""Computes what a request may cost, which is held while it is served, and what it cost in the end. (Contract §8.)

What the provider reported is charged as reported. What it did not report is estimated from the prompt and from what was
delivered, and marked `estimated`. Nothing is charged for an answer that did not begin, unless it was the caller that did not
wait for it: a provider that has read a prompt charges for it, and may complete the answer. Then the prompt is charged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kyma_proxy.config.snapshot import Price
from kyma_proxy.core.accounts.extras import Extras, with_extras
from kyma_proxy.core.accounts.quantities import is_measured
from kyma_proxy.core.accounts.usage import NO_USAGE, Usage, cost_nano_usd, most_nano_usd
from kyma_proxy.core.exchange import ABANDONED, Exchange, State

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
    ending: State, *, is_answered: bool, usage: Usage, prompt: int, delivered: Callable[[], int], asked: Price, answered: Price,
    extras: Extras | None = None,
) -> Bill:  # fmt: skip
    """The bill of a request that has ended.

    `is_answered`: the head of a 2xx answer went to the caller; False for a provider's error. `prompt`: the estimate at
    admission. `delivered`: estimates the tokens that went out; it is called only if the provider's report is not enough.
    `asked` and `answered` are the prices of the requested model and of the one that answered; the lower total counts.
    """
    if not is_answered or ending not in _CHARGED:
        return NOTHING
    reported, completion = usage.prompt, usage.completion
    is_estimated = usage.source == ESTIMATED  # text followed a reported count
    if completion is None or ending is not State.COMPLETED:
        estimate = delivered()
        # A count far below what went out was reported when the answer began (Anthropic's message_start says 1), not at its end.
        if completion is None or _IMPLAUSIBLE_RATIO * completion < estimate:
            completion = estimate
            is_estimated = estimate > 0  # embeddings have no output, and no provider reports any
    if reported is not None and ending is not State.COMPLETED and _IMPLAUSIBLE_RATIO * reported < prompt:
        reported = None  # an answer that was cut may hold such numbers in the caller's own text
    if reported is None:
        used = Usage(prompt, completion, None, ESTIMATED)
    else:
        used = Usage(
            reported, completion, usage.cached, ESTIMATED if is_estimated else REPORTED, usage.cache_write_5m,
            usage.cache_write_1h, usage.cache_write, usage.searches, usage.service_tier,
        )  # fmt: skip
    return Bill(used, min(_lower_total(used, asked, answered, extras), MAX_NANO))


def prompt_bill(prompt: int, asked: Price, reached: Price) -> Bill:
    """The bill of a request whose caller left while a source had it: the estimated prompt, at the lower of the two prices."""
    used = Usage(prompt, 0, None, ESTIMATED)
    return Bill(used, min(_lower_total(used, asked, reached, None), MAX_NANO))


def bill_of(exchange: Exchange, prompt: int, delivered: Callable[[], int], extras: Extras | None = None) -> Bill:
    """The bill of a finished request; see `bill` and `prompt_bill`."""
    asked, answered = exchange.route, exchange.model
    if asked is None or answered is None or not exchange.endpoint.is_charged:
        return NOTHING
    if exchange.answered_by is None:
        reached = price_where_left(exchange)
        return NOTHING if reached is None else prompt_bill(prompt, asked.model.price, reached)
    return bill(
        exchange.state, is_answered=exchange.is_answered, usage=exchange.usage, prompt=prompt, delivered=delivered,
        asked=asked.model.price, answered=answered.price, extras=extras,
    )  # fmt: skip


def price_where_left(exchange: Exchange) -> Price | None:
    """The price of the model that was asked when the caller left; None unless a source had the request then.

    An attempt that has failed has a result that says so, and one that still dialled has sent nothing. What the gateway itself
    gave up (a drain) is not the caller's to pay. Of two attempts (hedging) the first counts: the caller asked once.
    """
    if exchange.state is State.CLIENT_GONE:
        for attempt in exchange.attempts:
            if attempt.sent and attempt.result == ABANDONED:
                return attempt.step.model.price
    return None


def hold_for(prompt: int, output: int, price: Price, extras: Extras | None = None) -> int:
    """The most that a request of this many tokens may cost, in nano-dollars. 0 for a free model."""
    amount = most_nano_usd(prompt, output, price)
    return amount if extras is None else with_extras(amount, None, extras, price)


def is_free(price: Price) -> bool:
    """True if a request may cost nothing, however many tokens it has."""
    return most_nano_usd(1, 1, price) == 0 and not is_measured(price)


def _lower_total(used: Usage, asked: Price, answered: Price, extras: Extras | None) -> int:
    """The lower of the two costs. A model without a price is free, a substitute too."""
    total = _total(used, asked, extras)
    return total if asked is answered else min(total, _total(used, answered, extras))


def _total(used: Usage, price: Price, extras: Extras | None) -> int:
    amount = cost_nano_usd(used, price) or 0
    return amount if extras is None and used.searches is None else with_extras(amount, used, extras, price)
