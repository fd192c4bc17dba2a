"""The messages of an Anthropic request reach an OpenAI source with all content that both dialects can express."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.tool_arguments import RAW_ARGUMENTS
from kyma_proxy.dialect.tool_names import fit_name
from kyma_proxy.errors import GatewayError
from tests.dialect.anthropic_to_openai.material import (
    SOURCE,
    Json,
    translated_messages,
    translated_request,
    translation,
    user_message,
)

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1, max_size=8)
TEXT_BLOCKS = st.builds(lambda text: {"type": "text", "text": text}, WORDS)
TOOL_USES = st.builds(
    lambda name, given_input: {"type": "tool_use", "id": f"id {name}", "name": name, "input": given_input},
    WORDS, st.dictionaries(WORDS, WORDS | st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=2),
)  # fmt: skip
TOOL_RESULTS = st.builds(
    lambda ident, content: {"type": "tool_result", "tool_use_id": ident, "content": content},
    WORDS, WORDS | st.lists(TEXT_BLOCKS, min_size=1, max_size=3),
)  # fmt: skip
THINKING_BLOCKS = st.builds(
    lambda text, signature: {"type": "thinking", "thinking": text, "signature": signature},
    WORDS,
    st.sampled_from(["", UNSIGNED]),
)
MESSAGES = st.one_of(
    st.builds(lambda content: {"role": "user", "content": content}, WORDS),
    st.builds(lambda blocks: user_message(*blocks), st.lists(TEXT_BLOCKS | TOOL_RESULTS, min_size=1, max_size=4)),
    st.builds(
        lambda blocks: {"role": "assistant", "content": blocks}, st.lists(TEXT_BLOCKS | TOOL_USES | THINKING_BLOCKS, max_size=4)
    ),
)


def facts_of_request(messages: list[Json]) -> Iterator[tuple[Any, ...]]:
    for message in messages:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if block["type"] == "tool_use":
                yield "call", block["id"], fit_name(block["name"]), json.dumps(block["input"])
            elif block["type"] == "tool_result":
                inner = block["content"]
                texts = [inner] if isinstance(inner, str) else [one["text"] for one in inner]
                yield from (("result", block["tool_use_id"], text) for text in texts)
            elif block["type"] == "thinking" and any(one["type"] != "thinking" for one in content):
                yield "thought", block["thinking"]
            elif block["type"] == "thinking":
                pass  # a turn that says nothing else is left out
            elif message["role"] == "user":
                yield "user", block["text"]
        if message["role"] == "assistant":
            said = "".join(block["text"] for block in content if block["type"] == "text")
            if said or any(block["type"] == "tool_use" for block in content):
                yield "assistant", said


def facts_of_translation(messages: list[Json]) -> Iterator[tuple[Any, ...]]:
    for message in messages:
        content = message["content"] or ""
        if message["role"] == "tool":
            yield from (("result", message["tool_call_id"], text) for text in content.split("\n\n"))
        elif message["role"] == "user":
            yield from (("user", text) for text in content.split("\n\n"))
        else:
            if "reasoning_content" in message:
                yield from (("thought", text) for text in message["reasoning_content"].split("\n\n"))
            for call in message.get("tool_calls", ()):
                function = call["function"]
                yield "call", call["id"], function["name"], json.dumps(json.loads(function["arguments"]))
            yield "assistant", content.replace("\n\n", "")


@given(st.lists(MESSAGES, max_size=6))
def test_a_conversation_keeps_all_texts_calls_results_and_thinking(messages: list[Json]) -> None:
    found = translation({"model": "claude", "max_tokens": 1, "messages": messages}).request
    turns = json.loads(found.body)["messages"]
    assert sorted(facts_of_translation(turns)) == sorted(facts_of_request(messages))
    lonely = [
        index for index, one in enumerate(messages)
        if one["content"] and all(isinstance(block, dict) and block["type"] == "thinking" for block in one["content"])
    ]  # fmt: skip
    assert found.dropped == tuple(f"messages[{index}].content.thinking" for index in lonely[:1])


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", None])
def test_earlier_thinking_goes_into_the_sources_reasoning_field_or_is_dropped(field: str | None) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": UNSIGNED}
    turn = {"role": "assistant", "content": [thought, {"type": "text", "text": "No."}]}
    found = translation({"model": "claude", "max_tokens": 1, "messages": [turn]}, reasoning_field=field).request
    (told,) = json.loads(found.body)["messages"]
    assert told == {"role": "assistant", "content": "No."} | ({} if field is None else {field: "Hm."})
    assert found.dropped == (("messages[0].content.thinking",) if field is None else ())


def test_each_kind_of_dropped_member_is_reported_once_and_their_number_is_bounded() -> None:
    many: Json = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}, "citations": []}
    messages = [user_message(many, many), user_message(many)]
    found = translation({"model": "claude", "messages": messages, "system": [many]}).request
    assert found.dropped == ("cache_control", "messages[0].content[0].citations", "system[0].citations")
    assert len(translation({"model": "claude", "messages": []} | {f"x{at}": 1 for at in range(900)}).request.dropped) == 64


def test_system_messages_are_joined_in_order_into_the_first_message() -> None:
    marked = {"type": "text", "text": "B", "cache_control": {"type": "ephemeral"}}
    messages = [
        {"role": "system", "content": [marked, {"type": "text", "text": "C"}]}, user_message({"type": "text", "text": "Hello"}),
        {"role": "system", "content": ""}, {"role": "assistant", "content": "Hi"}, {"role": "system", "content": "D"},
    ]  # fmt: skip
    found = translation({"model": "claude", "messages": messages, "system": [{"type": "text", "text": "A"}]}).request
    assert json.loads(found.body)["messages"] == [
        {"role": "system", "content": "A\n\nB\n\nC\n\nD"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]
    assert found.dropped == ("cache_control",)
    assert translated_messages({"role": "system", "content": ""}, user_message()) == [{"role": "user", "content": ""}]


def test_empty_contents_of_the_user_stay_empty_strings() -> None:
    empty = ({"role": "user", "content": ""}, user_message(), {"role": "user"})
    assert translated_messages(*empty) == [{"role": "user", "content": ""}] * 3
    assert "tools" not in translated_request(tools=[], tool_choice={"type": "any"}, system="", stop_sequences=[])


def test_raw_arguments_are_restored_only_from_the_translations_own_form() -> None:
    def arguments(given_input: Json | None) -> str:
        turn: Json = {"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "n", "input": given_input}]}
        found: str = translated_messages(turn)[0]["tool_calls"][0]["function"]["arguments"]
        return found

    assert arguments({RAW_ARGUMENTS: '{"bad'}) == '{"bad'
    assert arguments({RAW_ARGUMENTS: 1}) == '{"_raw_arguments":1}'
    assert arguments({RAW_ARGUMENTS: "x", "y": 2}) == '{"_raw_arguments":"x","y":2}'
    assert arguments({"y": RAW_ARGUMENTS}) == '{"y":"_raw_arguments"}'
    assert arguments(None) == "{}"


def test_an_unsupported_block_error_gives_advice_and_quotes_no_prompt() -> None:
    with pytest.raises(GatewayError) as caught:
        translated_messages(user_message({"type": "document", "source": SOURCE}))
    assert "send the document itself, as base64 or as text" in caught.value.message
    with pytest.raises(GatewayError) as caught:
        translated_messages(user_message({"type": "secret" * 100}))
    assert len(caught.value.message) < 250
