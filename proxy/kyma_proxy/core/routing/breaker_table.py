"""Keeps the circuit breakers of all sources, and how requests for each model ended, over reloads of the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.routing.breaker import CircuitBreaker, SourceCircuit
from kyma_proxy.core.routing.failures import AttemptFailure
from kyma_proxy.core.routing.history import HourlyCounts


class BreakerTable:
    """The breaker of every source at every endpoint, and the hourly counts of every model, by the model's id."""

    def __init__(self) -> None:
        self._breakers: dict[str, CircuitBreaker] = {}  # by Source.breaker_key
        self._sources: dict[str, SourceCircuit] = {}  # by Source.key
        self.changed: set[str] = set()
        """The keys of the sources of which a circuit may have opened or closed since somebody emptied this."""
        self._reached: dict[str, object] = {}
        self._with_siblings: set[str] = set()  # by Source.key
        self._models: dict[str, HourlyCounts] = {}

    def of(self, source: Source) -> CircuitBreaker:
        """The breaker of a route's source at the endpoint at which the route asks it; a new one is closed."""
        breaker = self._breakers.get(source.breaker_key)
        if breaker is None:
            if source.siblings:
                self._with_siblings.add(source.key)
            return self.at(source.key, source.endpoint, is_main=source.endpoint == source.main_endpoint)
        return breaker

    def at(self, key: str, endpoint: str, *, is_main: bool = False) -> CircuitBreaker:
        """The breaker of the source with this key at an endpoint; a new one is closed. `is_main`: of its dialect."""
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = SourceCircuit(key, self.changed)
        breaker = source.endpoints.get(endpoint)
        if breaker is None:
            breaker = source.endpoints[endpoint] = self._breakers[f"{key} {endpoint}"] = CircuitBreaker(source, is_main=is_main)
            breaker.has_siblings = key in self._with_siblings
        return breaker

    def endpoints_of(self, key: str) -> Mapping[str, CircuitBreaker]:
        """The breakers of a source at the endpoints at which it may have been asked."""
        source = self._sources.get(key)
        return {} if source is None else source.endpoints

    def source_failure(self, key: str) -> AttemptFailure | None:
        """The last failure of a source that was about all its endpoints; None if it has answered since."""
        source = self._sources.get(key)
        return source.last if source is not None and source.points else None

    def asked_at(self, key: str) -> float:
        """When a source was last asked, at any endpoint; 0.0 if never."""
        source = self._sources.get(key)
        return 0.0 if source is None else source.asked_at

    def of_model(self, model: str) -> HourlyCounts:
        """The hourly counts of how requests for a model ended."""
        hours = self._models.get(model)
        if hours is None:
            hours = self._models[model] = HourlyCounts()
        return hours

    def retain(self, sources: Iterable[Source], models: Iterable[str]) -> None:
        """Forget all others: what a reload removed, or now reaches at another address or with another credential."""
        reached: dict[str, object] = {}
        self._with_siblings = set()
        for one in sources:
            provider = one.provider
            reached[one.key] = (provider.origin, provider.base_path, provider.query, provider.header_lines)
            if one.siblings:
                self._with_siblings.add(one.key)
        known_models = set(models)
        kept = {key: one for key, one in self._sources.items() if self._reached.get(key) == reached.get(key, ())}
        self.changed |= self._sources.keys() - kept.keys()
        self._sources = kept
        self._breakers = {}
        for key, source in self._sources.items():
            for endpoint, breaker in source.endpoints.items():
                breaker.has_siblings = key in self._with_siblings
                self._breakers[f"{key} {endpoint}"] = breaker
        self._reached = reached
        self._models = {model: hours for model, hours in self._models.items() if model in known_models}
