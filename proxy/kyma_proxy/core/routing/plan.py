"""Decides which sources are tried for a request, and in which order. (Contract §9.) Chance is an argument.

The order is drawn first, then sources whose breaker is open are left out: so layer 0 is always the source that the pool
would have chosen, and the one that answers in its place says so with its layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Final

from kyma_proxy.config.snapshot import Model, Route, Source
from kyma_proxy.core.routing.breaker import CircuitBreaker
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure

_NEVER_FIRST = 1e300
SUBSTITUTE: Final = 3
"""The layer of another model that answers in place of the one that was asked for."""


class Step:
    """A source to try, for which model, and its layer: the pool's choice 0, its others 1, the reserve 2, a substitute 3.

    A source whose breaker is open is asked only with `bypass_breaker`.
    """

    __slots__ = ("breaker", "bypass_breaker", "layer", "model", "source")

    def __init__(
        self, model: Model, source: Source, layer: int, breaker: CircuitBreaker, *, bypass_breaker: bool = False
    ) -> None:
        self.model = model
        self.source = source
        self.layer = layer
        self.breaker = breaker
        self.bypass_breaker = bypass_breaker

    def is_asked_elsewhere(self, now: float) -> bool:
        """True if the source is asked at another of its endpoints, in translation, where it says that it lacks this one.

        One that has answered here of late does not lack the endpoint, but what the caller has named.
        """
        return self.source.translated is not None and not self.breaker.hours.sums(now)[0]


def plan(
    route: Route, breakers: BreakerTable, now: float, random: Callable[[], float], account: str | None = None
) -> tuple[Step, ...]:
    """The sources of a route that the account may ask, in the order in which they are to be tried.

    `now` is in seconds of the monotonic clock; `random` gives numbers in [0, 1); `account` is None if there are no accounts.
    """
    model = route.model
    pool = route.pool
    steps: list[Step] = []
    if len(pool) == 1:
        _add(steps, model, pool, 0, breakers=breakers, now=now, random=random, account=account)
    else:
        drawn = _native_first(route, order(pool, model.policy, breakers, now, random))
        _add(steps, model, drawn[:1], 0, breakers=breakers, now=now, random=random, account=account)
        _add(steps, model, drawn[1:], 1, breakers=breakers, now=now, random=random, account=account)
        if route.is_mixed:
            steps.sort(key=lambda step: step.source.endpoint != route.endpoint)
    _add_rest(steps, route, breakers=breakers, now=now, random=random, account=account)
    return tuple(steps)


def only_first(route: Route, breakers: BreakerTable, now: float, account: str | None = None) -> Step | None:
    """The first step of the plan of a route whose pool is one source with one key, if that may be asked; else None.

    Most requests need no other, so `rest_of_plan` is made only for those that do.
    """
    if len(route.pool) != 1:
        return None
    source = route.pool[0]
    breaker = breakers.of(source)
    if breaker.has_siblings or not breaker.allows(now, account):
        return None
    return Step(route.model, source, 0, breaker)


def rest_of_plan(
    route: Route, breakers: BreakerTable, now: float, random: Callable[[], float], account: str | None = None
) -> tuple[Step, ...]:
    """The steps of the plan that follow those of the pool."""
    steps: list[Step] = []
    _add_rest(steps, route, breakers=breakers, now=now, random=random, account=account)
    return tuple(steps)


def _add_rest(
    steps: list[Step], route: Route, *, breakers: BreakerTable, now: float, random: Callable[[], float], account: str | None
) -> None:
    model = route.model
    if route.reserve:
        reserve = _native_first(route, order(route.reserve, model.policy, breakers, now, random))
        _add(steps, model, reserve, 2, breakers=breakers, now=now, random=random, account=account)
    for other in route.substitutes:
        for sources in (other.pool, other.reserve):
            drawn = _native_first(other, order(sources, other.model.policy, breakers, now, random))
            _add(steps, other.model, drawn, SUBSTITUTE, breakers=breakers, now=now, random=random, account=account)


def _native_first(route: Route, drawn: tuple[Source, ...] | list[Source]) -> tuple[Source, ...] | list[Source]:
    """The same order, with those first that need no translation: a translation may lose something."""
    if not route.is_mixed:
        return drawn
    return sorted(drawn, key=lambda source: source.endpoint != route.endpoint)


def order(
    sources: tuple[Source, ...], policy: str, breakers: BreakerTable, now: float, random: Callable[[], float]
) -> tuple[Source, ...] | list[Source]:
    """The sources in the order of a policy.

    `priority`: as they are written. `weighted`: drawn by weight without replacement; weight 0 comes last. `fastest`: drawn so
    as well, and then the faster of the first two goes first; one whose time is not known, or stale, counts as fast.
    """
    if policy == "priority" or len(sources) < 2:
        return sources
    # The k-th smallest of exponential variates is the k-th draw without replacement (Efraimidis, Spirakis 2006).
    keyed: list[tuple[float, int, Source]] = []
    for at, source in enumerate(sources):
        keyed.append((-math.log(1.0 - random()) / source.weight if source.weight else _NEVER_FIRST, at, source))
    keyed.sort()
    drawn = [source for _, _, source in keyed]
    if policy == "fastest":
        first, second = drawn[0], drawn[1]
        if breakers.of(second).expected_first_byte_s(now) < breakers.of(first).expected_first_byte_s(now):
            drawn[0], drawn[1] = second, first
    return drawn


def each_key(sources: Iterable[Source]) -> list[Source]:
    """The sources, and beside each the same with its other keys."""
    return [one for source in sources for one in source.with_keys]


def _where(source: Source, breakers: BreakerTable, now: float, account: str | None) -> tuple[Source, CircuitBreaker]:
    """The source at the endpoint at which it is to be asked: not at one that it lacks, if it has another."""
    breaker = breakers.of(source)
    if source.translated is None or not breaker.is_missing(now, account):
        return source, breaker
    return source.translated, breakers.of(source.translated)


def last_resort(
    route: Route, breakers: BreakerTable, now: float, tried: Collection[str], account: str | None = None
) -> list[Step]:
    """The sources to ask when all others have failed: those that may be asked again by now, and those that may bypass.

    The latter are open for a reason that says little about now (see `CircuitBreaker.may_be_bypassed`), and nobody else is left.
    """
    steps: list[Step] = []
    for one in (route, *route.substitutes):
        first, second = (SUBSTITUTE, SUBSTITUTE) if one is not route else (0 if len(one.pool) == 1 else 1, 2)
        for sources, layer in ((one.pool, first), (one.reserve, second)):
            for one_key in each_key(sources):
                source, breaker = _where(one_key, breakers, now, account)
                is_allowed = breaker.allows(now, account)  # its time has ended since the plan was made
                if source.key not in tried and (is_allowed or breaker.may_be_bypassed(now, account)):
                    steps.append(Step(one.model, source, layer, breaker, bypass_breaker=not is_allowed))
    return steps


def unasked(
    route: Route, breakers: BreakerTable, now: float, tried: Collection[str], account: str | None = None
) -> list[AttemptFailure]:
    """A failure for each source of the route that is not asked; `tried` are the keys of those that were.

    Its breaker is open, or it lacks the endpoint (`AttemptFailure.is_missing`).
    """
    failures: list[AttemptFailure] = []
    for one in (route, *route.substitutes):
        for one_key in each_key((*one.pool, *one.reserve)):
            source, breaker = _where(one_key, breakers, now, account)
            if source.key not in tried and not breaker.allows(now, account):
                failures.append(breaker.skipped(now, source.provider.name, account))
    return failures


def _add(
    steps: list[Step], model: Model, sources: tuple[Source, ...] | list[Source], layer: int, *, breakers: BreakerTable,
    now: float, random: Callable[[], float], account: str | None,
) -> None:  # fmt: skip
    for source in sources:
        breaker = breakers.of(source)
        if breaker.has_siblings:
            _add_keys(steps, model, source, layer, breakers=breakers, now=now, random=random, account=account)
        elif breaker.allows(now, account):
            steps.append(Step(model, source, layer, breaker))
        elif source.translated is not None:
            other, breaker = _where(source, breakers, now, account)
            if breaker.allows(now, account):
                steps.append(Step(model, other, layer, breaker))


def _add_keys(
    steps: list[Step], model: Model, source: Source, layer: int, *, breakers: BreakerTable, now: float,
    random: Callable[[], float], account: str | None,
) -> None:  # fmt: skip
    """Add a source with each of its keys, beginning with any of them: so they take turns. All are of one layer."""
    keyed = source.with_keys
    first = int(random() * len(keyed))
    for one_key in (*keyed[first:], *keyed[:first]):
        one, breaker = _where(one_key, breakers, now, account)
        if breaker.allows(now, account):
            steps.append(Step(model, one, layer, breaker))
