"""Makes the bill of a request that is measured by more than tokens: sound, text to speak, searches. (Contract §8.)

Such an answer is of use only as a whole: one that its source broke off costs nothing. A caller who leaves pays for the work.
"""

from __future__ import annotations

from typing import Final

from kyma_proxy.config.snapshot import Price
from kyma_proxy.core.accounts.charging import ESTIMATED, MAX_NANO, NOTHING, REPORTED, Bill, price_where_left
from kyma_proxy.core.accounts.quantities import NONE_REPORTED, Quantities, is_measured, nano_usd
from kyma_proxy.core.accounts.usage import NO_USAGE, MeasuredUsage, Usage, cost_nano_usd
from kyma_proxy.core.exchange import Exchange, State

_CHARGED: Final = frozenset({State.COMPLETED, State.CLIENT_GONE})


def measured_bill(exchange: Exchange, asked_for: Quantities) -> Bill:
    """The bill of a finished request; `asked_for` are the quantities of its body, of which some are estimates."""
    asked, answered = exchange.route, exchange.model
    if asked is None or answered is None:
        return NOTHING
    prices = asked.model.price, answered.price
    reported = exchange.usage
    if exchange.answered_by is None:
        reached = price_where_left(exchange)
        if reached is None:
            return NOTHING
        prices, reported = (asked.model.price, reached), NO_USAGE
    elif not exchange.is_answered or exchange.state not in _CHARGED:
        return NOTHING
    usages = [(measured_usage(asked_for, reported, price), price) for price in prices]
    amounts = [(cost_nano_usd(usage, price) or 0) + nano_usd(usage.quantities, price) for usage, price in usages]
    lower = 0 if amounts[0] <= amounts[1] else 1
    return Bill(usages[lower][0], min(amounts[lower], MAX_NANO))


def measured_usage(asked_for: Quantities, usage: Usage, price: Price) -> MeasuredUsage:
    """The reported usage, completed by what is known of the request. It is marked if anything with a price was estimated.

    Tokens that have no price and were not reported are left out.
    """
    reported = usage.quantities if isinstance(usage, MeasuredUsage) else NONE_REPORTED
    milliseconds = asked_for.milliseconds if reported.milliseconds is None else reported.milliseconds
    searches = asked_for.searches if reported.searches is None else reported.searches
    prompt, completion = usage.prompt, usage.completion
    is_estimated = (
        (price.per_minute is not None and milliseconds is not None and reported.milliseconds is None)
        or (price.per_request is not None and searches is not None and reported.searches is None)
        or (bool(price.input) and prompt is None)
        or (bool(price.output) and completion is None and asked_for.output > 0)
    )
    is_priced = price.input is not None or is_measured(price)
    return MeasuredUsage(
        asked_for.prompt if prompt is None and price.input else prompt,
        asked_for.output if completion is None and price.output else completion,
        usage.cached,
        ESTIMATED if is_estimated else REPORTED if is_priced else usage.source,
        asked_for._replace(milliseconds=milliseconds, searches=searches),
    )
