"""Finds the route of the model that a caller names, and explains why there is none. (Contract §3.2.)"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Final

from kyma_proxy.config.snapshot import Model, Route, Snapshot
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.core.routing.failures import exhausted
from kyma_proxy.core.routing.patterns import PatternRoutes
from kyma_proxy.errors import GatewayError, Kind

_MAX_COMPARED: Final = 20


class Routes:
    """Finds the routes of models; it keeps those of the ids that only patterns know and that were asked for last."""

    def __init__(self) -> None:
        self._of_patterns = PatternRoutes()
        self._snapshot: Snapshot | None = None
        self._by_name: dict[str, dict[str, Route]] = {}
        """The routes of the snapshot that was asked last, by endpoint: a dictionary is read at a fifth of a mapping's price."""

    def of(self, snapshot: Snapshot, endpoint: Endpoint, name: str) -> tuple[Route, bool]:
        """The route of the model or alias `name` at an endpoint, and True if it is an alias. Raises GatewayError.

        An id of the configuration wins over a pattern, and a longer prefix over a shorter one.
        """
        if snapshot is not self._snapshot:
            self._by_name = {key: dict(routes) for key, routes in snapshot.routes.items()}
            self._snapshot = snapshot
        routes = self._by_name[endpoint.key]
        route = routes.get(name)
        if route is not None:
            return route, False
        target = snapshot.aliases.get(name)
        if target is not None:
            return routes[target], True
        route = self._of_patterns.find(snapshot, endpoint.key, name) if snapshot.patterns else None
        if route is None:
            raise _unknown_model(name, snapshot)
        return route, False


def route_of(snapshot: Snapshot, endpoint: Endpoint, name: str) -> tuple[Route, bool]:
    """The route of a model or alias of the configuration, as of `Routes.of`; patterns do not count. Raises GatewayError."""
    routes = snapshot.routes[endpoint.key]
    target = name if name in routes else snapshot.aliases.get(name)
    if target is None:
        raise _unknown_model(name, snapshot)
    return routes[target], target is not name


def is_answered(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> bool:
    """True if any source answers for a model at an endpoint, if only in another dialect."""
    route = snapshot.routes[endpoint.key].get(model.id) or snapshot.pattern_routes[endpoint.key][model.counted_as]
    return not route.is_empty


def unanswerable(
    model: Model, endpoint: Endpoint, snapshot: Snapshot, others: Iterable[Endpoint], spoken: Collection[str], *,
    are_named: bool,
) -> GatewayError:  # fmt: skip
    """The error if no source of a model is on that could answer callers of this endpoint.

    It names the first of the `others` at which the model is answered; sources that speak one of `spoken` could answer here.
    `are_named` is as in `exhausted`.
    """
    if model.is_image:
        return GatewayError(
            Kind.INVALID_REQUEST, f"{model.id} makes images; ask for them at /v1/images/generations.", param="model"
        )
    on = [source for source in (*model.pool, *model.reserve) if source.provider.off is None]
    if not on:
        return exhausted(model.id, (), are_named=are_named)
    where = next((f"/v1{one.path.decode()}" for one in others if is_answered(snapshot, one, model)), "another endpoint")
    if not {source.provider.dialect for source in on}.isdisjoint(spoken):
        message = f"No source of {model.id} has the endpoint {endpoint.key}; ask for it at {where}."
        return GatewayError(Kind.NOT_FOUND, message)
    message = f"No source of {model.id} speaks {endpoint.dialect}; ask for it at {where}."
    return GatewayError(Kind.INVALID_REQUEST, message, param="model")


def _unknown_model(name: str, snapshot: Snapshot) -> GatewayError:
    # Comparing is slow, and the loop has streams to serve: only names that begin alike are looked at.
    alike = [known for known in (*snapshot.models, *snapshot.aliases) if known[:2].lower() == name[:2].lower()]
    close = difflib.get_close_matches(name[:64], alike[:_MAX_COMPARED], n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]}?" if close else ";"
    return GatewayError(Kind.MODEL_NOT_FOUND, f"There is no model {name}{hint} GET /v1/models lists them all.", param="model")
