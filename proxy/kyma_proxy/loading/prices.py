"""Compiles a model's prices: dollars become nano-dollars, and factors thousandths."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Final

from kyma_proxy.config import snapshot as snap
from kyma_proxy.config.variant_price import VariantPrice
from kyma_proxy.core.accounts.usage import PER_MILLE
from kyma_proxy.loading import document as doc

_AND: Final = "+"
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
        per_minute=_nano(price.per_minute),
        per_million_characters=_nano(price.per_million_characters),
        per_request=_nano(price.per_request),
        priority=None if price.priority is None else round(price.priority * PER_MILLE),
        flex=None if price.flex is None else round(price.flex * PER_MILLE),
        included=price.included,
        by=tuple(
            VariantPrice(tuple(members.split(_AND)), tuple(values.split(_AND)), int(usd * snap.NANO))
            for members, prices in price.by.items()
            for values, usd in prices.items()
            if members.count(_AND) == values.count(_AND)
        ),
        may_write_cache=not _CHARGES_CACHE_WRITES.isdisjoint(dialects),
    )


def find_price_problems(price: doc.Price, model: snap.Model) -> Iterator[tuple[str, str]]:
    """The mistakes in the prices of a model's variants, each with its path in the model."""
    allowed = {"size", *model.image.extra}
    for members, prices in price.by.items():
        place = f"price.by.{members}"
        if not model.is_image:
            yield place, "has no effect, as output_modalities is not [image]"
        for name in members.split(_AND):
            if model.is_image and name not in allowed:
                yield place, f"{name} is no member that callers can send: it is neither size nor in image.extra"
        for values in prices:
            if values.count(_AND) != members.count(_AND):
                yield f"{place}.{values}", f"needs as many values, with {_AND} between them, as {members} has members"
    if price.by and price.image is None:
        yield "price.image", "is needed beside `by`: it is the price of all that `by` does not name"


def _nano(usd: Decimal | None) -> int | None:
    return None if usd is None else int(usd * snap.NANO)
