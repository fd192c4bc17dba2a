"""Every member of an Anthropic request is translated for OpenAI, dropped and reported, or refused with its path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.errors import GatewayError, Kind
from tests.dialect.anthropic_to_openai.material import (
    SOURCE,
    Json,
    case_options,
    golden_cases,
    translated_request,
    translation,
    user_message,
)


@golden_cases("request.json")
def test_golden_requests_are_translated_to_openai(case: Path) -> None:
    how = case_options(case)
    dropped = how.pop("dropped", [])
    found = translation((case / "request.json").read_bytes(), **how).request
    assert json.loads(found.body) == json.loads((case / "expected.json").read_bytes())
    assert [*found.dropped] == dropped
    assert (found.endpoint.dialect, found.endpoint.path) == ("openai", b"/chat/completions")


def test_numbers_of_the_request_keep_the_callers_digits() -> None:
    body = (
        b'{"model":"claude","max_tokens":1e5,"temperature":0.10,"tools":[{"name":"a","input_schema":{"maximum":1e999}}],'
        b'"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"a","input":'
        b'{"n": 12345678901234567890123, "x": 1.0}}]}]}'
    )
    found = translation(body, max_tokens_field="max_completion_tokens").request.body
    for part in (b'"max_completion_tokens":1e5', b'"temperature":0.10', b'"maximum":1e999',
                 rb'"arguments":"{\"n\":12345678901234567890123,\"x\":1.0}"'):  # fmt: skip
        assert part in found


def test_the_default_max_tokens_applies_if_the_caller_sets_none() -> None:
    body = {"model": "claude", "messages": []}
    assert json.loads(translation(body, default_max_tokens=4096).request.body)["max_tokens"] == 4096
    assert json.loads(translation(body | {"max_tokens": 7}, default_max_tokens=4096).request.body)["max_tokens"] == 7
    assert "max_tokens" not in translated_request()


def test_stream_options_request_usage_for_streams_only() -> None:
    body = {"model": "claude", "messages": []}
    assert "stream_options" not in json.loads(translation(body, asks_for_usage=True).request.body)
    assert "stream_options" not in json.loads(translation(body | {"stream": False}, asks_for_usage=True).request.body)
    assert "stream_options" not in json.loads(translation(body | {"stream": True}).request.body)


@pytest.mark.parametrize(("schema", "parameters"), [
    ({"type": "object"}, {"type": "object", "properties": {}}), ({}, {"type": "object", "properties": {}}),
    (True, {"type": "object", "properties": {}}), ({"type": "object", "required": []}, {
        "type": "object", "required": [], "properties": {}}),
    ({"type": "object", "properties": {"a": {}}}, None), ({"type": "string"}, None), ({"type": ["object", "null"]}, None),
    ([1], None), ("object", None), (False, None),
])  # fmt: skip
def test_a_tool_schema_without_properties_gets_empty_properties(schema: Any, parameters: Json | None) -> None:
    (tool,) = translated_request(tools=[{"name": "a", "input_schema": schema}])["tools"]
    assert tool["function"]["parameters"] == (schema if parameters is None else parameters)


@pytest.mark.parametrize(("members", "effort"), [
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
    ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "low"),
    ({"thinking": {"type": "enabled", "budget_tokens": 4097}}, "medium"),
    ({"thinking": {"type": "enabled", "budget_tokens": 16384}}, "medium"),
    ({"thinking": {"type": "enabled", "budget_tokens": 16385}}, "high"),
    ({"thinking": {"type": "enabled", "budget_tokens": 31999}, "output_config": {"effort": "low"}}, "low"),
    ({"output_config": {"effort": "xhigh"}}, "high"),
    ({"thinking": {"type": "enabled"}}, None), ({"thinking": {"type": "adaptive"}}, None),
    ({"thinking": {"type": "disabled"}}, None), ({"output_config": {"effort": "odd"}}, None), ({}, None),
])  # fmt: skip
def test_a_thinking_budget_becomes_a_reasoning_effort(members: Json, effort: str | None) -> None:
    assert translated_request(**members).get("reasoning_effort") == effort


@pytest.mark.parametrize("properties", [True, 1, "city", ["city"], [{}]])
def test_an_output_schema_whose_properties_are_no_object_is_not_strict(properties: object) -> None:
    schema = {"type": "object", "properties": properties, "required": ["city"], "additionalProperties": False}
    body = translated_request(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": schema}


@pytest.mark.parametrize(("schema", "is_strict"), [
    ({"type": "object", "properties": {}, "additionalProperties": False}, True),
    ({"type": "object"}, False),
    ({"type": "string"}, True),
    ({"type": "array", "items": {"type": "object", "properties": {"a": {}}, "additionalProperties": False}}, False),
    ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
    ({"anyOf": [{"type": "null"}, {"type": "object"}]}, False),
    ({"anyOf": [{"type": "null"}, {"type": "string"}]}, True),
    ({"type": "object", "properties": {"a": {}}, "required": "a", "additionalProperties": False}, False),
    ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
])  # fmt: skip
def test_an_output_schema_is_strict_only_if_openais_strict_mode_accepts_it(schema: Json, is_strict: bool) -> None:
    form = translated_request(output_format={"type": "json_schema", "schema": schema})["response_format"]["json_schema"]
    assert form.get("strict", False) == is_strict
    assert form["schema"] == schema


@pytest.mark.parametrize(("members", "dropped"), [
    ({"thinking": {"type": "disabled"}}, ["thinking"]),
    ({"thinking": {"type": "adaptive", "display": None}}, []),
    ({"output_config": {"effort": "odd", "x": 1}}, ["output_config.x", "output_config.effort"]),
    ({"service_tier": "auto"}, []), ({"service_tier": "odd"}, ["service_tier"]),
    ({"metadata": {"user_id": "u" * 64}}, []), ({"metadata": {"user_id": "u" * 65}}, ["metadata.user_id"]),
    ({"metadata": {}}, []), ({"mcp_servers": []}, ["mcp_servers"]), ({"inference_geo": "global"}, ["inference_geo"]),
    ({"top_k": None, "container": None}, []),
    ({"a prompt\r\n": 1, "x" * 65: 2, "top_k": 3}, ["?", "top_k"]),
])  # fmt: skip
def test_untranslated_members_are_reported_as_dropped(members: Json, dropped: list[str]) -> None:
    found = translation({"model": "claude", "messages": []} | members).request
    assert [*found.dropped] == dropped
    assert "service_tier" not in json.loads(found.body)


TEXT = {"type": "text", "text": "a"}
BAD_REQUESTS: list[tuple[Json, str]] = [
    ({"messages": 1}, "messages"),
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [{"content": "a"}]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ({"messages": [user_message(TEXT, {"text": "a"})]}, "messages[0].content[1]"),
    ({"messages": [user_message({"type": "text", "text": 1})]}, "messages[0].content[0].text"),
    ({"messages": [user_message({"type": 1})]}, "messages[0].content[0].type"),
    ({"messages": [user_message({"type": "hologram"})]}, "messages[0].content[0]"),
    ({"messages": [user_message({"type": "tool_use", "id": "i", "name": "n", "input": {}})]}, "messages[0].content[0]"),
    ({"messages": [user_message({"type": "container_upload", "file_id": "f"})]}, "messages[0].content[0]"),
    ({"messages": [user_message({"type": "document", "source": SOURCE})]}, "messages[0].content[0].source"),
    ({"messages": [user_message({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
     "messages[0].content[0].source"),
    ({"system": [{"type": "image", "source": SOURCE}]}, "system[0]"),
    ({"system": 1}, "system"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
    ({"tools": [{"name": "a"}]}, "tools[0]"),
    ({"tools": [{"name": "a", "input_schema": {}}], "tool_choice": {"type": "tool"}}, "tool_choice"),
    ({"tools": [{"name": "a", "input_schema": {}}], "tool_choice": {"type": "odd"}}, "tool_choice"),
    ({"output_format": {"type": "grammar", "schema": {}}}, "output_format.type"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format"),
    ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "thinking.budget_tokens"),
    ({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "m"}]}, "mcp_servers"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"stream": "yes"}, "stream"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "param"), BAD_REQUESTS)
def test_unsupported_members_are_refused_with_their_path(members: Json, param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        translated_request(**members)
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, param)
    assert f"`{param}`" in caught.value.message


DEEP = [b'{"a":' * depth + b"1" + b"}" * depth for depth in (900, 100_000)]
CALL = b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"n","input":%b}]}]}'


@pytest.mark.parametrize("body", [
    b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', CALL % b'{"a":"\xff"}', CALL % DEEP[1],
    b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
])  # fmt: skip
def test_a_request_body_that_is_no_utf8_or_too_deep_is_refused_as_invalid_json(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        translation(body)
    assert caught.value.kind is Kind.INVALID_JSON


def test_deeply_nested_arguments_and_schemas_are_passed_through() -> None:
    assert (
        json.loads(translation(CALL % DEEP[0]).request.body)["messages"][0]["tool_calls"][0]["function"]["arguments"]
        == DEEP[0].decode()
    )
    form = b'{"model":"m","messages":[],"output_format":{"type":"json_schema","schema":%b}}' % DEEP[0]
    assert DEEP[0] in translation(form).request.body
    assert b"strict" not in translation(form).request.body
