"""Finds the reasoning effort that a source takes for the one that its caller asks for. (Contract §3.)

A source refuses a value that it does not know. The nearest one is as close to what the caller wants as it can be had; of two
that are equally near, the smaller costs less.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

NONE: Final = "none"
EFFORTS: Final = (NONE, "minimal", "low", "medium", "high", "xhigh", "max")
"""All values, from the smallest. `default`, which some sources take, stands in their middle."""
_RANKS: Final = {**{effort: rank for rank, effort in enumerate(EFFORTS)}, "default": EFFORTS.index("medium")}


def nearest_effort(effort: str, taken: Collection[str]) -> str | None:
    """The value to send for an effort, given those that are taken; None if there is no value that would mean the same.

    A model that is to think is not told to stop thinking; where it can't be stopped, it is to think as little as it can.
    """
    if effort in taken:
        return effort
    rank = _RANKS.get(effort)
    known = sorted([one for one in taken if one in _RANKS and one != NONE], key=lambda one: _RANKS[one])
    if rank is None or not known:
        return None
    return min(known, key=lambda one: abs(_RANKS[one] - rank))
