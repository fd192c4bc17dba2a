"""This file decides which sources are tried for a request, and in which order. (Contract §9.) Chance is an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from proxy.config.snapshot import Model, Source


class Step(NamedTuple):
    """A source to try and its layer: 0 is the pool's first choice, 1 another source of the pool."""

    source: Source
    layer: int


def plan(model: Model, dialect: str, random: Callable[[], float]) -> tuple[Step, ...]:
    """The sources of a model that are on and speak `dialect`, in the order in which they are to be tried.

    The order is drawn by weight; a source of weight 0 comes last. `random` gives numbers in [0, 1).
    """
    usable = model.usable.get(dialect, ())
    if len(usable) == 1:
        return (Step(usable[0], 0),)
    left = list(usable)
    steps: list[Step] = []
    while left:
        chosen = _draw(left, random) if len(left) > 1 else 0
        steps.append(Step(left.pop(chosen), 1 if steps else 0))
    return tuple(steps)


def _draw(sources: list[Source], random: Callable[[], float]) -> int:
    """The index of a source, drawn by weight."""
    weights = [source.weight for source in sources]
    point = random() * sum(weights)
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return weights.index(max(weights))  # every weight is 0, or rounding has left a crumb
