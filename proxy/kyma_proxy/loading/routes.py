"""Decides which sources can answer for each model, at each endpoint that callers ask. (Contract §9.)"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from kyma_proxy.config.snapshot import IMAGES, Model, Route, Source
from kyma_proxy.dialect.registry import IMAGE_DIALECTS, RELAYED, asked_endpoints


def compile_routes(models: Mapping[str, Model], fallbacks: Mapping[str, tuple[str, ...]]) -> Mapping[str, Mapping[str, Route]]:
    """All routes, by their endpoint's key and the model's id."""
    routes = {
        endpoint.key: _routes(endpoint.key, asked_endpoints(endpoint), models, fallbacks) for endpoint in RELAYED.values()
    }
    return MappingProxyType({**routes, IMAGES: _routes(IMAGES, dict.fromkeys(IMAGE_DIALECTS, (IMAGES,)), models, fallbacks)})


def separated(
    routes: Mapping[str, Mapping[str, Route]], patterns: Collection[str]
) -> tuple[Mapping[str, Mapping[str, Route]], Mapping[str, Mapping[str, Route]]]:
    """The routes of models, and those of patterns, which have these ids. No caller may ask for a pattern's own."""
    if not patterns:
        return routes, MappingProxyType({})
    return (
        MappingProxyType({key: _without(at, lambda name: name in patterns) for key, at in routes.items()}),
        MappingProxyType({key: _without(at, lambda name: name not in patterns) for key, at in routes.items()}),
    )


def _without(routes: Mapping[str, Route], is_left_out: Callable[[str], bool]) -> Mapping[str, Route]:
    return MappingProxyType({name: route for name, route in routes.items() if not is_left_out(name)})


def _routes(
    endpoint: str, asked: Mapping[str, tuple[str, ...]], models: Mapping[str, Model], fallbacks: Mapping[str, tuple[str, ...]]
) -> Mapping[str, Route]:
    """The routes of callers of an endpoint, with the sources that have one of those in `asked`, by their dialect."""

    def usable(sources: tuple[Source, ...]) -> tuple[Source, ...]:
        return tuple(
            _asked_at(one, keys)
            for one in sources
            if one.provider.off is None
            and (keys := [key for key in asked.get(one.provider.dialect, ()) if key in one.endpoints])
        )

    def route(model: Model) -> Route:
        pool, reserve = usable(model.pool), usable(model.reserve)
        is_mixed = len({key for one in (*pool, *reserve) for key in _endpoints_of(one)}) > 1
        return Route(model=model, pool=pool, reserve=reserve, endpoint=endpoint, is_mixed=is_mixed)

    routes = {name: route(model) for name, model in models.items()}
    return MappingProxyType(
        {
            name: replace(
                route,
                substitutes=tuple(routes[other] for other in fallbacks.get(name, ()) if other in routes),
            )
            for name, route in routes.items()
        }
    )


def _endpoints_of(source: Source) -> tuple[str, ...]:
    return (source.endpoint,) if source.translated is None else (source.endpoint, source.translated.endpoint)


def _asked_at(source: Source, keys: Sequence[str]) -> Source:
    """The source, asked at the first of these endpoints; and at the next one if it turns out to lack that."""
    others = tuple([_asked_at(one, keys) for one in source.other_keys])
    at = [replace(source, endpoint=key, breaker_key=f"{source.key} {key}", other_keys=others) for key in keys]
    return at[0] if len(at) == 1 else replace(at[0], translated=at[1])
