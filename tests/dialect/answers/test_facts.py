"""Every event and whole answer is judged by what it says: (dialect, endpoint, shape) → answer, error, end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kyma_proxy.dialect.answers.facts import End, Facts, ReportedError
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.dialect.registry import DIALECTS
from kyma_proxy.dialect.sse import SseParser
from kyma_proxy.errors import GatewayError, Kind

DEEP = "[" * 5000 + "]" * 5000
NOTHING, ANSWER, REASON, LAST = "nothing", "answer", "reason", "last"


def verdict(facts: Facts) -> object:
    """A word for the facts, or the error."""
    if facts.error is not None:
        return facts.error.code, facts.error.status
    if facts.end is not End.NO:
        return REASON if facts.end is End.REASON else LAST
    return ANSWER if facts.is_answer else NOTHING


def delta(**members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members}]}


def told(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": kind, **members}


EVENTS: list[tuple[Dialect, str, object, object]] = [
    # chat completions and completions
    (OPENAI, "", delta(role="assistant"), NOTHING),
    (OPENAI, "", delta(role="assistant", content=""), NOTHING),
    (OPENAI, "", delta(role="assistant", content="", refusal=None, tool_calls=None), NOTHING),
    (OPENAI, "", delta(), NOTHING),
    (OPENAI, "", {"choices": []}, NOTHING),
    (OPENAI, "", {"choices": None}, NOTHING),
    (OPENAI, "", {"choices": [], "prompt_filter_results": [{}]}, NOTHING),
    (OPENAI, "", {"choices": [], "usage": {"prompt_tokens": 1}}, NOTHING),
    (OPENAI, "", delta(content="a"), ANSWER),
    (OPENAI, "", delta(content=[{"type": "text", "text": "a"}]), ANSWER),
    (OPENAI, "", delta(reasoning_content="a"), ANSWER),
    (OPENAI, "", delta(reasoning="a"), ANSWER),
    (OPENAI, "", delta(reasoning_details=[{"text": "a"}]), ANSWER),
    (OPENAI, "", delta(refusal="no"), ANSWER),
    (OPENAI, "", delta(tool_calls=[{"index": 0}]), ANSWER),
    (OPENAI, "", delta(audio={"transcript": "a"}), ANSWER),
    (OPENAI, "", {"choices": [{"text": "a"}]}, ANSWER),
    (OPENAI, "", {"choices": [{"text": ""}]}, NOTHING),
    (OPENAI, "", {"choices": [{"delta": {}, "finish_reason": "stop"}]}, REASON),
    (OPENAI, "", {"choices": [{"text": "", "finish_reason": "length"}]}, REASON),
    (OPENAI, "", {"choices": [{"delta": {}, "finish_reason": []}]}, NOTHING),
    (OPENAI, "", {"choices": [{"delta": {"content": "a"}, "finish_reason": {}}]}, ANSWER),
    (OPENAI, "", delta(content="error"), ANSWER),
    (OPENAI, "", {"choices": [{"delta": {"content": "a"}, "error": None, "finish_reason": None}], "error": None}, ANSWER),
    # errors in a 200
    (OPENAI, "", {"error": {"message": "overloaded", "code": 503}}, ("503", 503)),
    (OPENAI, "", {"error": {"message": "no", "code": "rate_limit_exceeded", "status": 429}}, ("rate_limit_exceeded", 429)),
    (OPENAI, "", {"error": "overloaded"}, ("overloaded", 529)),
    (OPENAI, "", {"error": {"code": "\u00b2", "type": "odd"}}, ("odd", 0)),  # a digit to Python, and no number
    (OPENAI, "", {"error": "a sentence about the prompt"}, (None, 0)),
    (OPENAI, "", {"choices": [], "error": {"code": 502}}, ("502", 502)),
    (OPENAI, "", {"object": "error", "message": "no", "code": 40303}, ("40303", 0)),
    (OPENAI, "", told("error", code="server_error", message="no"), ("server_error", 0)),
    (OPENAI, "error", {"code": "Throttling.RateQuota", "message": "no"}, ("Throttling.RateQuota", 429)),
    (OPENAI, "error", "no JSON", (None, 0)),
    (OPENAI, "", {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502}}]}, ("502", 502)),
    (OPENAI, "", {"choices": [{"delta": {}, "finish_reason": "error"}]}, ("error", 0)),
    (OPENAI, "", {"choices": [{"finish_reason": "insufficient_system_resource"}]}, ("insufficient_system_resource", 0)),
    (OPENAI, "", {"choices": [{"delta": {}}], "x_groq": {"error": {"code": "over_capacity"}}}, ("over_capacity", 0)),
    # responses
    (OPENAI, "response.created", told("response.created", response={"error": None}), NOTHING),
    (OPENAI, "response.in_progress", told("response.in_progress", response={}), NOTHING),
    (OPENAI, "", told("response.output_item.added", item={"type": "message", "content": []}), NOTHING),
    (OPENAI, "", told("response.output_item.added", item={"type": "function_call", "name": "f"}), ANSWER),
    (OPENAI, "", told("response.content_part.added", part={"type": "output_text", "text": ""}), NOTHING),
    (OPENAI, "", told("response.output_text.delta", delta="a"), ANSWER),
    (OPENAI, "", told("response.completed", response={"output": []}), LAST),
    (OPENAI, "", told("response.incomplete", response={}), LAST),
    (OPENAI, "", told("response.failed", response={"error": {"code": "server_error"}}), ("server_error", 0)),
    (OPENAI, "", told("response.failed", response=None), (None, 0)),
    # whatever else
    (OPENAI, "", "[DONE]", LAST),
    (OPENAI, "", "", NOTHING),
    (OPENAI, "", "hello", NOTHING),
    (OPENAI, "", "[]", NOTHING),
    (OPENAI, "", '{"choices":' + DEEP + "}", NOTHING),
    (OPENAI, "ping", {}, NOTHING),
    (OPENAI, "", [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], ("429", 429)),
    # not quite JSON: half a surrogate pair, a broken character, NaN
    (OPENAI, "", delta(content="\ud83d"), ANSWER),
    (OPENAI, "", '{"choices":[{"delta":{"content":"\udce4\udcbd"},"logprobs":NaN,"finish_reason":"length"}]}', REASON),
    (OPENAI, "", delta(role="\ud83d"), NOTHING),
    (OPENAI, "", {"error": {"message": "\ud83d", "code": 503}}, ("503", 503)),
    (ANTHROPIC, "", told("content_block_delta", delta={"type": "text_delta", "text": "\ude00"}), ANSWER),
    (ANTHROPIC, "", told("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": "\ud83d"}), REASON),
    # messages
    (ANTHROPIC, "message_start", told("message_start", message={"usage": {"input_tokens": 1}}), NOTHING),
    (ANTHROPIC, "ping", told("ping"), NOTHING),
    (ANTHROPIC, "", told("content_block_start", content_block={"type": "text", "text": ""}), NOTHING),
    (ANTHROPIC, "", told("content_block_start", content_block={"type": "thinking", "thinking": "", "signature": ""}), NOTHING),
    (ANTHROPIC, "", told("content_block_start", content_block={"type": "text", "text": "a"}), ANSWER),
    (ANTHROPIC, "", told("content_block_start", content_block={"type": "tool_use", "name": "f"}), ANSWER),
    (ANTHROPIC, "", told("content_block_delta", delta={"type": "text_delta", "text": "a"}), ANSWER),
    (ANTHROPIC, "", told("content_block_delta", delta={"type": "text_delta", "text": ""}), NOTHING),
    (ANTHROPIC, "", told("content_block_stop"), NOTHING),
    (ANTHROPIC, "", told("message_delta", delta={"stop_reason": "end_turn"}, usage={}), REASON),
    (ANTHROPIC, "", told("message_delta", delta={"stop_reason": None}), NOTHING),
    (ANTHROPIC, "message_stop", told("message_stop"), LAST),
    (ANTHROPIC, "error", told("error", error={"type": "overloaded_error", "message": "no"}), ("overloaded_error", 529)),
    (ANTHROPIC, "", told("error", error={"type": "api_error"}), ("api_error", 0)),
    (ANTHROPIC, "error", {"code": "busy"}, ("busy", 0)),
    (ANTHROPIC, "", {"error": {"message": "no", "code": "upstream_error"}}, ("upstream_error", 0)),
    (ANTHROPIC, "", {"error": {}}, NOTHING),
    (ANTHROPIC, "", "", NOTHING),
    (ANTHROPIC, "", "{", NOTHING),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "name", "data", "expected"), EVENTS)
def test_an_event_is_judged_by_what_it_says(dialect: Dialect, name: str, data: object, expected: object) -> None:
    written = data if isinstance(data, str) else json.dumps(data)
    assert verdict(dialect.read_event(name.encode(), written.encode(errors="surrogateescape"))) == expected


CHAT, RESPONSES, EMBEDDINGS, MESSAGES, COUNT = (
    "chat/completions", "responses", "embeddings", "messages", "messages/count_tokens",
)  # fmt: skip
WHOLE: list[tuple[Dialect, str, object, object]] = [
    (OPENAI, CHAT, {"choices": [{"message": {"content": "a"}}]}, LAST),
    (OPENAI, CHAT, {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}, LAST),
    (OPENAI, CHAT, {"choices": [{"message": {"content": "a"}, "finish_reason": ["stop"]}]}, LAST),
    (OPENAI, CHAT, {"choices": [], "usage": {"completion_tokens": 1}}, LAST),
    (OPENAI, CHAT, {"choices": [], "usage": {"prompt_tokens": 0, "total_tokens": 0}}, NOTHING),
    (OPENAI, CHAT, {"choices": [{"message": {"content": "\ud83d"}, "finish_reason": "length"}]}, LAST),
    (OPENAI, CHAT, {"choices": [{"message": {"content": "a"}, "logprobs": float("nan")}]}, LAST),
    (OPENAI, CHAT, {"error": {"code": 429, "message": "\ud83d"}}, ("429", 429)),
    (OPENAI, CHAT, {"choices": []}, NOTHING),
    (OPENAI, CHAT, {"choices": None}, NOTHING),
    (OPENAI, CHAT, {"choices": 1}, NOTHING),
    (OPENAI, CHAT, {}, NOTHING),
    (OPENAI, CHAT, "", NOTHING),
    (OPENAI, CHAT, "[]", NOTHING),
    (OPENAI, CHAT, "<html>no</html>", NOTHING),
    (OPENAI, CHAT, {"error": {"code": 429, "message": "no"}}, ("429", 429)),
    (OPENAI, CHAT, [{"error": {"code": 400, "status": "INVALID_ARGUMENT"}}], ("400", 400)),
    (OPENAI, CHAT, {"object": "error", "code": 404}, ("404", 404)),
    (OPENAI, CHAT, {"choices": [{"error": {"code": 502}, "finish_reason": "error"}]}, ("502", 502)),
    (OPENAI, CHAT, {"choices": [{"message": {}, "finish_reason": "error"}]}, ("error", 0)),
    (OPENAI, CHAT, {"base_resp": {"status_code": 1004}, "choices": None}, NOTHING),
    (OPENAI, "completions", {"choices": [{"text": "a"}]}, LAST),
    (OPENAI, "completions", {"choices": None}, NOTHING),
    (OPENAI, RESPONSES, {"output": [], "error": None, "status": "completed"}, LAST),
    (OPENAI, RESPONSES, {"output": None, "status": "completed"}, NOTHING),
    (OPENAI, RESPONSES, {"output": [], "error": {"code": "server_error"}, "status": "failed"}, ("server_error", 0)),
    (OPENAI, RESPONSES, {"output": [], "status": "failed"}, (None, 0)),
    (OPENAI, RESPONSES, {"status": "queued"}, LAST),
    (OPENAI, EMBEDDINGS, {"data": [{"embedding": [0.1]}]}, LAST),
    (OPENAI, EMBEDDINGS, {"data": []}, NOTHING),
    (OPENAI, EMBEDDINGS, '{"data": [ \n ]}', NOTHING),
    (ANTHROPIC, MESSAGES, {"type": "message", "content": []}, LAST),
    (ANTHROPIC, MESSAGES, {"type": "message", "content": None}, NOTHING),
    (ANTHROPIC, MESSAGES, {"type": "message", "content": [{"type": "text", "text": "\ud83d"}]}, LAST),
    (ANTHROPIC, MESSAGES, {"type": "error", "error": {"type": "overloaded_error"}}, ("overloaded_error", 529)),
    (ANTHROPIC, MESSAGES, {"error": {"type": "x_error"}}, ("x_error", 0)),
    (ANTHROPIC, MESSAGES, "", NOTHING),
    (ANTHROPIC, COUNT, {"input_tokens": 9}, LAST),
    (ANTHROPIC, COUNT, {"input_tokens": None}, NOTHING),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "endpoint", "body", "expected"), WHOLE)
def test_a_whole_answer_is_judged_by_what_it_says(dialect: Dialect, endpoint: str, body: object, expected: object) -> None:
    written = body if isinstance(body, str) else json.dumps(body)
    got = dialect.read_whole(endpoint, written.encode())
    assert verdict(got) == expected if got.is_answer or got.error else expected == NOTHING


@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_the_gateways_own_error_events_are_recognised_as_errors(dialect: Dialect) -> None:
    (event,) = SseParser().feed(dialect.error_event(GatewayError(Kind.OVERLOADED, "Later."), "request-1", True))
    assert isinstance(dialect.read_event(event.name, event.data).error, ReportedError)


def test_an_error_under_a_field_of_its_own_is_read_as_one() -> None:
    (event,) = SseParser().feed(b'error: {"code":500,"message":"no","type":"server_error"}\n\n')
    assert verdict(OPENAI.read_event(event.name, event.data)) == ("500", 500)


def test_a_code_that_could_hold_words_of_the_prompt_is_not_logged() -> None:
    for code in ("two words", "x" * 65, "ünïcode", "", "<b>"):
        error = OPENAI.read_event(b"", json.dumps({"error": {"code": code}}).encode()).error
        assert error is not None
        assert error.code is None
