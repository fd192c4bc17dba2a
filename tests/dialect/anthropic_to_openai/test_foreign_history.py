"""A conversation that began at Anthropic goes on at any source: no block of its history shuts it out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.errors import GatewayError
from tests.dialect.anthropic_to_openai.material import SOURCE, Json, translation, user_message

TEXT = {"type": "text", "text": "So."}
FILE = {"type": "file", "file_id": "file_1"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "kyma"}}
FOUND = {
    "type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "caller": {"type": "direct"},
    "content": [{"type": "web_search_result", "title": "Kyma", "url": "https://k.example", "encrypted_content": "EqgfC"}],
}  # fmt: skip
FAILED = {"type": "web_search_tool_result", "tool_use_id": "s", "content": {
    "type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}}  # fmt: skip
ECHO = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "server_name": "it", "input": {"a": 1}}
ECHOED = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": [TEXT]}
RAN = {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": {
    "type": "bash_code_execution_result", "stdout": "42\n", "stderr": "", "return_code": 0, "content": []}}  # fmt: skip
LOADED = {"type": "tool_search_tool_result", "tool_use_id": "s", "content": {
    "type": "tool_search_tool_search_result",
    "tool_references": [{"type": "tool_reference", "tool_name": "look"}]}}  # fmt: skip
WRITTEN = [
    (SEARCH, '[The tool web_search was called with {"query":"kyma"}.]'),
    (FOUND, "[The result of the tool: Kyma\nhttps://k.example]"),
    (FAILED, "[The result of the tool: max_uses_exceeded]"),
    (ECHO, '[The tool echo was called with {"a":1}.]'),
    (ECHOED, "[The result of the tool: So.]"),
    (RAN, "[The result of the tool: 42\n\nreturn_code: 0]"),
    (LOADED, "[The result of the tool: look]"),
    ({"type": "hologram", "text": "I glow.", "data": "Eq"}, "I glow."),
]
LEFT_OUT = [
    {"type": "hologram", "data": "Eq"}, {"type": "container_upload", "file_id": "f"}, {"type": "compaction", "content": None},
    {"type": "image", "source": SOURCE}, {"type": "tool_reference"}, {"type": "odd one\r\n"}, {"type": "x", "text": 1e400},
]  # fmt: skip


def sent(*messages: Json, **more: Any) -> tuple[list[Json], tuple[str, ...]]:
    body = json.dumps({"model": "claude", "max_tokens": 1, "messages": list(messages)} | more).replace("Infinity", "1e999")
    made = translation(body.encode()).request
    turns: list[Json] = json.loads(made.body)["messages"]
    return turns, made.dropped


def assistant(*blocks: Json) -> Json:
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize(("block", "text"), WRITTEN)
def test_a_block_that_says_something_is_written_as_text(block: Json, text: str) -> None:
    turns, dropped = sent(user_message(TEXT), assistant(block, TEXT), user_message(TEXT))
    assert turns[1] == {"role": "assistant", "content": f"{text}\n\nSo."}
    assert dropped == ()
    turns, _ = sent(user_message(block))
    assert turns == [{"role": "user", "content": text}]
    turns, _ = sent(user_message({"type": "tool_result", "tool_use_id": "t", "content": [block]}))
    assert turns == [{"role": "tool", "tool_call_id": "t", "content": text}]


@pytest.mark.parametrize("block", LEFT_OUT)
def test_a_block_that_no_text_can_hold_is_left_out_and_named(block: Json) -> None:
    turns, dropped = sent(user_message(TEXT), assistant(block, TEXT), user_message(TEXT))
    assert turns[1] == {"role": "assistant", "content": "So."}
    (name,) = dropped
    assert name.startswith("messages[1].content[0].")
    assert "\r" not in name


@pytest.mark.parametrize("block", [{"type": "image", "source": FILE}, {"type": "document", "source": FILE}])
def test_a_file_that_only_anthropic_has_is_refused_in_the_last_message_and_named_in_earlier_ones(block: Json) -> None:
    with pytest.raises(GatewayError):
        sent(user_message(TEXT, block))
    turns, dropped = sent(user_message(TEXT, block), assistant(TEXT), user_message(TEXT))
    assert turns[0]["content"] == "So.\n\n[This can't be shown here.]"
    assert dropped == (f"messages[0].content[1].{block['type']}",)


def test_a_last_message_of_which_nothing_is_left_is_refused_with_its_path() -> None:
    with pytest.raises(GatewayError) as caught:
        sent(user_message(TEXT), user_message({"type": "hologram"}))
    assert caught.value.param == "messages[1].content[0]"


def test_a_summary_replaces_what_stands_before_it() -> None:
    summary = {"type": "compaction", "content": "They said hello."}
    turns, dropped = sent(
        user_message(TEXT), assistant(TEXT), user_message(TEXT), assistant(TEXT, summary, {"type": "text", "text": "Yes?"}),
        user_message(TEXT),
    )  # fmt: skip
    assert turns == [
        {"role": "user", "content": "The conversation so far was replaced by this summary:\n\nThey said hello."},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "So."},
    ]
    assert dropped == ()


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "kyma-unsigned"}


@pytest.mark.parametrize(("content", "dropped"), [
    ([THOUGHT], ("messages[1].content.thinking",)), ([{"type": "redacted_thinking", "data": "E"}],
    ("messages[1].content[0].redacted_thinking",)), ([], ()), ("", ()), ([{"type": "text", "text": ""}], ()),
    ([{"type": "hologram"}], ("messages[1].content[0].hologram",)),
])  # fmt: skip
def test_a_turn_that_says_nothing_is_left_out_and_its_neighbours_are_joined(content: Any, dropped: tuple[str, ...]) -> None:
    said = {"role": "assistant", "content": content}
    turns, named = sent(user_message(TEXT), said, user_message({"type": "text", "text": "And?"}))
    assert turns == [{"role": "user", "content": "So.\n\nAnd?"}]
    assert named == dropped


BLOCKS = st.sampled_from(
    [TEXT, THOUGHT, {"type": "tool_use", "id": "t", "name": "n", "input": {}}, *[block for block, _ in WRITTEN], *LEFT_OUT]
)
TURNS = st.builds(lambda role, blocks: {"role": role, "content": blocks}, st.sampled_from(["user", "assistant"]),
                  st.lists(BLOCKS, max_size=4))  # fmt: skip


@given(st.lists(TURNS, max_size=6))
def test_no_history_is_refused_and_none_becomes_an_empty_turn_of_the_assistant(history: list[Json]) -> None:
    turns, _ = sent(*history, user_message(TEXT))
    assert all(turn["content"] for turn in turns if turn["role"] == "assistant" and "tool_calls" not in turn)
    assert turns[-1]["role"] == "user"
    assert "So." in json.dumps(turns[-1]["content"])


BILLING = "x-anthropic-billing-header: cc_version=2.1.332.a5d; cc_entrypoint=sdk-cli; cch=%s;"
PROMPT = "You are Claude Code."


@pytest.mark.parametrize("system", [
    [{"type": "text", "text": BILLING}, {"type": "text", "text": PROMPT}], f"{BILLING}\n{PROMPT}",
])  # fmt: skip
def test_the_line_for_anthropics_books_does_not_reach_other_sources(system: Any) -> None:
    prompts = set()
    for nonce in ("36ee5", "0aaa9"):
        turns, dropped = sent(user_message(TEXT), system=json.loads(json.dumps(system).replace("%s", nonce)))
        prompts.add(turns[0]["content"])
        assert dropped == (("system",) if isinstance(system, str) else ("system[0]",))
    assert prompts == {PROMPT}
    turns, _ = sent(user_message(TEXT), system=[{"type": "text", "text": BILLING}])
    assert turns[0]["role"] == "user"
