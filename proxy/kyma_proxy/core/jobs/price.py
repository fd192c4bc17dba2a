"""Decides the price of an image of a job: that of the model, or that of the variant that is asked for."""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.config.snapshot import Price
from kyma_proxy.core.jobs.job import ImageRequest

_value: Final = msgspec.json.Decoder().decode


def image_price(price: Price, request: ImageRequest) -> int:
    """The price of an image in nano-dollars: the highest of the variants that fit, or else that of the model.

    It is held at submission and charged at the end, for the same request.
    """
    if not price.by:
        return price.image or 0
    asked = {name: _text(value) for name, value in request.extra}
    if request.size is not None:
        asked["size"] = request.size
    return max((variant.price for variant in price.by if variant.fits(asked)), default=price.image or 0)


def _text(value: bytes) -> str:
    """A member's value as a price names it: a string without its quotes, and everything else as JSON."""
    try:
        decoded = _value(value)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return decoded if isinstance(decoded, str) else value.decode()
