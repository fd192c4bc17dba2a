"""A dialect that nobody has heard of registers itself, and is relayed, translated and refused like the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.dialect import registry
from kyma_proxy.dialect.answers.facts import End, Facts
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import CHAT
from kyma_proxy.dialect.translation import Aggregation, Order, StreamTranslation, TranslatedAnswer, TranslatedRequest
from kyma_proxy.errors import GatewayError
from tests.configurations import ProviderEntry, configuration
from tests.harness import gateway, providers, whole

PATH = "/v1/toy/ask"


def error_body(error: GatewayError, request_id: str) -> bytes:
    return json.dumps({"oops": error.message, "code": error.kind.code}).encode()


def read_whole(endpoint: str, body: bytes) -> Facts:
    answer = json.loads(body)
    return Facts("reply" in answer, end=End.LAST, usage={"used": answer["used"]} if "used" in answer else None)


TOY = Dialect(
    name="toy",
    endpoints=(Endpoint("toy/ask", "toy", "Ask a toy.", "https://toy.example/docs"),),
    credential=lambda key: ("x-toy-key", key),
    error_body=error_body,
    error_schema=("ToyError", {"type": "object", "required": ["oops", "code"]}),
    error_event=lambda error, request_id, between: b"oops: " + error_body(error, request_id) + b"\n\n",
    read_event=lambda name, data: Facts(is_answer=True),
    read_whole=read_whole,
    usage_of=lambda usage: Usage(usage["used"], usage["used"], None, "reported"),
    read_whole_at=frozenset(),
    always_ends=False,
    operators_errors=(),
    health_check=lambda source: (b"/toy/ask", json.dumps({"model": source.model, "ask": "ping"}).encode()),
    own_fields=frozenset({b"x-toy-version"}),
    default_fields=((b"x-toy-version", b"1"),),
)


class ToyToOpenAI:
    """A toy request for a source that speaks OpenAI."""

    def __init__(self, order: Order) -> None:
        question = json.loads(order.body)["ask"]
        body = json.dumps({"model": order.model, "messages": [{"role": "user", "content": question}]}).encode()
        self.request = TranslatedRequest(CHAT, body)

    def answer(self, status: int, body: bytes) -> TranslatedAnswer:
        reply = json.loads(body)["choices"][0]["message"]["content"]
        return TranslatedAnswer(status, json.dumps({"reply": reply}).encode())

    def stream(self) -> StreamTranslation:
        raise NotImplementedError

    def as_stream(self, body: bytes) -> bytes:
        raise NotImplementedError

    def aggregation(self) -> Aggregation:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    registry.register(TOY, {("toy/ask", "chat"): ToyToOpenAI})
    yield
    registry.unregister("toy")


async def test_its_callers_reach_its_providers_byte_for_byte(tmp_path: Path) -> None:
    async with providers(1) as (provider,), gateway(configuration(provider.port, dialect="toy"), tmp_path) as running:
        answer = b'{"reply": "hello",  "used": 3}'
        provider.plays(whole(answer))
        client = await running.client()
        client.post(b'{"ask": "hi",  "model": "m"}', path=PATH)
        assert (await client.answer()).body == answer
        (received,) = provider.received
        assert received.line == f"POST {PATH} HTTP/1.1"
        assert received.body == b'{"ask": "hi",  "model": "real-0"}'
        assert (received.headers["x-toy-key"], received.headers["x-toy-version"]) == ("provider-key-0", "1")
        (record,) = await running.records()
        assert (record["dialect"], record["endpoint"], record["prompt_tokens"]) == ("toy", "toy/ask", 3)


async def test_its_callers_reach_a_source_of_another_dialect_in_translation(tmp_path: Path) -> None:
    async with providers(1) as (provider,), gateway(configuration(provider.port), tmp_path) as running:
        provider.plays(whole(b'{"choices": [{"message": {"content": "hello"}}]}'))
        client = await running.client()
        client.post(b'{"ask": "hi", "model": "m"}', path=PATH, more="x-toy-version: 2\r\n")
        assert (await client.answer()).json == {"reply": "hello"}
        (received,) = provider.received
        assert received.line == "POST /v1/chat/completions HTTP/1.1"
        assert "x-toy-version" not in received.headers


async def test_its_callers_read_the_gateways_errors_in_its_shape(tmp_path: Path) -> None:
    text = configuration(ProviderEntry(9, dialect="toy"))
    async with gateway(text, tmp_path) as running:
        client = await running.client()
        for body, code in ((b'{"ask": "hi", "model": "n"}', "model_not_found"), (b"[]", "invalid_request")):
            client.post(body, path=PATH)
            assert (await client.answer()).json["code"] == code
        client.send(f"POST {PATH} HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".encode())
        assert (await client.answer()).json["code"] == "bad_http"


async def test_its_sources_answer_no_caller_for_whom_there_is_no_translation(tmp_path: Path) -> None:
    async with gateway(configuration(ProviderEntry(9, dialect="toy")), tmp_path) as running:
        client = await running.client()
        client.ask()
        error = (await client.answer()).json["error"]
        assert error["message"] == f"No source of m speaks openai; ask for it at {PATH}."
