"""Makes the metrics of a scrape. All of the work is done by the scrape, none when a request ends."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from kyma_proxy.telemetry.counters import Counters, Histogram, Series
from kyma_proxy.telemetry.exposition import OPEN_METRICS, Family, counter, gauge, histogram, written

_GAUGES: Final = MappingProxyType({
    "kyma_in_flight": "Relayed requests in progress.",
    "kyma_connections": "Open connections of callers.",
    "kyma_provider_connections": "Open connections to providers.",
    "kyma_provider_connections_idle": "Idle connections to providers.",
    "kyma_jobs_active": "Image jobs that wait or run.",
    "kyma_jobs_unwritten": "Image jobs that have ended and are not on disk yet.",
    "kyma_jobs_running": "Image jobs that a source works on.",
    "kyma_access_log_lost_lines": "Lines of the access log that could not be written.",
    "kyma_config_last_reload_success": "1 if the last reload of the configuration (or the start) succeeded, else 0.",
    "kyma_config_last_reload_success_timestamp_seconds": "When the configuration was last read with success, in Unix time.",
    "kyma_workers": "Workers that serve.",
    "kyma_workers_resident_memory_bytes": "The memory of all workers; what they share is counted for each of them.",
    "kyma_accounts": "Accounts.",
    "kyma_charges_waiting": "Charges that are not on disk yet.",
    "kyma_charges_lost": "Charges that could not be written.",
    "kyma_accounts_failing": "1 while the database can't be written, else 0.",
})  # fmt: skip
"""What each gauge shows."""
BREAKER_STATES: Final = ("closed", "half_open", "open")
_SERIES: Final = ("endpoint", "model", "provider")
_SOURCE: Final = ("provider", "model")


class Build(NamedTuple):
    """The version of the program, and if the path of a request is compiled."""

    version: str
    is_compiled: bool


class Present(Protocol):
    """The present state of the running program, read anew by each scrape."""

    def gauges(self) -> Mapping[str, Callable[[], float]]:
        """Some of _GAUGES, by name."""

    def providers(self) -> Mapping[str, bool]:
        """Each provider, and True if it is on: its key is there."""

    def breakers(self) -> Iterable[tuple[tuple[str, str], Mapping[str, str]]]:
        """Each source that is on, by provider and the provider's id of the model, and for each of its endpoints: its state."""


class Metrics:
    """The metrics of the gateway and of its process. `reloads`, `health_checks` and `jobs` are counted by their results."""

    def __init__(
        self, counters: Counters, present: Present, build: Build, *, reloads: Mapping[str, int],
        health_checks: Mapping[str, int], jobs: Mapping[str, int],
    ) -> None:  # fmt: skip
        self._counters = counters
        self._present = present
        self._build = build
        self._reloads = reloads
        self._health_checks = health_checks
        self._jobs = jobs
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def pieces(self, media_type: str) -> Iterator[bytes]:
        """The text of a scrape of this media type, in pieces between which other work may be done."""
        is_open_metrics = media_type == OPEN_METRICS
        for piece in written(self._families(), is_open_metrics=is_open_metrics):
            yield piece.encode()
        generate: Callable[[CollectorRegistry], bytes] = generate_open_metrics if is_open_metrics else generate_latest
        yield generate(self._process)

    def _families(self) -> Iterator[Family]:
        counters = self._counters
        yield from _of_requests(list(counters.series.items()))
        yield counter(
            "kyma_failed_attempts", "Attempts at a source that failed.", (*_SERIES, "failure"), list(counters.attempts.items())
        )
        yield counter("kyma_stale_retries", "Requests sent again on a fresh connection.", (), [((), counters.stale_retries)])
        yield counter("kyma_rejected", "Requests that the listener refused.", ("code",), _by_one(counters.rejected))
        yield counter("kyma_reloads", "Reloads of the configuration.", ("result",), _by_one(self._reloads))
        yield counter(
            "kyma_health_checks", "Health checks: requests for one token to sources without traffic.", ("result",),
            _by_one(self._health_checks),
        )  # fmt: skip
        yield counter("kyma_jobs", "Image jobs that have ended.", ("status",), _by_one(self._jobs))
        yield from self._of_sources()
        for name, read in self._present.gauges().items():
            yield gauge(name, _GAUGES[name], (), [((), read())])
        compiled = "true" if self._build.is_compiled else "false"
        yield gauge(
            "kyma_build_info", "1; the labels say which program runs.", ("version", "compiled", "python"),
            [((self._build.version, compiled, platform.python_version()), 1)],
        )  # fmt: skip

    def _of_sources(self) -> Iterator[Family]:
        """The state of providers and sources. A source is open if it is at any endpoint, closed if it is at all."""
        present = self._present
        yield gauge(
            "kyma_provider_on", "1 if the provider can be asked, 0 if it has no key.", ("provider",),
            [((name,), is_on) for name, is_on in present.providers().items()],
        )  # fmt: skip
        yield gauge(
            "kyma_breaker_state", "1 for the state of a source's circuit breaker, 0 for the others.", (*_SOURCE, "state"),
            (((*source, state), state == _worst(states)) for source, states in present.breakers() for state in BREAKER_STATES),
        )  # fmt: skip
        yield gauge(
            "kyma_breaker_open", "1 while a circuit breaker of a source is open, at any endpoint, else 0.", _SOURCE,
            ((source, _worst(states) == "open") for source, states in present.breakers()),
        )  # fmt: skip
        yield gauge(
            "kyma_endpoint_breaker_open", "1 while the circuit breaker of a source at an endpoint is open, else 0.",
            (*_SOURCE, "endpoint"),
            (
                ((*source, endpoint), state == "open")
                for source, states in present.breakers()
                for endpoint, state in states.items()
            ),
        )  # fmt: skip


def _of_requests(series: list[tuple[tuple[str, str, str], Series]]) -> Iterator[Family]:
    yield counter(
        "kyma_requests", "Relayed requests that have ended.", (*_SERIES, "status", "ending"),
        (
            ((*key, str(ending.status), ending.state.value), ending.count)
            for key, one in series
            for ending in list(one.endings)
        ),
    )  # fmt: skip
    yield counter(
        "kyma_tokens", "Tokens that providers reported.", (*_SERIES, "kind"),
        (
            ((*key, kind), tokens)
            for key, one in series
            for kind, tokens in (("prompt", one.prompt), ("completion", one.completion), ("cached", one.cached))
            if tokens is not None
        ),
    )  # fmt: skip
    yield counter("kyma_request_bytes", "Bytes of request bodies.", _SERIES, ((key, one.bytes_in) for key, one in series))
    yield counter("kyma_answer_bytes", "Bytes of answer bodies.", _SERIES, ((key, one.bytes_out) for key, one in series))
    histograms: tuple[tuple[str, str, Callable[[Series], Histogram]], ...] = (
        ("first_byte", "From the request's last byte to the answer's first byte.", lambda one: one.first_byte),
        ("duration", "From the request's last byte to the answer's end.", lambda one: one.duration),
        ("overhead", "What the gateway itself added before the first byte.", lambda one: one.overhead),
    )
    for name, text, read in histograms:
        yield histogram(f"kyma_{name}_seconds", text, _SERIES, ((key, read(one)) for key, one in series))


def _worst(states: Mapping[str, str]) -> str:
    """The state of a source that has these at its endpoints."""
    return max(states.values(), key=BREAKER_STATES.index, default="closed")


def _by_one(counts: Mapping[str, int]) -> list[tuple[tuple[Any], int]]:
    return [((key,), count) for key, count in list(counts.items())]
