"""An id of a tool call is always one that Anthropic takes, and comes back to its source as that source wrote it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.anthropic_to_openai.request import AnthropicToOpenAI
from kyma_proxy.dialect.tool_ids import decode_tool_id, encode_tool_id

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.from_regex(r"kyma-id-([0-9a-f]{2})*", fullmatch=True)


@given(IDS)
def test_every_id_is_fit_and_comes_back(own: str) -> None:
    assert re.fullmatch("[a-zA-Z0-9_-]+", encode_tool_id(own))
    assert decode_tool_id(encode_tool_id(own)) == own


@given(IDS, IDS)
def test_two_ids_stay_two(one: str, other: str) -> None:
    assert (encode_tool_id(one) == encode_tool_id(other)) == (one == other)


@pytest.mark.parametrize("own", ["toolu_01A", "call_a-B", "0"])
def test_a_fit_id_is_left_alone(own: str) -> None:
    assert encode_tool_id(own) == decode_tool_id(own) == own


@pytest.mark.parametrize("fit", ["kyma-id-xyz", "kyma-id-ff", "kyma-id-6", "kyma-id-61", "kyma-id-6 1", "kyma-id-3A"])
def test_what_only_looks_made_is_left_alone(fit: str) -> None:
    assert decode_tool_id(fit) == fit


def test_a_conversation_with_odd_ids_goes_to_anthropic_and_back_again() -> None:
    def translation(messages: list[dict[str, Any]]) -> AnthropicToOpenAI:
        body = json.dumps({"model": "m", "max_tokens": 9, "messages": messages}).encode()
        return AnthropicToOpenAI(body, "kimi", public_model="m")

    call = {"index": 0, "id": "functions.Bash:0", "function": {"name": "Bash", "arguments": "{}"}}
    choice = {"index": 0, "message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    made = translation([])
    answer = json.dumps({"id": "1", "choices": [choice]}).encode()
    (use,) = json.loads(made.answer(200, answer).body)["content"]
    assert re.fullmatch("[a-zA-Z0-9_-]+", use["id"])
    assert b'"id":"%b"' % use["id"].encode() in made.stream().feed(made.as_stream(answer))

    picture = {"type": "image", "source": {"type": "url", "url": "https://a.example/1.png"}}
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": [picture]}
    said = translation([{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}])
    called, told, shown = json.loads(said.request.body)["messages"]
    assert called["tool_calls"][0]["id"] == told["tool_call_id"] == "functions.Bash:0"
    assert "functions.Bash:0" in shown["content"][0]["text"]
