"""Whatever raises while an answer passes, its caller is told and the request ends; no source is blamed, or asked again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kyma_proxy.core.accounts.usage import NO_USAGE
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.dialect import registry
from kyma_proxy.dialect.answers.facts import End, Facts
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import CHAT
from kyma_proxy.dialect.translation import Aggregation, Order, StreamTranslation, TranslatedAnswer, TranslatedRequest
from kyma_proxy.errors import GatewayError
from tests.configurations import configuration
from tests.harness import CLOSE, DONE, LAST_CHUNK, SILENCE, chunk, gateway, head, providers, whole

PATH = "/v1/fragile/ask"
broken: set[str] = set()


def works(part: str) -> None:
    """Raise if this part is broken."""
    if part in broken:
        raise RuntimeError(f"a bug in {part}")


def error_body(error: GatewayError, request_id: str) -> bytes:
    return json.dumps({"oops": error.message, "code": error.kind.code}).encode()


def read_event(name: bytes, data: bytes) -> Facts:
    works("read_event")
    if data == b"two":
        works("read_event two")
    return Facts(is_answer=True, end=End.LAST if data == b"end" else End.NO)


def read_whole(endpoint: str, body: bytes) -> Facts:
    works("read_whole")
    return Facts(is_answer=True, end=End.LAST)


def error_event(error: GatewayError, request_id: str, between: bool) -> bytes:
    works("error_event")
    return b"oops: " + error_body(error, request_id) + b"\n\n"


FRAGILE = Dialect(
    name="fragile",
    endpoints=(Endpoint("fragile/ask", "fragile", "Ask.", "https://fragile.example/docs"),),
    credential=lambda key: ("x-key", key),
    error_body=error_body,
    error_schema=("FragileError", {"type": "object"}),
    error_event=error_event,
    read_event=read_event,
    read_whole=read_whole,
    usage_of=lambda usage: NO_USAGE,
    read_whole_at=frozenset(),
    always_ends=False,
    operators_errors=(),
    health_check=lambda source: (b"/fragile/ask", b"{}"),
)


class FragileStream:
    """A stream that passes as it comes."""

    has_failed = False
    is_finished = True

    def __init__(self) -> None:
        self.pieces = 0

    def feed(self, piece: bytes) -> bytes:
        self.pieces += 1
        works(f"feed {self.pieces}")
        return piece

    def flush(self) -> bytes:
        works("flush")
        return b""


class FragileToOpenAI:
    """A request that passes as it is, and an answer that does."""

    def __init__(self, order: Order) -> None:
        works("translate")
        self.request = TranslatedRequest(CHAT, b"{}")

    def answer(self, status: int, body: bytes) -> TranslatedAnswer:
        works("answer")
        return TranslatedAnswer(status, body)

    def stream(self) -> StreamTranslation:
        works("stream")
        return FragileStream()

    def as_stream(self, body: bytes) -> bytes:
        works("as_stream")
        return body

    def aggregation(self) -> Aggregation:
        works("aggregation")
        raise NotImplementedError


@pytest.fixture(autouse=True)
def fragile() -> Iterator[None]:
    registry.register(FRAGILE, {("fragile/ask", "chat"): FragileToOpenAI})
    yield
    registry.unregister("fragile")
    broken.clear()


EVENTS = head() + chunk(b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n')
AFTER_THE_HEAD = "after the head"
SECOND = chunk(b"data: two\n\n")
WHOLE = whole(b'{"choices": [{}]}')


class Case(NamedTuple):
    """A part that raises, the source's dialect, what its caller wants and it does, and whether the answer has begun by then."""

    part: str
    dialect: str
    streams: bool
    script: tuple[bytes | str, ...]
    has_begun: bool


CASES = (
    Case("translate", "openai", False, (), False),
    Case("answer", "openai", False, (WHOLE,), False),
    Case("as_stream", "openai", True, (WHOLE,), False),
    Case("aggregation", "openai", False, (EVENTS, chunk(DONE), LAST_CHUNK), False),
    Case("stream", "openai", True, (EVENTS, SILENCE), False),
    Case("feed 1", "openai", True, (EVENTS, SILENCE), False),
    Case("feed 2", "openai", True, (EVENTS, AFTER_THE_HEAD, SECOND, SILENCE), True),
    Case("flush", "openai", True, (EVENTS, AFTER_THE_HEAD, chunk(DONE), LAST_CHUNK), True),
    Case("read_event", "fragile", True, (EVENTS, SILENCE), False),
    Case("read_event two", "fragile", True, (EVENTS, AFTER_THE_HEAD, SECOND, LAST_CHUNK), True),
    Case("read_event two", "fragile", True, (EVENTS, AFTER_THE_HEAD, chunk(b"data: two\n\n" + b"data: oops\n\n" * 999)), True),
    Case("read_whole", "fragile", False, (WHOLE,), False),
    Case(
        "read_whole",
        "fragile",
        False,
        (head(kind="application/json") + chunk(b'{"x":"' + b"x" * 99_000 + b'"}') + LAST_CHUNK,),
        True,
    ),
    Case("error_event", "fragile", True, (EVENTS, CLOSE), True),
)


@pytest.mark.parametrize("is_dialled", [True, False], ids=["dialled", "idle"])
@pytest.mark.parametrize("case", CASES)
async def test_its_caller_is_told_and_nothing_is_left_over(tmp_path: Path, case: Case, is_dialled: bool) -> None:
    part, dialect, streams, script, has_begun = case
    async with (
        providers(2) as (provider, second),
        gateway(configuration(provider.port, second.port, dialect=dialect), tmp_path) as running,
    ):
        client = await running.client()
        question = json.dumps({"model": "m", "stream": streams}).encode()
        if not is_dialled:
            provider.plays(WHOLE)
            client.post(b'{"model": "m"}', path=PATH)
            assert (await client.answer()).status == 200
        broken.add(part)
        go = asyncio.Event()
        if script:
            provider.plays(*(go if step == AFTER_THE_HEAD else step for step in script))
        asked = len(provider.received)
        client.post(question, path=PATH, more="connection: close\r\n")
        got = (await client.head()).raw
        go.set()
        got += await client.read_to_end()
        await running.is_at_rest()
        assert got.startswith(b"HTTP/1.1 200" if has_begun else b"HTTP/1.1 500")
        assert not got.endswith(LAST_CHUNK)
        if not has_begun:
            assert b'"code": "internal_error"' in got
        record = (await running.records(2 - is_dialled))[-1]
        assert record["ending"] in ("broken", "failed", "rejected")
        assert len(provider.received) == asked + (part != "translate")
        assert second.received == []
        broken.clear()
        after = await running.client()
        after.post(b'{"model": "m"}', path=PATH)
        provider.plays(WHOLE)
        assert "x-kyma-fallback-layer" not in (await after.answer()).headers  # the source is asked as before
