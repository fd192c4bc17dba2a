"""Decides which sources can answer for each model, in each dialect that callers speak. (Contract §9.)"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

import msgspec

from kyma_proxy.config.snapshot import IMAGES, Model, Route, Source, route_name
from kyma_proxy.dialect.registry import DIALECTS, IMAGE_DIALECTS, spoken_by_sources


def compile_routes(models: Mapping[str, Model], fallbacks: Mapping[str, tuple[str, ...]]) -> Mapping[str, Mapping[str, Route]]:
    """All routes, by their name and the model's id."""
    routes = {
        route_name(dialect, is_translated=is_translated): _routes(dialect, spoken, models, fallbacks)
        for dialect in DIALECTS
        for is_translated, spoken in ((False, (dialect,)), (True, spoken_by_sources(dialect)))
    }
    return MappingProxyType({**routes, IMAGES: _routes(IMAGES, IMAGE_DIALECTS, models, fallbacks)})


def _routes(
    dialect: str, spoken: Collection[str], models: Mapping[str, Model], fallbacks: Mapping[str, tuple[str, ...]]
) -> Mapping[str, Route]:
    """The routes of callers who speak a dialect, with the sources that speak one of `spoken`."""

    def usable(sources: tuple[Source, ...]) -> tuple[Source, ...]:
        return tuple(one for one in sources if one.provider.off is None and one.provider.dialect in spoken)

    def route(model: Model) -> Route:
        pool, reserve = usable(model.pool), usable(model.reserve)
        dialects = {one.provider.dialect for one in (*pool, *reserve)}
        return Route(model=model, pool=pool, reserve=reserve, dialect=dialect, is_mixed=len(dialects) > 1)

    routes = {name: route(model) for name, model in models.items()}
    return MappingProxyType(
        {
            name: msgspec.structs.replace(
                route,
                substitutes=tuple(routes[other] for other in fallbacks.get(name, ()) if other in routes),
            )
            for name, route in routes.items()
        }
    )
