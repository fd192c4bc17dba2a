"""Compiles a model's prices: dollars become nano-dollars, and factors thousandths."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Final

from kyma_proxy.config import snapshot as snap
from kyma_proxy.core.accounts.usage import PER_MILLE
from kyma_proxy.loading import document as doc

_CHARGES_CACHE_WRITES: Final = frozenset({"anthropic"})
"""The dialects in which a provider's cache has a price for writing that is not the price of input."""


def compile_price(price: doc.Price, dialects: Collection[str]) -> snap.Price:
    """The prices of a model whose sources speak these dialects."""
    return snap.Price(
        input=_nano(price.input),
        output=_nano(price.output),
        cached_input=_nano(price.cached_input),
        image=_nano(price.image),
        cached_write=_nano(price.cached_write),
        cached_write_1h=_nano(price.cached_write_1h),
        per_search=_nano(price.per_search),
        priority=None if price.priority is None else round(price.priority * PER_MILLE),
        flex=None if price.flex is None else round(price.flex * PER_MILLE),
        included=price.included,
        may_write_cache=not _CHARGES_CACHE_WRITES.isdisjoint(dialects),
    )


def _nano(usd: Decimal | None) -> int | None:
    return None if usd is None else int(usd * snap.NANO)
