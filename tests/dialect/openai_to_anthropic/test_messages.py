"""The messages of a chat request reach Anthropic with all content that both dialects can express."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.tool_names import fit_name
from tests.dialect.openai_to_anthropic.material import (
    ARGUMENTS,
    NON_BLANK,
    WORDS,
    Json,
    aggregate_events,
    dropped_members,
    streams,
    translated_request,
    translation,
    user,
)

IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)


@st.composite
def conversations(draw: st.DrawFn) -> list[Json]:
    """A conversation that OpenAI would take."""
    messages: list[Json] = []
    for number in range(draw(st.integers(1, 4))):
        messages.append({"role": draw(st.sampled_from(["user", "system", "developer"])), "content": draw(NON_BLANK)})
        calls = [f"c{number}_{at}" for at in range(draw(st.integers(0, 2)))]
        message: Json = {"role": "assistant", "content": draw(NON_BLANK | st.none()) if calls else draw(NON_BLANK)}
        if calls:
            message["tool_calls"] = [
                {"id": one, "type": "function", "function": {"name": draw(IDS), "arguments": json.dumps(draw(ARGUMENTS))}}
                for one in calls
            ]
        if draw(st.booleans()):
            message["thinking_blocks"] = [{"type": "thinking", "thinking": draw(WORDS), "signature": draw(NON_BLANK)}]
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": one, "content": draw(WORDS)} for one in calls]
    return [*messages, {"role": "user", "content": draw(NON_BLANK)}]


@given(conversations())
def test_a_conversation_keeps_all_blocks_in_order(messages: list[Json]) -> None:
    told = translated_request(messages=messages)
    assert dropped_members(messages=messages) == ()
    system = [one["content"] for one in messages if one["role"] in ("system", "developer")]
    assert [block["text"] for block in told.get("system", [])] == system
    expected: list[tuple[object, ...]] = []
    for message in messages:
        expected += [("thinking", one["thinking"], one["signature"]) for one in message.get("thinking_blocks", [])]
        if message["role"] == "tool":
            expected.append(("tool_result", message["tool_call_id"], message["content"]))
        elif message["role"] in ("user", "assistant") and message["content"]:
            expected.append(("text", message["content"]))
        for call in message.get("tool_calls", []):
            function = call["function"]
            expected += [("tool_use", call["id"], function["name"], json.loads(function["arguments"]))]
    found = [
        tuple(value for member, value in block.items() if member in COMPARED_MEMBERS[block["type"]])
        for turn in told["messages"]
        for block in turn["content"]
    ]
    assert found == expected
    roles = [turn["role"] for turn in told["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))


COMPARED_MEMBERS = {
    "text": ("type", "text"), "thinking": ("type", "thinking", "signature"),
    "tool_use": ("type", "id", "name", "input"), "tool_result": ("type", "tool_use_id", "content"),
}  # fmt: skip


@given(streams())
def test_an_answer_sent_back_in_the_next_request_keeps_its_blocks(source: bytes) -> None:
    message = aggregate_events(source)
    told = json.loads(translation().answer(200, json.dumps(message).encode()).body)["choices"][0]["message"]
    back = translated_request(messages=[{"role": "user", "content": "hi"}, told, {"role": "user", "content": "go on"}])[
        "messages"
    ]
    blocks = [block for turn in back if turn["role"] == "assistant" for block in turn["content"]]

    def of(kind: str, blocks: list[Json]) -> list[Json]:
        return [block for block in blocks if block["type"] == kind]

    came = message["content"]
    assert of("tool_use", blocks) == [
        {**block, "name": fit_name(block["name"]), "input": block["input"]} for block in of("tool_use", came)
    ]
    assert of("thinking", blocks) == [block for block in of("thinking", came) if block["signature"]]
    assert of("redacted_thinking", blocks) == of("redacted_thinking", came)
    words = "".join(block["text"] for block in of("text", came))
    assert "".join(block["text"] for block in of("text", blocks)) == (words if words.strip() else "")


@pytest.mark.parametrize(("written", "expected"), [
    ("", {}), (" ", {}), ("null", {}), ("{}", {}), ('{"a": 1.50}', {"a": 1.5}), (None, {}), ({"a": 1}, {"a": 1}),
    ('{"a"', {"arguments": '{"a"'}), ("[1]", {"arguments": "[1]"}), ('"x"', {"arguments": '"x"'}),
    ('{"a": "\\ud83d"}', {"arguments": '{"a": "\\ud83d"}'}), ("[" * 9999, {"arguments": "[" * 9999}),
])  # fmt: skip
def test_earlier_arguments_that_are_no_object_are_wrapped(written: object, expected: Json) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": written}}
    told = translated_request(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert told["messages"][0]["content"][0]["input"] == expected


def test_tool_ids_are_valid_and_unique_and_results_match_their_calls() -> None:
    said = ["a.b", "a:b", "a_b", "a.b", "", "é"]
    messages: list[Json] = []
    for one in said:
        messages.append({"role": "assistant", "tool_calls": [{"id": one, "function": {"name": "f", "arguments": "{}"}}]})
        messages.append({"role": "tool", "tool_call_id": one, "content": one})
    blocks = [turn["content"][0] for turn in translated_request(messages=messages)["messages"]]
    calls, results = blocks[::2], blocks[1::2]
    assert [one["id"] for one in calls] == ["a_b", "a_b_2", "a_b_3", "a_b_4", "call", "_"]
    assert [one["tool_use_id"] for one in results] == [one["id"] for one in calls]


def test_tool_results_come_first_in_their_message_and_in_order() -> None:
    messages = [
        {"role": "assistant", "tool_calls": [{"id": one, "function": {"name": "f", "arguments": "{}"}} for one in "ab"]},
        {"role": "user", "content": "wait"},
        {"role": "tool", "tool_call_id": "a", "content": "1", "is_error": True, "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": "and"},
        {"role": "tool", "tool_call_id": "b"},
    ]
    assert translated_request(messages=messages)["messages"][1]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True, "cache_control": {"type": "ephemeral"}},
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "text", "text": "wait"},
        {"type": "text", "text": "and"},
    ]


def test_system_messages_alone_become_a_user_message() -> None:
    told = translated_request(messages=[{"role": "system", "content": "Say hi."}, {"role": "user", "content": ""}])
    assert told["messages"] == user({"type": "text", "text": "Say hi."})
    assert "system" not in told


def test_unsigned_thinking_blocks_are_not_sent_to_anthropic() -> None:
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": one} for one in (UNSIGNED, "EqQBCg", "")]
    turn = {"role": "assistant", "content": "No.", "thinking_blocks": thoughts}
    found = translation(messages=[{"role": "user", "content": "Is it?"}, turn, {"role": "user", "content": "Why?"}]).request
    assert json.loads(found.body)["messages"][1]["content"] == [thoughts[1], {"type": "text", "text": "No."}]
    assert found.dropped == ("messages[1].thinking_blocks[0]", "messages[1].thinking_blocks[2]")
