"""Renders the counters for Prometheus. All of the work is done by a scrape, none when a request ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kyma_proxy.telemetry.counters import Counters, Histogram

_GAUGES: Final = MappingProxyType({
    "kyma_in_flight": "Relayed requests in progress.",
    "kyma_connections": "Open connections of callers.",
    "kyma_provider_connections": "Open connections to providers.",
    "kyma_provider_connections_idle": "Idle connections to providers.",
    "kyma_jobs_active": "Image jobs that wait or run.",
    "kyma_jobs_unwritten": "Image jobs that have ended and are not on disk yet.",
    "kyma_jobs_running": "Image jobs that a source works on.",
    "kyma_access_log_lost_lines": "Lines of the access log that could not be written.",
    "kyma_accounts": "Accounts.",
    "kyma_charges_waiting": "Charges that are not on disk yet.",
    "kyma_charges_lost": "Charges that could not be written.",
    "kyma_accounts_failing": "1 while the database can't be written, else 0.",
})  # fmt: skip
"""What each gauge shows."""


class CountersCollector(Collector):
    """Reads the gateway's counters. `gauges` and `open_breakers` are called at each scrape for the current values.

    `gauges` are some of _GAUGES, by name. `open_breakers` has each source that is on, by provider and model, and for each
    of its endpoints: True if its circuit breaker is open.
    """

    def __init__(
        self,
        counters: Counters,
        gauges: Mapping[str, Callable[[], float]],
        *,
        reloads: Mapping[str, int],
        health_checks: Mapping[str, int],
        open_breakers: Callable[[], Mapping[tuple[str, str], Mapping[str, bool]]],
        jobs: Mapping[str, int],
    ) -> None:
        self._counters = counters
        self._gauges = gauges
        self._reloads = reloads
        self._health_checks = health_checks
        self._open_breakers = open_breakers
        self._jobs = jobs

    def collect(self) -> Iterable[Metric]:
        """Every metric family, with its current values."""
        counters = self._counters
        requests = CounterMetricFamily(
            "kyma_requests", "Relayed requests that have ended.",
            labels=("endpoint", "model", "provider", "status", "ending"),
        )  # fmt: skip
        for (endpoint, model, provider, status, ending), count in list(counters.requests.items()):
            requests.add_metric((endpoint, model, provider, str(status), ending.value), count)
        yield requests
        yield _counter(
            "kyma_rejected", "Requests that the listener refused.", ("code",), {(k,): v for k, v in counters.rejected.items()}
        )
        yield _counter("kyma_failed_attempts", "Attempts that failed.", ("provider", "failure"), counters.attempts)
        yield _counter("kyma_tokens", "Tokens that providers reported.", ("model", "kind"), counters.tokens)
        yield _counter("kyma_request_bytes", "Bytes of request bodies.", (), {(): counters.bytes_in})
        yield _counter("kyma_answer_bytes", "Bytes of answer bodies.", (), {(): counters.bytes_out})
        yield _counter("kyma_stale_retries", "Requests sent again on a fresh connection.", (), {(): counters.stale_retries})
        yield _histogram("kyma_first_byte_seconds", "From the request's last byte to the answer's first byte.", counters.ttft)
        yield _histogram("kyma_duration_seconds", "From the request's last byte to the answer's end.", counters.duration)
        yield _histogram("kyma_overhead_seconds", "What the gateway itself added before the first byte.", counters.overhead)
        yield _counter(
            "kyma_reloads", "Reloads of the configuration.", ("result",), {(k,): v for k, v in self._reloads.items()}
        )
        yield _counter(
            "kyma_health_checks", "Health checks: requests for one token to sources without traffic.", ("result",),
            {(k,): v for k, v in self._health_checks.items()},
        )  # fmt: skip
        yield _counter("kyma_jobs", "Image jobs that have ended.", ("status",), {(k,): v for k, v in self._jobs.items()})
        breakers = GaugeMetricFamily(
            "kyma_breaker_open", "1 while a circuit breaker of a source is open, at any endpoint, else 0.",
            labels=("provider", "model"),
        )  # fmt: skip
        at_endpoints = GaugeMetricFamily(
            "kyma_endpoint_breaker_open", "1 while the circuit breaker of a source at an endpoint is open, else 0.",
            labels=("provider", "model", "endpoint"),
        )  # fmt: skip
        for key, are_open in self._open_breakers().items():
            breakers.add_metric(key, int(any(are_open.values())))
            for endpoint, is_open in are_open.items():
                at_endpoints.add_metric((*key, endpoint), int(is_open))
        yield breakers
        yield at_endpoints
        for name, read in self._gauges.items():
            yield GaugeMetricFamily(name, _GAUGES[name], value=read())


def registry(collector: CountersCollector) -> CollectorRegistry:
    """A registry of the gateway's counters and of the process's own metrics."""
    metrics = CollectorRegistry()
    metrics.register(collector)
    ProcessCollector(registry=metrics)
    PlatformCollector(registry=metrics)
    GCCollector(registry=metrics)
    return metrics


def render(metrics: CollectorRegistry) -> bytes:
    """The text for a scrape."""
    return generate_latest(metrics)


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in list(values.items()):
        family.add_metric(key, count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    family = HistogramMetricFamily(name, text)
    family.add_metric((), list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total)
    return family
