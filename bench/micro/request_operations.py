"""Operations on a caller's request: each function prepares one and returns it, ready to be repeated."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from bench.micro import inputs
from bench.micro.inputs import HEADERS, WIRE
from kyma_proxy.core.exchange import Event, Exchange
from kyma_proxy.core.http.body import patched, read_routing_fields
from kyma_proxy.core.http.headers import encode_request_head
from kyma_proxy.core.http.repeat import repeat_of
from kyma_proxy.core.http.request_head import RequestHead, read_request_head
from kyma_proxy.core.routing.breaker import CircuitBreaker
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.plan import plan
from kyma_proxy.dialect.registry import RELAYED

_TARGET = b"/v1/chat/completions"


def read_fields(body: bytes) -> Callable[[], object]:
    """Read the routing fields of a body."""
    return lambda: read_routing_fields(body)


def patch_body(body: bytes, *, inserts: bool) -> Callable[[], object]:
    """Replace the model; with `inserts`, insert max_tokens too."""
    fields = read_routing_fields(body)
    source = inputs.snapshot().models["pooled"].pool[0]
    insertion = b'"max_tokens":4096,' if inserts else b""
    return lambda: patched(body, fields, source.model_json, insertion)


def read_head() -> Callable[[], object]:
    """Validate a request head that the parser has split into fields."""
    return _head


def match_repeat() -> Callable[[], object]:
    """Recognise a request with the same head as the one before; returns its body."""
    repeat = repeat_of(WIRE, _head(), HEADERS, {})
    if repeat is None:
        raise ValueError("the head can't be cached")
    return lambda: repeat.body_of(WIRE)


def cache_repeat() -> Callable[[], object]:
    """Cache a head, so that a repetition is recognised."""
    head = _head()
    return lambda: repeat_of(WIRE, head, HEADERS, {})


def encode_head(*, is_repeated: bool) -> Callable[[], object]:
    """Encode the head for a provider; the fields that pass are cached if the caller's head is a repeated one."""
    inbound, endpoint = inputs.inbound(), RELAYED[_TARGET]
    source = inputs.snapshot().models["pooled"].pool[0]
    clear_cache = inbound.passed.clear

    def encode_repeated() -> object:
        return encode_request_head(inbound, endpoint.path, source, 1024)

    def encode_new() -> object:
        clear_cache()
        return encode_request_head(inbound, endpoint.path, source, 1024)

    return encode_repeated if is_repeated else encode_new


def plan_sources(name: str) -> Callable[[], object]:
    """Draw the order of a model's sources. The random numbers are a fixed cycle, so that every run draws the same."""
    route = inputs.snapshot().routes["chat"][name]
    table = BreakerTable()
    random = itertools.cycle((0.05, 0.95, 0.45, 0.7, 0.2, 0.55, 0.85, 0.3)).__next__
    return lambda: plan(route, table, 100.0, random)


def use_breaker() -> Callable[[], object]:
    """Pass a circuit breaker, and report a success."""
    breaker = CircuitBreaker()

    def use() -> object:
        breaker.acquire(100.0).success(100.0, first_byte_s=0.1)
        return breaker.state

    return use


def run_exchange() -> Callable[[], object]:
    """Create the record of a request, and take it through its states to the end."""
    inbound, endpoint, snapshot = inputs.inbound(), RELAYED[_TARGET], inputs.snapshot()

    def run() -> object:
        exchange = Exchange(inbound, endpoint, snapshot)
        exchange.step(Event.SEND)
        exchange.step(Event.COMMIT)
        exchange.step(Event.END)
        return exchange.has_ended

    return run


def _head() -> RequestHead:
    return read_request_head(b"POST", "1.1", _TARGET, HEADERS, 32 * 2**20)
