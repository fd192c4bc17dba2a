"""Every request that ends is counted once in each counter that it belongs to."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.exchange import Exchange, State
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.telemetry.counters import OVERHEAD_SECONDS, SECONDS, Counters, Histogram, Series
from tests.factories import BODY, attempt, exchange, routed


def served() -> Exchange:
    request = routed()
    request.state = State.COMPLETED
    request.status = 200
    request.answered_by = request.snapshot.models["small"].pool[0]
    request.first_byte = 100.02
    request.overhead_s = 0.0003
    request.bytes_out = 50
    request.usage = Usage(10, 5, 4, "reported")
    request.attempts = [attempt("503", at=1), attempt("answered")]
    return request


@given(st.lists(st.floats(0, 1000)))
def test_a_histogram_puts_every_value_into_exactly_one_bucket(values: list[float]) -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    edges = [-1.0, *histogram.bounds, float("inf")]
    buckets = itertools.pairwise(edges)
    assert histogram.counts == [sum(low < value <= high for value in values) for low, high in buckets]
    assert histogram.total == pytest.approx(sum(values))


def test_the_bounds_of_the_buckets_rise() -> None:
    for bounds in (SECONDS, OVERHEAD_SECONDS):
        assert list(bounds) == sorted(set(bounds))


def only(counters: Counters) -> Series:
    (series,) = counters.series.values()
    return series


def endings(series: Series) -> dict[tuple[int, State], int]:
    return {(ending.status, ending.state): ending.count for ending in series.endings}


def test_a_served_request_is_counted() -> None:
    counters = Counters()
    counters.count(served(), 101.0)
    counters.count(served(), 101.0)
    assert list(counters.series) == [("chat/completions", "small", "alpha")]
    series = only(counters)
    assert endings(series) == {(200, State.COMPLETED): 2}
    assert counters.attempts == {("chat/completions", "small", "beta", "503"): 2}
    assert (series.prompt, series.completion, series.cached) == (20, 10, 8)
    assert (series.bytes_in, series.bytes_out) == (2 * len(BODY), 100)
    assert (sum(series.first_byte.counts), sum(series.duration.counts), sum(series.overhead.counts)) == (2, 2, 2)
    assert series.first_byte.total == pytest.approx(0.04)
    assert series.duration.total == pytest.approx(2.0)
    assert series.overhead.total == pytest.approx(0.0006)


def test_a_request_that_reached_no_provider_counts_with_its_duration_only() -> None:
    counters = Counters()
    refused = exchange()
    refused.state = State.REJECTED
    refused.status = 404
    counters.count(refused, 100.5)
    assert list(counters.series) == [("chat/completions", "", "")]
    series = only(counters)
    assert endings(series) == {(404, State.REJECTED): 1}
    assert (counters.attempts, series.prompt, series.completion, series.cached) == ({}, None, None, None)
    assert (sum(series.first_byte.counts), sum(series.overhead.counts), sum(series.duration.counts)) == (0, 0, 1)


def test_no_word_of_a_caller_makes_a_series() -> None:
    counters = Counters()
    for name in ("unknown-1", "unknown-2", 'a"b\nc', "x" * 256):
        asked = exchange()
        body = json.dumps({"model": name}).encode()
        asked.routing = read_routing_fields(body)
        asked.state, asked.status = State.REJECTED, 404
        counters.count(asked, 100.5)
    assert list(counters.series) == [("chat/completions", "", "")]
    assert endings(only(counters)) == {(404, State.REJECTED): 4}


def test_tokens_that_were_not_reported_are_not_counted_as_zero() -> None:
    counters = Counters()
    request = served()
    request.usage = Usage(None, 7, None, "reported")
    counters.count(request, 101.0)
    assert (only(counters).prompt, only(counters).completion) == (None, 7)


def test_requests_that_the_listener_refuses_are_counted_by_error_code() -> None:
    counters = Counters()
    for code in ("bad_http", "uri_too_long", "bad_http"):
        counters.reject(code)
    assert counters.rejected == {"bad_http": 2, "uri_too_long": 1}
