"""A tool that is searched for is offered once it was found, by sources that know no such thing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialect.anthropic_to_openai.material import Json, translation, user_message

LOOK: Json = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
DEFERRED = [LOOK | {"name": name, "defer_loading": True} for name in ("mcp__a__one", "mcp__a__two")]
PLACEHOLDER = LOOK | {"name": "DeferredToolPlaceholder", "defer_loading": True}
SEARCH = LOOK | {"name": "ToolSearch"}
TOOLS = [LOOK, SEARCH, *DEFERRED, PLACEHOLDER]
FOUND = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "mcp__a__two"}]}
CALL = {"type": "tool_use", "id": "t", "name": "ToolSearch", "input": {"query": "select:mcp__a__two"}}
ASKED = user_message({"type": "text", "text": "Do it."})


def offered(*messages: Json, tools: list[Json] = TOOLS, **more: Any) -> tuple[list[str], tuple[str, ...]]:
    body = {"model": "claude", "max_tokens": 1, "messages": list(messages), "tools": tools} | more
    made = translation(body).request
    document = json.loads(made.body)
    assert b"defer_loading" not in made.body
    return [tool["function"]["name"] for tool in document.get("tools", [])], made.dropped


def test_a_deferred_tool_is_offered_from_when_it_was_found_and_the_placeholder_never() -> None:
    assert offered(ASKED) == (["look", "ToolSearch"], ())
    searched = ASKED, {"role": "assistant", "content": [CALL]}, user_message(FOUND)
    assert offered(*searched) == (["look", "ToolSearch", "mcp__a__two"], ())
    used = {"role": "assistant", "content": [CALL | {"id": "u", "name": "mcp__a__one"}]}
    assert offered(ASKED, used, user_message(FOUND | {"tool_use_id": "u", "content": "1"})) == (
        ["look", "ToolSearch", "mcp__a__one"], (),
    )  # fmt: skip
    assert offered(ASKED, tool_choice={"type": "tool", "name": "mcp__a__one"})[0] == ["look", "ToolSearch", "mcp__a__one"]


def test_the_model_reads_which_tool_was_found() -> None:
    searched = ASKED, {"role": "assistant", "content": [CALL]}, user_message(FOUND)
    body = {"model": "claude", "max_tokens": 1, "messages": list(searched), "tools": TOOLS}
    result = json.loads(translation(body).request.body)["messages"][-1]
    assert result == {"role": "tool", "tool_call_id": "t", "content": "The tool mcp__a__two can be called now."}


@pytest.mark.parametrize("kind", ["tool_search_tool_regex_20251119", "tool_search_tool_bm25_20251119"])
def test_all_tools_are_offered_where_anthropic_was_to_search(kind: str) -> None:
    names, dropped = offered(ASKED, tools=[{"type": kind, "name": "tool_search"}, *TOOLS])
    assert names == ["look", "ToolSearch", "mcp__a__one", "mcp__a__two"]
    assert dropped == ()


def test_the_adviser_of_an_agent_is_left_out_and_named() -> None:
    assert offered(ASKED, tools=[LOOK, {"type": "advisor_20260301", "name": "advisor", "model": "m"}]) == (
        ["look"],
        ("tools[1]",),
    )


def test_tools_of_which_none_was_found_are_not_offered_as_an_empty_list() -> None:
    body = {"model": "claude", "max_tokens": 1, "messages": [ASKED], "tools": DEFERRED, "tool_choice": {"type": "auto"}}
    assert json.loads(translation(body).request.body).keys() == {"model", "max_tokens", "messages"}
