"""This file decides which sources are tried for a request, and in which order. (Contract §9.) Chance is an argument.

The order is drawn first, then what rests is left out: so layer 0 is always the source that the pool would have chosen,
and whoever answers in its place says so with its layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Final

from kyma_proxy.config.snapshot import Model, Route, Source
from kyma_proxy.core.routing.breaker import BreakerTable, CircuitBreaker
from kyma_proxy.core.routing.failures import AttemptFailure

_NEVER_FIRST = 1e300
SUBSTITUTE: Final = 3
"""The layer of another model that answers in place of the one that was asked for."""


class Step:
    """A source to try, for which model, and its layer: the pool's choice 0, its others 1, the reserve 2, a substitute 3.

    A source that rests is asked only `anyway`.
    """

    __slots__ = ("bypass_breaker", "health", "layer", "model", "source")

    def __init__(
        self, model: Model, source: Source, layer: int, health: CircuitBreaker, *, bypass_breaker: bool = False
    ) -> None:
        self.model = model
        self.source = source
        self.layer = layer
        self.health = health
        self.bypass_breaker = bypass_breaker


def plan(route: Route, table: BreakerTable, now: float, random: Callable[[], float]) -> tuple[Step, ...]:
    """The sources that are on, speak the route's dialect and don't rest, in the order in which they are to be tried.

    `now` is in seconds of the monotonic clock; `random` gives numbers in [0, 1).
    """
    model = route.model
    pool = route.pool
    steps: list[Step] = []
    if len(pool) == 1:
        _add(steps, model, pool, 0, table=table, now=now)
    else:
        drawn = _native_first(route, order(pool, model.policy, table, now, random))
        _add(steps, model, drawn[:1], 0, table=table, now=now)
        _add(steps, model, drawn[1:], 1, table=table, now=now)
    if route.reserve:
        reserve = _native_first(route, order(route.reserve, model.policy, table, now, random))
        _add(steps, model, reserve, 2, table=table, now=now)
    for other in route.substitutes:
        for sources in (other.pool, other.reserve):
            drawn = _native_first(other, order(sources, other.model.policy, table, now, random))
            _add(steps, other.model, drawn, SUBSTITUTE, table=table, now=now)
    return tuple(steps)


def _native_first(route: Route, drawn: tuple[Source, ...] | list[Source]) -> tuple[Source, ...] | list[Source]:
    """The same order, with those first that need no translation, in which something may be lost."""
    if not route.is_mixed:
        return drawn
    return sorted(drawn, key=lambda source: source.provider.dialect != route.dialect)


def order(
    sources: tuple[Source, ...], policy: str, table: BreakerTable, now: float, random: Callable[[], float]
) -> tuple[Source, ...] | list[Source]:
    """The sources in the order of a policy.

    `priority`: as they are written. `weighted`: drawn by weight without putting back; weight 0 comes last. `fastest`: drawn
    so as well, and then the faster of the first two goes first; one whose time is not known, or stale, counts as fast.
    """
    if policy == "priority" or len(sources) < 2:
        return sources
    # The k-th smallest of exponential variates is the k-th draw without putting back (Efraimidis, Spirakis 2006).
    keyed: list[tuple[float, int, Source]] = []
    for at, source in enumerate(sources):
        keyed.append((-math.log(1.0 - random()) / source.weight if source.weight else _NEVER_FIRST, at, source))
    keyed.sort()
    drawn = [source for _, _, source in keyed]
    if policy == "fastest":
        first, second = drawn[0], drawn[1]
        if table.of(second.key).expected_first_byte_s(now) < table.of(first.key).expected_first_byte_s(now):
            drawn[0], drawn[1] = second, first
    return drawn


def last_resort(route: Route, table: BreakerTable, now: float, tried: Collection[str]) -> list[Step]:
    """The sources to ask when all others have failed: those whose rest has just ended, and those that are worth asking anyway.

    The latter rest for what says little of now (see `Health.may_bypass`), and nobody else is left to answer.
    """
    steps: list[Step] = []
    for one in (route, *route.substitutes):
        first, second = (SUBSTITUTE, SUBSTITUTE) if one is not route else (0 if len(one.pool) == 1 else 1, 2)
        for sources, layer in ((one.pool, first), (one.reserve, second)):
            for source in sources:
                health = table.of(source.key)
                is_due = health.admits(now)  # its rest has ended since the plan was made
                if source.key not in tried and (is_due or health.may_bypass):
                    steps.append(Step(one.model, source, layer, health, bypass_breaker=not is_due))
    return steps


def open_breakers(route: Route, table: BreakerTable, now: float, tried: Collection[str]) -> list[AttemptFailure]:
    """Why each source of the route that is not asked is not; `tried` are the keys of those that were."""
    failures: list[AttemptFailure] = []
    for one in (route, *route.substitutes):
        for source in (*one.pool, *one.reserve):
            health = table.of(source.key)
            if source.key not in tried and not health.admits(now):
                failures.append(health.resting(now, source.provider.name))
    return failures


def _add(
    steps: list[Step], model: Model, sources: tuple[Source, ...] | list[Source], layer: int, *, table: BreakerTable, now: float
) -> None:
    for source in sources:
        health = table.of(source.key)
        if health.admits(now):
            steps.append(Step(model, source, layer, health))
