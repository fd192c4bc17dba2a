"""This file decides what a request costs: what it may cost while it is served, and what it did cost once it is over.

(Contract §8.) Nothing is charged for an answer that did not begin. What the provider reported is charged as reported;
what it did not get to report is estimated, from the prompt and from what was delivered, and marked so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kyma_proxy.config.snapshot import Price
from kyma_proxy.core.accounts.usage import NO_USAGE, Usage, cost_nano_usd
from kyma_proxy.core.exchange import State

REPORTED: Final = "reported"
ESTIMATED: Final = "estimated"
_CHARGED: Final = frozenset({State.COMPLETED, State.BROKEN, State.CLIENT_GONE, State.DRAINED})
_MUCH_LESS: Final = 2
MAX_NANO: Final = 10**15
"""No request costs more, whatever a provider reports; it is as much as a ledger takes."""


class Bill:
    """What a request used, with its source, and its `amount` in nano-dollars, 0 or more."""

    __slots__ = ("amount", "usage")

    def __init__(self, usage: Usage, amount: int) -> None:
        self.usage = usage
        self.amount = amount

    @property
    def tokens(self) -> int:
        """All tokens, as they count against the account's minute."""
        return (self.usage.prompt or 0) + (self.usage.completion or 0)


NOTHING: Final = Bill(NO_USAGE, 0)


def bill(
    ending: State, *, is_answered: bool, usage: Usage, prompt: int, delivered: Callable[[], int], asked: Price, answered: Price
) -> Bill:
    """The bill of a request that has ended.

    `is_answered`: the head of a 2xx answer went to the caller (of a provider's error it is False). `prompt`: the estimate at
    admission. `delivered`: estimates the tokens of what went out, and is called only where the provider's word is not enough.
    `asked` and `answered` are the prices of the model that was asked for and of the one that answered; the lower total counts.
    """
    if not is_answered or ending not in _CHARGED:
        return NOTHING
    reported, completion = usage.prompt, usage.completion
    is_guess = False
    if completion is None or ending is not State.COMPLETED:
        guess = delivered()
        # A count far below what went out was told when the answer began (Anthropic's message_start says 1), not at its end.
        if completion is None or _MUCH_LESS * completion < guess:
            completion = guess
            is_guess = guess > 0  # embeddings have no output, and nobody reports any
    if reported is not None and ending is not State.COMPLETED and _MUCH_LESS * reported < prompt:
        reported = None  # what an answer begins with may be the caller's own words
    if reported is None:
        is_guess = True
    used = Usage(
        prompt if reported is None else reported,
        completion,
        None if reported is None else usage.cached,
        ESTIMATED if is_guess else REPORTED,
    )
    return Bill(used, min(_lower_total(used, asked, answered), MAX_NANO))


def hold_for(prompt: int, output: int, price: Price) -> int:
    """What a request of so many tokens may cost in nano-dollars, as the bill would have it; 0 for a free model."""
    return cost_nano_usd(Usage(prompt, output, None, ESTIMATED), price) or 0


def _lower_total(used: Usage, asked: Price, answered: Price) -> int:
    """An unknown price is free, also where it is a substitute's."""
    total = cost_nano_usd(used, asked) or 0
    return total if asked is answered else min(total, cost_nano_usd(used, answered) or 0)
