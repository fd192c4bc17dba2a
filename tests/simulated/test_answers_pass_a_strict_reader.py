"""Every answer of the simulated provider holds what the official schemas require, and nothing that they do not know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest

from kyma_proxy.dialect.sse import SseParser
from kyma_proxy.simulated import answers, anthropic_answers, openai_answers
from kyma_proxy.simulated.answers import Answer
from kyma_proxy.simulated.request_fields import Json
from tests.strict_reader import check

TURNS: list[Json] = [{"role": "user", "content": "look"}]
FUNCTION: Json = {
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
}
TOOL: Json = {"name": "look", "input_schema": FUNCTION["parameters"]}
LIMITS: list[Json] = [{}, {"max_tokens": 1, "max_output_tokens": 1}]


class Endpoint(NamedTuple):
    """An endpoint: the functions that answer, whole and as a stream, a request for a text, and its tools."""

    answer: Callable[[Json], Answer]
    body: Callable[[Answer, str, int], Json]
    events: Callable[[Answer, str, int], Iterable[bytes]]
    request: Json
    tools: Json


ENDPOINTS = {
    "chat": Endpoint(
        answers.answer_chat, openai_answers.chat_completion, openai_answers.chat_events, {"messages": TURNS},
        {"tools": [{"type": "function", "function": FUNCTION}]},
    ),
    "responses": Endpoint(
        answers.answer_response, openai_answers.response, openai_answers.response_events, {"input": "look"},
        {"tools": [{"type": "function", **FUNCTION}]},
    ),
    "messages": Endpoint(
        answers.answer_message, lambda answer, ident, now: anthropic_answers.message(answer, ident),
        lambda answer, ident, now: anthropic_answers.message_events(answer, ident), {"messages": TURNS, "max_tokens": 99},
        {"tools": [TOOL]},
    ),
    "completions": Endpoint(
        answers.answer_completion, openai_answers.text_completion, openai_answers.text_completion_events, {"prompt": "look"}, {}
    ),
}  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
@pytest.mark.parametrize("limit", LIMITS, ids=["whole", "cut"])
@pytest.mark.parametrize("calls", [False, True], ids=["text", "call"])
def test_an_answer_holds_what_its_schema_requires(endpoint: Endpoint, limit: Json, calls: bool) -> None:
    options: Json = {"include_usage": True}
    asked: Json = {"model": "sim", "stream_options": options}
    made = endpoint.answer(asked | endpoint.request | (endpoint.tools if calls else {}) | limit)
    check(endpoint.body(made, "1", 1_700_000_000))
    for event in SseParser().feed(b"".join(endpoint.events(made, "1", 1_700_000_000))):
        if event.data.startswith(b"{"):
            check(json.loads(event.data))
