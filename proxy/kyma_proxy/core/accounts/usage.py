"""Records how many tokens an answer used, and computes what they cost. (Contract §11.)"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.config.snapshot import Price


class Usage(msgspec.Struct, frozen=True, gc=False):
    """The tokens of one answer. `prompt` includes the cached ones; `source` is `reported`, `estimated` or `none`."""

    prompt: int | None
    completion: int | None
    cached: int | None
    source: str


NO_USAGE: Final = Usage(None, None, None, "none")


def cost_nano_usd(usage: Usage, price: Price) -> int | None:
    """The cost of an answer in nano-dollars, rounded up; None if usage or price is unknown. Cached input has its own price."""
    if usage.prompt is None or price.input is None:
        return None
    cached = min(usage.cached or 0, usage.prompt)
    cached_price = price.input if price.cached_input is None else price.cached_input
    millionths = (usage.prompt - cached) * price.input + cached * cached_price + (usage.completion or 0) * (price.output or 0)
    return -(-millionths // 10**6)
