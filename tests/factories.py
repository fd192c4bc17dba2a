"""Makes snapshots, requests and exchanges for tests, with values for every member that a test does not set."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from kyma_proxy.config.problems import Problem
from kyma_proxy.config.snapshot import Snapshot, Source
from kyma_proxy.core.exchange import AttemptRecord, Exchange
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.core.routing.breaker import CircuitBreaker
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.loading.compiling import load

DEFAULT = """\
providers:
  - {name: alpha, base_url: https://alpha.example/v1, dialect: openai, api_key: "${ALPHA_KEY}"}
  - {name: beta, base_url: http://beta.example:8081, dialect: openai, headers: {OpenAI-Beta: configured, X-Team: blue}}
  - {name: claude, base_url: https://claude.example/v1, dialect: anthropic, api_key: secret-of-claude}
  - {name: art, base_url: https://art.example, dialect: openai_images, api_key: secret-of-art}
models:
  - id: small
    name: Small
    owned_by: Alpha
    created: 2026-04-02
    context_window: 131072
    max_output_tokens: 8192
    supports_tools: true
    price: {input: 0.68, output: 4.05, cached_input: 0.068}
    pool:
      - {provider: alpha, model: vendor/small-1, weight: 3}
      - {provider: beta, model: small}
  - {id: sonnet, pool: [{provider: claude, model: claude-sonnet}]}
  - {id: picture, output_modalities: [image], price: {image: 0.054}, pool: [{provider: art, model: pic}]}
aliases: {fast: small}
hosts: [a]
"""


def snapshot(yaml: str = DEFAULT, **environment: str) -> Snapshot:
    """The snapshot of a configuration's text; every variable that the default text names is set."""
    return load(yaml, {"ALPHA_KEY": "secret-of-alpha", **environment})


def source(model: str, at: int = 0) -> Source:
    """A source of the default snapshot: of this model, at this place of its pool."""
    return default_snapshot().models[model].pool[at]


@functools.cache
def default_snapshot() -> Snapshot:
    """The default snapshot, compiled once: nothing can change it."""
    return snapshot()


SMALLEST = """\
listen: 127.0.0.1:8080
providers:
  - name: one
    base_url: https://one.example/v1
    dialect: openai
models:
  - id: small
    pool:
      - provider: one
        model: small-1
"""
"""Ten lines that have no problem."""

SEVERAL = """\
providers:
  - {name: one, base_url: "https://one.example:8443/v1/", dialect: openai, api_key: "${ONE_KEY}"}
  - {name: two, base_url: http://two.example, dialect: anthropic}
  - {name: art, base_url: https://art.example, dialect: fal_queue, api_key: "${ART_KEY}"}
models:
  - {id: small, pool: [{provider: one, model: small-1}]}
  - id: large
    pool: [{provider: one, model: large-1, weight: 3}, {provider: two, model: LARGE}]
    price: {input: 0.68, output: 4.05, cached_input: 0.068}
  - {id: picture, output_modalities: [image], price: {image: 0.081}, pool: [{provider: art, model: pic/v1}]}
"""
"""Ten lines with several providers and models; they want SEVERAL_KEYS in the environment."""

SEVERAL_KEYS = {"ONE_KEY": "hunter2", "ART_KEY": "hunter3"}

BODY = b'{"model":"fast","stream":true}'


def inbound(*, headers: Headers | None = None, path: bytes = b"/v1/chat/completions", query: bytes = b"") -> Inbound:
    """A request that came at second 100."""
    return Inbound(b"POST", path, query, headers or [], BODY, "request-1", 100.0, False, True)


def exchange(path: bytes = b"/v1/chat/completions") -> Exchange:
    """A request that has just come in."""
    return Exchange(inbound(path=path), RELAYED[path], default_snapshot())


def attempt(result: str, model: str = "small", at: int = 0) -> AttemptRecord:
    """An attempt at a source of the default snapshot (see `source`) that went so."""
    made = AttemptRecord(Step(default_snapshot().models[model], source(model, at), 0, CircuitBreaker()))
    made.result = result
    return made


def routed(path: bytes = b"/v1/chat/completions") -> Exchange:
    """A request whose model has been found under an alias."""
    routed = exchange(path)
    routed.routing = read_routing_fields(BODY)
    routed.alias = "fast"
    routed.model = routed.snapshot.models["small"]
    return routed


def messages(problems: Iterable[Problem]) -> tuple[str, ...]:
    """The messages of problems or warnings, without their places."""
    return tuple([one.message for one in problems])
