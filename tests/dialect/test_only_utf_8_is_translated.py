"""Bytes that are no UTF-8 are never written into another dialect: a request is refused, an answer is none or is without them.

The members that a translation decodes are only some: others are dropped, listed, or kept as they are. So each value and each
name of the hand-written requests and answers is broken, one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.translation import Translation
from kyma_proxy.dialect.utf_8 import check_utf_8
from kyma_proxy.errors import GatewayError, Kind

GOLDEN = Path(__file__).parent / "golden"
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
BROKEN = b"\xe2\x82"


def from_anthropic(body: bytes) -> Translation:
    return AnthropicToOpenAI(body, "s", public_model="m")


def from_openai(body: bytes) -> Translation:
    return OpenAIToAnthropic(body, "claude-sonnet-4-5", public_model="m", default_max_tokens=None, created=1)


DIRECTIONS = [
    pytest.param(from_anthropic, "anthropic_to_openai", id="anthropic callers"),
    pytest.param(from_openai, "openai_to_anthropic", id="openai callers"),
]


def variants(direction: str, file: str) -> Iterator[bytes]:
    """Each document once for each of its strings, with that one broken."""
    for path in sorted((GOLDEN / direction).glob(f"*/{file}")):
        text = path.read_bytes()
        for string in STRING.finditer(text):
            yield text[: string.start() + 1] + BROKEN + text[string.start() + 1 :]


@pytest.mark.parametrize(("make", "direction"), DIRECTIONS)
def test_a_request_with_broken_text_is_refused_as_no_json(make: Callable[[bytes], Translation], direction: str) -> None:
    bodies = [*variants(direction, "request.json")]
    assert len(bodies) > 300
    for body in bodies:
        with pytest.raises(GatewayError) as caught:
            make(body)
        assert caught.value.kind is Kind.INVALID_JSON


@pytest.mark.parametrize(("make", "direction"), DIRECTIONS)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_answer_with_broken_text_is_none_or_is_without_it(
    make: Callable[[bytes], Translation], direction: str, status: int
) -> None:
    request = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    for body in variants(direction, "answer.json"):
        made, written = make(request), b""
        with suppress(ValueError):
            written = made.answer(status, body).body
        check_utf_8(written)
        try:
            events = made.as_stream(body)
        except ValueError:
            continue
        stream = made.stream()
        check_utf_8(stream.feed(events) + stream.flush())
