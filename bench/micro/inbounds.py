"""Operations on a caller's request: each function prepares one and gives it, ready to be done again and again."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from bench.micro import material
from bench.micro.material import HEADERS, WIRE
from kyma_proxy.core.exchange import Event, Exchange
from kyma_proxy.core.http.body import patched, read_routing_fields
from kyma_proxy.core.http.headers import encode_request_head
from kyma_proxy.core.http.repeat import repeat_of
from kyma_proxy.core.http.request_head import RequestHead, read_request_head
from kyma_proxy.core.routing.breaker import BreakerTable, CircuitBreaker
from kyma_proxy.core.routing.plan import plan
from kyma_proxy.dialect.registry import RELAYED

_TARGET = b"/v1/chat/completions"


def reading(body: bytes) -> Callable[[], object]:
    """What routing needs is read from a body."""
    return lambda: read_routing_fields(body)


def patching(body: bytes, *, inserts: bool) -> Callable[[], object]:
    """The model is replaced; with `inserts`, max_tokens is put in."""
    head = read_routing_fields(body)
    source = material.snapshot().models["pooled"].pool[0]
    insertion = b'"max_tokens":4096,' if inserts else b""
    return lambda: patched(body, head, source.model_json, insertion)


def judging() -> Callable[[], object]:
    """A head that the parser has taken apart is judged."""
    return lambda: read_request_head(b"POST", "1.1", _TARGET, HEADERS, 32 * 2**20)


def recognising() -> Callable[[], object]:
    """A request with the head of the one before is recognised; its body is what comes out."""
    repeat = repeat_of(WIRE, _head(), HEADERS, {})
    if repeat is None:
        raise ValueError("the head can't be remembered")
    return lambda: repeat.body_of(WIRE)


def remembering() -> Callable[[], object]:
    """What is needed to recognise a head is set aside."""
    head = _head()
    return lambda: repeat_of(WIRE, head, HEADERS, {})


def heading_to_provider(*, is_repeated: bool) -> Callable[[], object]:
    """The head for a provider is made; of a repeated one the fields that pass are known already."""
    inbound, endpoint = material.inbound(), RELAYED[_TARGET]
    source = material.snapshot().models["pooled"].pool[0]
    forget = inbound.passed.clear

    def again() -> object:
        return encode_request_head(inbound, endpoint.path, source, 1024)

    def anew() -> object:
        forget()
        return encode_request_head(inbound, endpoint.path, source, 1024)

    return again if is_repeated else anew


def planning(name: str) -> Callable[[], object]:
    """The order of a model's sources is drawn. Chance is a fixed round of numbers, so that every run draws the same."""
    route = material.snapshot().routes["openai"][name]
    table = BreakerTable()
    chance = itertools.cycle((0.05, 0.95, 0.45, 0.7, 0.2, 0.55, 0.85, 0.3)).__next__
    return lambda: plan(route, table, 100.0, chance)


def faring() -> Callable[[], object]:
    """A source is asked, and answers in time."""
    breaker = CircuitBreaker()

    def ask() -> object:
        permit = breaker.acquire(100.0)
        if permit is not None:
            permit.success(100.0, first_byte_s=0.1)
        return breaker.state

    return ask


def living() -> Callable[[], object]:
    """A request's record is made, and goes from its arrival to its ending."""
    inbound, endpoint, snapshot = material.inbound(), RELAYED[_TARGET], material.snapshot()

    def life() -> object:
        exchange = Exchange(inbound, endpoint, snapshot)
        exchange.step(Event.SEND)
        exchange.step(Event.COMMIT)
        exchange.step(Event.END)
        return exchange.has_ended

    return life


def _head() -> RequestHead:
    return read_request_head(b"POST", "1.1", _TARGET, HEADERS, 32 * 2**20)
