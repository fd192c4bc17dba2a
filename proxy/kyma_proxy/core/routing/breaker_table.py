"""Keeps the circuit breakers of all sources, and how requests for each model ended, over reloads of the configuration.

The sources of a pattern's models are named by callers. So only MAX_NAMED_BY_CALLERS of them are kept, and those go first that
never answered or were not asked for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.routing.breaker import CircuitBreaker, SourceCircuit
from kyma_proxy.core.routing.circuit import Circuit
from kyma_proxy.core.routing.failures import AttemptFailure
from kyma_proxy.core.routing.history import HourlyCounts

MAX_NAMED_BY_CALLERS: Final = 512
_MAX_LOOKED_AT: Final = 16


class Survey:
    """The sources and the models of a configuration, as the table needs them to forget others."""

    def __init__(self) -> None:
        self.reached: dict[str, object] = {}
        """By Source.key: the address and the credential."""
        self.patterns: dict[str, object] = {}
        self.with_siblings: set[str] = set()
        self.models: set[str] = set()

    def add(self, source: Source) -> None:
        """Look at a source."""
        provider = source.provider
        reached = (provider.origin, provider.base_path, provider.query, provider.header_lines)
        self.reached[source.key] = reached
        if source.model.endswith("*"):
            self.patterns[source.key] = reached
        if source.siblings:
            self.with_siblings.add(source.key)


class BreakerTable:
    """The breaker of every source at every endpoint, and the hourly counts of every model, by the model's id."""

    def __init__(self) -> None:
        self._breakers: dict[str, CircuitBreaker] = {}  # by Source.breaker_key
        self._sources: dict[str, SourceCircuit] = {}  # by Source.key
        self.changed: set[str] = set()
        """The keys of the sources of which a circuit may have opened or closed since somebody emptied this."""
        self._reached: dict[str, object] = {}
        self._patterns: dict[str, object] = {}
        self._with_siblings: set[str] = set()  # by Source.key
        self._models: dict[str, HourlyCounts] = {}
        self._named_by_callers: dict[str, float] = {}
        """By Source.key, the oldest first: when it had been asked last when it was looked at last."""

    def of(self, source: Source) -> CircuitBreaker:
        """The breaker of a route's source at the endpoint at which the route asks it; a new one is closed."""
        breaker = self._breakers.get(source.breaker_key)
        if breaker is None:
            if source.siblings:
                self._with_siblings.add(source.key)
            breaker = self.at(source.key, source.endpoint, is_main=source.endpoint == source.main_endpoint)
            breaker.has_siblings = bool(source.siblings)
        return breaker

    def at(self, key: str, endpoint: str, *, is_main: bool = False) -> CircuitBreaker:
        """The breaker of the source with this key at an endpoint; a new one is closed. `is_main`: of its dialect."""
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = SourceCircuit(key, self.changed)
            if key not in self._reached:
                self._add_named_by_caller(key)
        breaker = source.endpoints.get(endpoint)
        if breaker is None:
            breaker = source.endpoints[endpoint] = self._breakers[f"{key} {endpoint}"] = CircuitBreaker(source, is_main=is_main)
            breaker.has_siblings = key in self._with_siblings
        return breaker

    def _add_named_by_caller(self, key: str) -> None:
        """Keep a source that is not in the configuration. If there are too many, the oldest goes that was of no use of late."""
        named, looked_at = self._named_by_callers, 0
        named[key] = 0.0
        while len(named) > MAX_NAMED_BY_CALLERS:
            oldest = next(iter(named))
            asked_before, source = named.pop(oldest), self._sources[oldest]
            asked_at = source.asked_at
            looked_at += 1
            has_answered = any(one.first_byte_s for one in source.endpoints.values())
            if has_answered and asked_at > asked_before and looked_at < _MAX_LOOKED_AT:
                named[oldest] = asked_at
            else:
                self._forget(oldest)

    def _forget(self, key: str) -> None:
        self.changed.add(key)
        for endpoint in self._sources.pop(key).endpoints:
            del self._breakers[f"{key} {endpoint}"]

    def of_all(self, source: Source) -> list[Mapping[str, CircuitBreaker]]:
        """The breakers of a source by endpoint; of a pattern's source those for each of its models that is known here."""
        if not source.model.endswith("*"):
            return [self.endpoints_of(source.key)]
        start = f"{source.key} "
        named = [one for one in self._named_by_callers if one.startswith(start) and " " not in one[len(start) :]]
        return [self._sources[one].endpoints for one in named]

    def endpoints_of(self, key: str) -> Mapping[str, CircuitBreaker]:
        """The breakers of a source at the endpoints at which it may have been asked."""
        source = self._sources.get(key)
        return {} if source is None else source.endpoints

    def circuits_of(self, key: str) -> list[tuple[str, Circuit]]:
        """The circuits of a source that are about all accounts: its own, as that of "", and those of its endpoints."""
        source = self._sources.get(key)
        return [] if source is None else [("", source), *source.endpoints.items()]

    def adopt(
        self, key: str, endpoint: str, open_until: float, openings: int, last: AttemptFailure | None, *,
        is_hinted: bool, is_main: bool,
    ) -> None:  # fmt: skip
        """Open or close (at 0.0) a circuit as another process has; `endpoint` is as in `circuits_of`."""
        if endpoint:
            self.at(key, endpoint, is_main=is_main)
        for name, circuit in self.circuits_of(key):
            if name != endpoint:
                continue
            if open_until:
                circuit.adopt(open_until, openings, last, is_hinted=is_hinted)
            else:
                circuit.close()
        for breaker in self.endpoints_of(key).values():
            if not (open_until or endpoint):
                breaker.forgive()
            breaker.look_again()

    def known(self) -> list[tuple[str, str, CircuitBreaker]]:
        """All breakers, with the keys of their sources and their endpoints."""
        return [(key, name, one) for key, source in self._sources.items() for name, one in source.endpoints.items()]

    def hours_of_models(self) -> list[tuple[str, HourlyCounts]]:
        """The hourly counts of all models."""
        return list(self._models.items())

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
        survey = Survey()
        for source in sources:
            survey.add(source)
        survey.models.update(models)
        self.retain_surveyed(survey)

    def retain_surveyed(self, survey: Survey) -> None:
        """Do the same with sources and models that were looked at before."""
        reached, patterns = survey.reached, survey.patterns
        self._with_siblings = survey.with_siblings
        if not patterns or patterns != self._patterns:
            for key in self._named_by_callers:
                self._forget(key)
            self._named_by_callers = {}
        for key in [key for key in self._sources if key not in self._named_by_callers]:
            if self._reached.get(key) != reached.get(key, ()):
                self._forget(key)
                continue
            for breaker in self._sources[key].endpoints.values():
                breaker.has_siblings = key in self._with_siblings
        self._reached, self._patterns = reached, patterns
        self._models = {model: hours for model, hours in self._models.items() if model in survey.models}
