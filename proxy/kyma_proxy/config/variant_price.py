"""Defines the price of a variant of a model's images, such as a style, or a quality in a size."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class VariantPrice(msgspec.Struct, frozen=True):
    """The price of an image in nano-dollars if all these members of a request have these values.

    A value with a `*` at its end stands for all that begin so.
    """

    members: tuple[str, ...]
    values: tuple[str, ...]
    price: int

    def fits(self, asked: Mapping[str, str]) -> bool:
        """True if a request with these members is for the variant."""
        return all(_fits(value, asked.get(name)) for name, value in zip(self.members, self.values, strict=True))


def _fits(value: str, asked: str | None) -> bool:
    if asked is None:
        return False
    return asked.startswith(value[:-1]) if value.endswith("*") else asked == value
