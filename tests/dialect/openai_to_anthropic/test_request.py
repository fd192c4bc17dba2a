"""Every member of a chat request is translated as the Claude in question accepts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.thinking_signature import UNSIGNED
from tests.dialect.openai_to_anthropic.material import (
    CASES,
    Json,
    case_name,
    dropped_members,
    load_json,
    translated_request,
    translation,
    translation_of_case,
)


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_golden_requests_are_translated_to_anthropic(case: Path) -> None:
    expected, found = load_json(case, "expected_request.json"), translation_of_case(case).request
    assert json.loads(found.body) == expected["body"]
    assert list(found.dropped) == expected["dropped"]
    assert (found.endpoint.name, found.endpoint.dialect) == ("messages", "anthropic")


@pytest.mark.parametrize("written", ["4096", "1e3", "100000000000000000000", "0", "-1", '"many"', "7.50"])
def test_max_tokens_keeps_the_callers_digits(written: str) -> None:
    for member in ("max_tokens", "max_completion_tokens"):
        body = f'{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"{member}":{written}}}'.encode()
        found = OpenAIToAnthropic(body, "c", public_model="m", default_max_tokens=9, created=0).request.body
        assert f'"max_tokens":{written},'.encode() in found


def test_the_default_max_tokens_applies_if_the_caller_sets_none() -> None:
    assert translated_request(default=77)["max_tokens"] == 77
    assert translated_request(default=77, max_tokens=None)["max_tokens"] == 77
    assert translated_request()["max_tokens"] == 4096
    both = translation(max_tokens=1, max_completion_tokens=2).request
    assert json.loads(both.body)["max_tokens"] == 2
    assert both.dropped == ("max_tokens",)


@pytest.mark.parametrize(("choice", "expected"), [
    ({"tool_choice": "auto"}, {"type": "auto"}), ({"tool_choice": "none"}, {"type": "none"}), ({}, None),
    ({"tool_choice": "required"}, {"type": "any"}), ({"parallel_tool_calls": True}, None),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
    ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
    ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
        {"type": "function", "function": {"name": "g"}}]}}}, {"type": "any"}),
])  # fmt: skip
def test_tool_choice_and_parallel_tool_calls_are_translated(choice: Json, expected: Json | None) -> None:
    tools = [{"type": "function", "function": {"name": one}} for one in ("f", "g")]
    found = translated_request(tools=tools, **choice)
    assert found.get("tool_choice") == expected
    assert [one["name"] for one in found["tools"]] == (["g"] if "allowed" in str(choice) else ["f", "g"])


def test_a_tool_choice_without_tools_is_left_out() -> None:
    assert {"tools", "tool_choice"}.isdisjoint(translated_request(tool_choice="auto", parallel_tool_calls=False, tools=[]))


def test_a_tool_schema_is_passed_through_byte_for_byte() -> None:
    schema = '{"type": "object", "x": 1.50, "y": 100000000000000000000000, "b": "\\u00e9"}'
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"function":{"name":"f","parameters":%b}}]}'
    found = OpenAIToAnthropic(body % schema.encode(), "c", public_model="m", default_max_tokens=9, created=0).request.body
    assert b'"input_schema":%b' % schema.encode() in found


def test_members_of_anthropics_dialect_are_passed_through() -> None:
    said: Json = {
        "thinking": {"type": "enabled", "budget_tokens": 2000}, "top_k": 5, "cache_control": {"type": "ephemeral"},
        "output_config": {"effort": "low"}, "inference_geo": "eu", "speed": "fast",
    }  # fmt: skip
    found = translation(**said, reasoning_effort="low", temperature=0.3).request
    assert {key: json.loads(found.body)[key] for key in said} == said
    assert json.loads(found.body)["temperature"] == 0.3
    assert found.dropped == ("reasoning_effort",)


@pytest.mark.parametrize(("model", "effort", "max_tokens", "thinking"), [
    ("claude-sonnet-4-5", "low", 10_000, {"type": "enabled", "budget_tokens": 2048}),
    ("claude-sonnet-4-5", "medium", 10_000, {"type": "enabled", "budget_tokens": 5000}),
    ("claude-3-7-sonnet-20250219", "max", 10**6, {"type": "enabled", "budget_tokens": 65_536}),
    ("us.anthropic.claude-opus-4-20250514-v1:0", "minimal", 4096, {"type": "enabled", "budget_tokens": 1024}),
    ("claude-haiku-4-5", "high", 2047, None), ("glm-5", "high", 8000, {"type": "enabled", "budget_tokens": 4000}),
    ("glm-5", "none", 8000, {"type": "disabled"}), ("claude-opus-5-5", "none", 8000, {"type": "disabled"}),
    ("claude-opus-4-6", "high", 10, {"type": "adaptive"}), ("anthropic/claude-4.6-sonnet", "high", 10, {"type": "adaptive"}),
    ("claude-mythos-preview", "max", 10, {"type": "adaptive"}), ("claude-fable-5-2", "none", 10, {"type": "adaptive"}),
])  # fmt: skip
def test_reasoning_effort_becomes_the_thinking_that_the_model_supports(
    model: str, effort: str, max_tokens: int, thinking: Json | None
) -> None:
    found = translation(model, reasoning_effort=effort, max_tokens=max_tokens).request
    told = json.loads(found.body)
    assert told.get("thinking") == thinking
    if thinking is not None and "budget_tokens" in thinking:
        assert 1024 <= thinking["budget_tokens"] < max_tokens
    if thinking == {"type": "adaptive"}:
        assert told["output_config"] == {"effort": {"none": "low"}.get(effort, effort)}
    assert ("reasoning_effort" in found.dropped) == (thinking is None or (effort, "fable" in model) == ("none", True))


@pytest.mark.parametrize(("model", "thinks"), [
    ("claude-haiku-4-5", False), ("claude-opus-4-7", False), ("claude-opus-4-8", True), ("glm-5", False),
])  # fmt: skip
def test_a_forced_tool_drops_thinking_unless_the_model_supports_both(model: str, thinks: bool) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    found = translation(model, reasoning_effort="low", max_tokens=9999, tools=tools, tool_choice="required").request
    assert ("thinking" in json.loads(found.body)) == thinks
    assert found.dropped == (() if thinks else ("reasoning_effort",))


def test_reasoning_effort_is_dropped_in_a_tool_turn_that_began_without_thinking() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    signed = {**call, "thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}
    result = {"role": "tool", "tool_call_id": "c", "content": "1"}
    for first, thinks in ((call, False), (signed, True)):
        found = translation(reasoning_effort="low", messages=[first, result], max_tokens=9000).request
        assert ("thinking" in json.loads(found.body)) == thinks
        assert found.dropped == (() if thinks else ("reasoning_effort",))
    assert dropped_members(reasoning_effort="low", max_tokens="many") == ("reasoning_effort",)
    begun = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "The answer is "}]
    assert dropped_members(reasoning_effort="low", messages=begun, max_tokens=9000) == ("reasoning_effort",)
    assert translated_request("claude-opus-4-6", reasoning_effort="low", messages=[call, result])["thinking"] == {
        "type": "adaptive"
    }


@pytest.mark.parametrize(("signature", "thinking", "goes"), [
    (UNSIGNED, {"type": "enabled", "budget_tokens": 2000}, True), ("EqQBCg", {"type": "enabled", "budget_tokens": 2000}, False),
    (UNSIGNED, {"type": "adaptive"}, False), (UNSIGNED, "odd", False), (UNSIGNED, None, False),
])  # fmt: skip
def test_thinking_with_a_budget_is_dropped_in_a_tool_turn_that_lost_its_thinking_block(
    signature: str, thinking: Any, goes: bool
) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": signature}
    turn = {"role": "assistant", "tool_calls": [call], "thinking_blocks": [thought]}
    messages = [{"role": "user", "content": "Run it."}, turn, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    found = translation(messages=messages, thinking=thinking).request
    assert json.loads(found.body).get("thinking") == (None if goes else thinking)
    assert ("thinking" in found.dropped) == goes
    again = translation(messages=[*messages, {"role": "assistant", "content": "1"}, messages[0]], thinking=thinking).request
    assert json.loads(again.body).get("thinking") == thinking


@pytest.mark.parametrize(("model", "said", "kept", "lost"), [
    ("claude-3-haiku", {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, ()),
    ("claude-3-haiku", {"temperature": 1.5}, {"temperature": 1}, ("temperature",)),
    ("claude-sonnet-4-5", {"temperature": 0, "top_p": 0.9}, {"temperature": 0}, ("top_p",)),
    ("claude-sonnet-4-5", {"top_p": 0.9}, {"top_p": 0.9}, ()),
    ("claude-opus-4-6", {"temperature": 0.3, "top_p": 1.0}, {"temperature": 0.3}, ()),
    ("claude-opus-4-7", {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, {}, ("temperature", "top_p", "top_k")),
    ("claude-sonnet-5", {"temperature": 1, "top_p": 1}, {}, ()),
    ("kimi-k3", {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, {"temperature": 0.3, "top_p": 0.9, "top_k": 4}, ()),
])  # fmt: skip
def test_sampling_members_are_limited_to_what_the_model_accepts(
    model: str, said: Json, kept: Json, lost: tuple[str, ...]
) -> None:
    found = translation(model, **said).request
    told = json.loads(found.body)
    assert {key: told[key] for key in ("temperature", "top_p", "top_k") if key in told} == kept
    assert found.dropped == lost
