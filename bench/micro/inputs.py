"""The inputs of the cases: a configuration, and requests as the OpenAI SDK sends them."""

from __future__ import annotations

import functools
import json
from typing import Final

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.exchange import ANSWERED, AttemptRecord, Exchange
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.core.routing.breaker import CircuitBreaker
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.loading.compiling import load

_SENTENCE: Final = 'Nobody in the harbour – not even the pilot – had seen the "late" tide turn that day, and so they waited.\n'
_CONFIGURATION: Final = """\
providers:
  - {name: alpha, base_url: https://api.alpha.example/v1, dialect: openai, api_key: sk-0123456789abcdef0123456789abcdef}
  - {name: beta, base_url: https://beta.example/openai/v1, dialect: openai, api_key: "gsk_0123456789", headers: {X-Team: blue}}
  - {name: gamma, base_url: "https://gamma.example:8443/v1", dialect: openai, api_key: 0123456789abcdef}
  - {name: delta, base_url: http://10.0.0.7:8000/v1, dialect: openai}
models:
  - id: pooled
    price: {input: 0.68, output: 4.05, cached_input: 0.068}
    pool:
      - {provider: alpha, model: vendor/large-3.1-instruct, weight: 5}
      - {provider: beta, model: large-3.1-versatile, weight: 3}
      - {provider: gamma, model: large-3.1, weight: 2}
      - {provider: delta, model: large, weight: 0}
  - {id: alone, pool: [{provider: alpha, model: vendor/small}]}
  - id: layered
    pool: [{provider: alpha, model: vendor/medium}, {provider: beta, model: medium}]
    reserve: [{provider: gamma, model: medium}]
fallbacks: {layered: [pooled, alone]}
aliases: {large: pooled}
"""

HEADERS: Final[Headers] = [
    (b"Host", b"127.0.0.1:8080"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"Accept", b"application/json"),
    (b"Content-Type", b"application/json"),
    (b"User-Agent", b"OpenAI/Python 2.8.0"),
    (b"X-Stainless-Lang", b"python"),
    (b"X-Stainless-Package-Version", b"2.8.0"),
    (b"X-Stainless-OS", b"Linux"),
    (b"X-Stainless-Arch", b"x64"),
    (b"X-Stainless-Runtime", b"CPython"),
    (b"X-Stainless-Runtime-Version", b"3.11.7"),
    (b"Authorization", b"Bearer sk-kyma-0123456789abcdef0123456789abcdef"),
    (b"X-Stainless-Async", b"async:asyncio"),
    (b"x-stainless-retry-count", b"0"),
    (b"x-stainless-read-timeout", b"600"),
    (b"Content-Length", b"1024"),
]
"""The header fields of a request, in the SDK's order and spelling."""


def _text(size: int) -> str:
    """Text of this size in UTF-8, or up to one sentence shorter."""
    return _SENTENCE * (size // len(_SENTENCE.encode()))


def _body(messages_count: int, size: int, *, tools: int = 0) -> dict[str, object]:
    """A chat with messages of this size each; the members are in the SDK's order."""
    messages = [{"role": "system", "content": "You are a helpful assistant."}]
    messages += [{"role": ("user", "assistant")[number % 2], "content": _text(size)} for number in range(messages_count)]
    parameters = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    tool = {"name": "look_up", "description": _text(300), "parameters": parameters}
    more = {"tools": [{"type": "function", "function": tool}] * tools} if tools else {}
    options = {"include_usage": True}
    return {"messages": messages, "model": "large", "stream": True, "stream_options": options, "temperature": 0.2, **more}


def _encoded(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


SHORT: Final = _encoded(_body(1, 900))
SPACED: Final = json.dumps(_body(1, 900)).encode()
"""The same with white space, as Python's `json` writes it by default."""
LONG: Final = _encoded(_body(47, 800, tools=6))
LARGE: Final = _encoded(_body(1, 1_000_000))
WIRE: Final = b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n%b" % (
    b"".join(b"%b: %b\r\n" % (name, b"%d" % len(SHORT) if name == b"Content-Length" else value) for name, value in HEADERS),
    SHORT,
)
"""The whole request with the short body, as it is read from the socket."""


@functools.cache
def snapshot() -> Snapshot:
    """The configuration: models with four sources, with one, and with all layers."""
    return load(_CONFIGURATION, {})


def inbound() -> Inbound:
    """The request with the short body."""
    return Inbound(
        b"POST", b"/v1/chat/completions", b"", HEADERS, SHORT, "0123456789abcdef", 100.0, False, True, {}
    )  # fmt: skip


def routed_exchange() -> Exchange:
    """A request in flight: it is routed, and one source has answered."""
    exchange = Exchange(inbound(), RELAYED[b"/v1/chat/completions"], snapshot())
    exchange.routing = read_routing_fields(SHORT)
    exchange.alias = "large"
    exchange.model = exchange.snapshot.models["pooled"]
    attempt = AttemptRecord(Step(exchange.model, exchange.model.pool[0], 0, CircuitBreaker()))
    attempt.result = ANSWERED
    exchange.attempts.append(attempt)
    return exchange
