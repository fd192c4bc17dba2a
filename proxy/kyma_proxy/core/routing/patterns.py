"""Finds the sources of a model that only a pattern knows (`groq/*`), and makes its route. (Contract §9, §12.)

Callers choose such ids, so whatever is kept by id is bounded: the routes here, the circuit breakers in `BreakerTable`. What
must not grow at all (metrics, the status) goes by the pattern's id, `Model.counted_as`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec

from kyma_proxy.config.snapshot import Model, Pattern, Price, Route, Snapshot, Source
from kyma_proxy.config.supports import of_model
from kyma_proxy.core.accounts.quantities import is_measured

MAX_ROUTES: Final = 1024
MAX_ID_CHARACTERS: Final = 256
_ID: Final = re.compile(r"[\x21-\x29\x2b-\x7e]+")  # it becomes a line of an answer's head; an asterisk is of patterns only


class PatternRoutes:
    """The routes of the ids that were asked for last; an id whose route is gone gets a new one."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._routes: dict[tuple[str, str], Route] = {}  # by the endpoint's key and the model's id

    def find(self, snapshot: Snapshot, endpoint: str, name: str) -> Route | None:
        """The route of the model `name` at the endpoint with this key; None if no pattern knows it."""
        if self._snapshot is not snapshot:
            self._snapshot = snapshot
            self._routes = {}
        route = self._routes.get((endpoint, name))
        if route is None:
            route = pattern_route(snapshot, endpoint, name)
            if route is not None:
                if len(self._routes) >= MAX_ROUTES:
                    del self._routes[next(iter(self._routes))]
                self._routes[(endpoint, name)] = route
        return route

    def __len__(self) -> int:
        return len(self._routes)


def pattern_of(snapshot: Snapshot, name: str) -> Pattern | None:
    """The pattern with the longest prefix that knows a model, whether or not it has a price; None if none does."""
    if len(name) > MAX_ID_CHARACTERS or not _ID.fullmatch(name):
        return None
    return next((one for one in snapshot.patterns if len(name) > len(one.prefix) and name.startswith(one.prefix)), None)


def pattern_route(snapshot: Snapshot, endpoint: str, name: str) -> Route | None:
    """The route of a model at the endpoint with this key; None if no pattern knows it."""
    pattern = pattern_of(snapshot, name)
    model = None if pattern is None else model_of(pattern, name, needs_price=snapshot.accounts.required)
    if pattern is None or model is None:
        return None
    template, rest = snapshot.pattern_routes[endpoint][pattern.model.id], name[len(pattern.prefix) :]
    return replace(template, model=model, pool=_named(template.pool, rest), reserve=_named(template.reserve, rest))


def model_of(pattern: Pattern, name: str, *, needs_price: bool = False) -> Model | None:
    """The model `name` of a pattern; None if it needs a price and has none."""
    template, rest = pattern.model, name[len(pattern.prefix) :]
    price = _longest_match(pattern.prices, name) or template.price
    if needs_price and not has_price(price):
        return None
    pool, reserve = _named(template.pool, rest), _named(template.reserve, rest)
    return replace(template, id=name, name=name, price=price, pool=pool, reserve=reserve)


def has_price(price: Price) -> bool:
    """True if both directions have a price, which may be 0, or if it is measured by more than tokens."""
    return (price.input is not None and price.output is not None) or is_measured(price)


def _longest_match(prices: Mapping[str, Price], name: str) -> Price | None:
    exact = prices.get(name)
    if exact is not None or not prices:
        return exact
    fitting = [one for one in prices if one.endswith("*") and name.startswith(one[:-1])]
    return prices[max(fitting, key=len)] if fitting else None


def _named(sources: tuple[Source, ...], rest: str) -> tuple[Source, ...]:
    """The sources of a pattern, for one of its models. Each model has circuit breakers of its own."""
    return tuple([_source_named(one, rest) for one in sources])


def _source_named(source: Source, rest: str) -> Source:
    if not source.model.endswith("*"):
        return source  # one model answers for all ids of the pattern
    model, key = source.model[:-1] + rest, f"{source.key} {rest}"
    return replace(
        source, model=model, model_json=msgspec.json.encode(model), key=key, breaker_key=f"{key} {source.endpoint}",
        supports=of_model(model, source.supports_by_model, source.supports),
        other_keys=_named(source.other_keys, rest), siblings=frozenset([f"{one} {rest}" for one in source.siblings]),
        translated=None if source.translated is None else _source_named(source.translated, rest),
    )  # fmt: skip
