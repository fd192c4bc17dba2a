"""Writes JSON with values in it that a provider chose."""

from __future__ import annotations

from typing import Any

import orjson


def encode_json(value: Any) -> bytes:
    """Return `value` as JSON, in which an `orjson.Fragment` stands as it is.

    Raises ValueError for what JSON libraries refuse: an integer of more than 64 bits, half a surrogate pair, deep nesting.
    """
    try:
        return orjson.dumps(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
