"""A scrape is valid in both formats, whatever the labels hold, and is made in pieces."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families as prometheus_families

from kyma_proxy.core.exchange import State
from kyma_proxy.telemetry.counters import Counters, Ending, Series
from kyma_proxy.telemetry.exposition import MAX_LINES, OPEN_METRICS, PROMETHEUS, counter, histogram, media_type, written
from kyma_proxy.telemetry.metrics import Build, Metrics

PROMETHEUS_ASKS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


class Present:
    def gauges(self) -> dict[str, Callable[[], float]]:
        return {"kyma_in_flight": lambda: 3}

    def providers(self) -> dict[str, bool]:
        return {"alpha": True, 'be"ta': False}

    def breakers(self) -> list[tuple[tuple[str, str], dict[str, str]]]:
        return [(("alpha", "a\\b\n"), {"chat/completions": "open", "embeddings": "closed"}), (("alpha", "unasked"), {})]


def metrics(models: int = 2) -> Metrics:
    counters = Counters()
    for at in range(models):
        series = counters.series["chat/completions", f'model "{at}" \\', "alpha"] = Series()
        series.endings.append(Ending(200, State.COMPLETED, at + 1))
        series.prompt = 2**70
        for histogram_of in (series.first_byte, series.duration, series.overhead):
            histogram_of.observe(0.02)
            histogram_of.observe(1e9)
    counters.attempts["chat/completions", "m", "alpha", "503"] = 1
    return Metrics(
        counters, Present(), Build("1.2", is_compiled=True), reloads={"failed": 1}, health_checks={}, jobs={}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PROMETHEUS),
        ("*/*", PROMETHEUS),
        ("text/plain", PROMETHEUS),
        (PROMETHEUS_ASKS, OPEN_METRICS),
        ("application/openmetrics-text", OPEN_METRICS),
        ("Application/OpenMetrics-Text; version=1.0.0; Q=0.5, text/plain;q=0.5", OPEN_METRICS),
        ("application/openmetrics-text;q=0.4,text/plain;q=0.5", PROMETHEUS),
        ("application/openmetrics-text;q=0", PROMETHEUS),
        ("application/openmetrics-text;q=0,text/plain;q=0", PROMETHEUS),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PROMETHEUS),
        (";;;,,q=\x00é", PROMETHEUS),
    ],
)
def test_the_format_is_what_a_scraper_asks_for(accept: str, expected: str) -> None:
    assert media_type(accept) == expected


def test_both_formats_are_read_by_their_parsers_and_say_the_same() -> None:
    plain = b"".join(metrics().pieces(PROMETHEUS)).decode()
    opened = b"".join(metrics().pieces(OPEN_METRICS)).decode()
    assert opened.endswith("# EOF\n")
    assert "# EOF" not in plain
    found = [
        {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("kyma_")
        }
        for families in (prometheus_families(plain), open_metrics_families(opened))  # type: ignore[no-untyped-call]
    ]
    assert found[0] == found[1]
    labels = {"endpoint": "chat/completions", "model": 'model "1" \\', "provider": "alpha"}
    assert found[0]["kyma_duration_seconds_bucket", tuple(sorted({**labels, "le": "300.0"}.items()))] == 1
    assert found[0]["kyma_duration_seconds_bucket", tuple(sorted({**labels, "le": "+Inf"}.items()))] == 2
    assert found[0]["kyma_duration_seconds_count", tuple(sorted(labels.items()))] == 2
    assert found[0]["kyma_tokens_total", tuple(sorted({**labels, "kind": "prompt"}.items()))] == 2.0**70
    source = (("model", "a\\b\n"), ("provider", "alpha"))
    assert found[0]["kyma_breaker_open", source] == 1
    states = {state: found[0]["kyma_breaker_state", (*source, ("state", state))] for state in ("open", "half_open", "closed")}
    assert states == {"open": 1, "half_open": 0, "closed": 0}
    assert found[0]["kyma_breaker_state", (("model", "unasked"), ("provider", "alpha"), ("state", "closed"))] == 1
    assert found[0]["kyma_provider_on", (("provider", 'be"ta'),)] == 0


def test_the_pieces_of_a_large_scrape_are_small() -> None:
    sizes = [piece.count(b"\n") for piece in metrics(1_000).pieces(PROMETHEUS)]
    assert sum(sizes) > 40_000
    assert max(sizes) <= MAX_LINES + 100  # the metrics of the process are one piece


def test_a_family_without_samples_is_still_described() -> None:
    families = [counter("a", "Text.", (), []), histogram("b", "Text.", (), [])]
    assert (
        "".join(written(families, is_open_metrics=True))
        == "# HELP a Text.\n# TYPE a counter\n# HELP b Text.\n# TYPE b histogram\n"
    )
