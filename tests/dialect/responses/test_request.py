"""A Responses request becomes a chat request that says the same, and what it can't say is refused or reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.responses.functions import flat_name
from kyma_proxy.dialect.responses.reasoning import Thoughts, pack, unpack
from kyma_proxy.dialect.tool_names import MAX_NAME
from kyma_proxy.errors import GatewayError
from tests.dialect.responses.material import Json, sent, translation

FUNCTION = {"type": "function", "name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}
AS_FUNCTION = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at":1}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
AS_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("request_members", "chat_members"),
    [
        ({}, {"messages": [user("hi")]}),
        ({"instructions": "Be brief."}, {"messages": [{"role": "system", "content": "Be brief."}, user("hi")]}),
        ({"max_output_tokens": 7}, {"max_tokens": 7}),
        ({"temperature": 0.50, "top_p": 1}, {"temperature": 0.5, "top_p": 1}),
        ({"reasoning": {"effort": "xhigh", "summary": "auto"}}, {"reasoning_effort": "high"}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"user": "u", "safety_identifier": "s"}, {"user": "s"}),
        ({"tools": [FUNCTION], "tool_choice": "required"}, {"tools": [AS_FUNCTION], "tool_choice": "required"}),
        ({"tools": [FUNCTION], "parallel_tool_calls": False}, {"tools": [AS_FUNCTION], "parallel_tool_calls": False}),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "look"}},
         {"tools": [AS_FUNCTION], "tool_choice": {"type": "function", "function": {"name": "look"}}}),
        ({"tools": [FUNCTION, FUNCTION | {"name": "go"}],
          "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]}},
         {"tools": [AS_FUNCTION], "tool_choice": "required"}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}}},
         {"response_format": {
             "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}}),
        ({"store": False, "background": False, "truncation": "disabled", "metadata": {"a": "b"}, "service_tier": "auto"}, {}),
    ],
)  # fmt: skip
def test_each_member_has_its_counterpart(request_members: Json, chat_members: Json) -> None:
    assert sent(request_members) == {"model": "real", "messages": [user("hi")]} | chat_members
    assert translation(request_members).request.dropped == ()


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([user("a"), {"role": "assistant", "content": "b"}], [user("a"), {"role": "assistant", "content": "b"}]),
        ([user("a"), CALL, OUTPUT],
         [user("a"), {"role": "assistant", "content": None, "tool_calls": [AS_CALL]},
          {"role": "tool", "tool_call_id": "c1", "content": "seen"}]),
        # a result follows its call, wherever it stands
        ([CALL, user("a"), OUTPUT],
         [{"role": "assistant", "content": None, "tool_calls": [AS_CALL]},
          {"role": "tool", "tool_call_id": "c1", "content": "seen"}, user("a")]),
        ([OUTPUT], [user("From the result of the tool call c1:\n\nseen")]),
        ([user("a"), {"type": "message", "role": "developer", "content": "x"}, {"role": "system", "content": "y"}],
         [{"role": "system", "content": "x\n\ny"}, user("a")]),
        ([{"role": "developer", "content": "x"}], [user("x")]),
        ([user([{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "https://e/x", "detail": "low"}])],
         [user([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://e/x", "detail": "low"}}])]),
        ([CALL, OUTPUT | {"output": [{"type": "input_image", "image_url": "https://e/x"}]}],
         [{"role": "assistant", "content": None, "tool_calls": [AS_CALL]},
          {"role": "tool", "tool_call_id": "c1", "content": "The result is in the user's message that follows."},
          user([{"type": "text", "text": "From the result of the tool call c1:"},
                {"type": "image_url", "image_url": {"url": "https://e/x"}}])]),
        ([user("a"), {"type": "web_search_call", "id": "ws_1", "status": "completed"}], [user("a")]),
        ([{"type": "local_shell_call", "call_id": "c1", "action": {"command": ["ls"]}, "status": "completed", "id": "l"},
          {"type": "local_shell_call_output", "call_id": "c1", "output": "x"}],
         [{"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {
             "name": "local_shell", "arguments": '{"action":{"command": ["ls"]}}'}}]},
          {"role": "tool", "tool_call_id": "c1", "content": "x"}]),
    ],
)  # fmt: skip
def test_items_become_messages(items: list[Json], messages: list[Json]) -> None:
    assert sent({"input": items})["messages"] == messages


def test_custom_tools_namespaces_and_a_search_become_functions_and_are_found_again() -> None:
    request = {
        "tools": [
            {"type": "custom", "name": "patch", "description": "Patch.",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
            {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [FUNCTION, FUNCTION | {"name": "go"}]},
            {"type": "tool_search", "execution": "client", "description": "Find.", "parameters": {"type": "object"}},
        ],
        "input": [
            {"type": "custom_tool_call", "call_id": "p", "name": "patch", "input": 'a"b'},
            {"type": "function_call", "call_id": "q", "name": "look", "namespace": "crm", "arguments": "{}"},
            {"type": "tool_search_call", "call_id": "s", "execution": "client", "arguments": {"query": "x"}},
            {"type": "custom_tool_call_output", "call_id": "p", "output": "ok"},
            {"type": "tool_search_output", "call_id": "s", "execution": "client", "tools": [FUNCTION | {"name": "found"}]},
        ],
    }  # fmt: skip
    chat = sent(request)
    assert [one["function"]["name"] for one in chat["tools"]] == ["patch", "crm__look", "crm__go", "tool_search", "found"]
    descriptions = [one["function"]["description"] for one in chat["tools"]]
    assert "lark grammar:\nstart: x" in descriptions[0]
    assert descriptions[1:3] == ["Customers.\n\nLook.", "Look."]
    calls = chat["messages"][0]["tool_calls"]
    assert [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in calls] == [
        ("patch", {"input": 'a"b'}), ("crm__look", {}), ("tool_search", {"query": "x"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("members", "dropped"),
    [
        ({"prompt_cache_key": "k", "client_metadata": {"a": "b"}}, ("prompt_cache_key", "client_metadata")),
        ({"tools": [FUNCTION, {"type": "web_search"}]}, ("tools[1]",)),
        ({"tools": [FUNCTION, {"type": "web_search_preview_2025_03_11"}]}, ("tools[1]",)),
        ({"include": ["message.output_text.logprobs"]}, ("include[0]",)),
        ({"text": {"verbosity": "low"}}, ("text.verbosity",)),
        ({"truncation": "auto", "unheard_of": 1}, ("unheard_of", "truncation")),
        ({"input": [user("a"), {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "gAAAA"}]},
         ("input[1].encrypted_content",)),
        ({"input": [user("a"), {"type": "compaction", "encrypted_content": "x"}]}, ("input[1]",)),
    ],
)  # fmt: skip
def test_what_is_left_out_is_reported(members: Json, dropped: tuple[str, ...]) -> None:
    assert translation(members).request.dropped == dropped


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"previous_response_id": "r"}, "previous_response_id"), ({"conversation": {"id": "c"}}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"), ({"background": True}, "background"), ({"store": True}, "store"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"), ({"input": []}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"), ({"tools": [FUNCTION, {"type": "mcp"}]}, "tools[1]"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": "sometimes"}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": [user([{"type": "input_image", "file_id": "f"}])]}, "input[0].content[0]"),
        ({"input": [user([{"type": "input_file", "file_url": "https://e/x"}])]}, "input[0].content[0]"),
        ({"input": [user([{"type": "input_audio"}])]}, "input[0].content[0]"),
        ({"input": [{"role": "judge"}]}, "input[0].role"),
    ],
)  # fmt: skip
def test_what_would_change_the_answer_is_refused(members: Json, param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        translation(members)
    assert caught.value.param == param


def test_earlier_thoughts_come_back_where_the_source_takes_them() -> None:
    thought = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": pack(Thoughts("Hm."))}
    items = [user("a"), thought, CALL, OUTPUT]
    assert sent({"input": items}, reasoning_field="reasoning_content")["messages"][1]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in sent({"input": items})["messages"][1]
    assert translation({"input": items}).request.dropped == ("input[1]",)


@given(st.text(), st.text(max_size=8))
def test_a_token_of_thoughts_is_read_by_any_node_and_no_other_text_is(text: str, other: str) -> None:
    token = pack(Thoughts(text, [{"type": "thinking", "thinking": text, "signature": "s"}]))
    assert unpack(token) == Thoughts(text, [{"type": "thinking", "thinking": text, "signature": "s"}])
    assert unpack(token[:-1]) is None
    assert unpack(other) is None


@given(st.text(min_size=1), st.none() | st.text())
def test_every_source_accepts_the_name_of_a_tool_which_is_always_the_same(name: str, namespace: str | None) -> None:
    flat = flat_name(name, namespace)
    assert 0 < len(flat) <= MAX_NAME
    assert flat.isascii()
    assert flat.replace("_", "").replace("-", "").isalnum() or not flat.strip("_-")
    assert flat == flat_name(name, namespace)


def test_two_tools_of_one_flat_name_stay_two() -> None:
    namespace = {"type": "namespace", "name": "a", "tools": [FUNCTION]}
    names = [one["function"]["name"] for one in sent({"tools": [FUNCTION | {"name": "a__look"}, namespace]})["tools"]]
    assert len(set(names)) == 2
