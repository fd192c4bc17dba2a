"""An answer says the same whole and streamed, wherever it is cut: its thoughts, and what its source wants back."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.responses import to_chat
from kyma_proxy.dialect.translation import Order, Translation
from tests.dialect.aggregating import aggregated
from tests.strict_chat import FLAVOURS, StrictChat, chunk_of, whole_of

Json = dict[str, Any]
PARSERS = {"think": "think"}


def messages(flavour: str) -> Translation:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Go."}]}
    return AnthropicToOpenAI(
        json.dumps(body).encode(), "real", public_model="m", reasoning_parser=PARSERS.get(flavour), source="it"
    )


def responses(flavour: str) -> Translation:
    body = {"model": "m", "input": "Go.", "include": ["reasoning.encrypted_content"]}
    order = Order(json.dumps(body).encode(), "real", "m", None, None, True, "reasoning_content", "rid", 1)
    return to_chat(order._replace(reasoning_parser=PARSERS.get(flavour), source="it"))


MAKERS = {"messages": messages, "responses": responses}


def without_times(document: Json) -> Json:
    return {name: value for name, value in document.items() if name != "completed_at"}


@pytest.mark.parametrize("step", ["It is done.", ("look", {"at": 1})], ids=["text", "call"])
@pytest.mark.parametrize("api", MAKERS)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_folded_stream_is_the_whole_answer(flavour: str, api: str, step: Any) -> None:
    deltas, finish = StrictChat(flavour, lambda _: []).play(step, 0)
    stream = b"".join([chunk_of(delta, "c1") for delta in deltas]) + chunk_of({}, "c1", finish)
    used = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}\n\ndata: [DONE]\n\n'
    made = MAKERS[api](flavour)
    whole = made.answer(200, json.dumps(whole_of(deltas, finish, "c1")).encode())
    folded = aggregated(MAKERS[api](flavour), stream + used)
    assert without_times(json.loads(folded.body)) == without_times(json.loads(whole.body))


TEXT = "<think>\nIs it < 3? <think> No.\n</think>\n\nIt is </think> \u20ac4."


@given(st.lists(st.integers(0, len(TEXT)), max_size=6), st.sampled_from(sorted(MAKERS)))
def test_tags_are_read_wherever_the_source_has_cut_them(cuts: list[int], api: str) -> None:
    places = sorted({0, *cuts, len(TEXT)})
    pieces = [TEXT[start:end] for start, end in pairwise(places)]
    stream = b"".join([chunk_of({"content": piece}, "c1") for piece in pieces]) + chunk_of({}, "c1", "stop")
    document = json.loads(aggregated(MAKERS[api]("think"), stream + b"data: [DONE]\n\n").body)
    if api == "messages":
        thought, answer = document["content"]
        texts = thought["thinking"], answer["text"]
    else:
        thought, answer = document["output"]
        texts = thought["content"][0]["text"], answer["content"][0]["text"]
    assert texts == ("Is it < 3?  No.\n", "It is  \u20ac4.")


@pytest.mark.parametrize("api", MAKERS)
def test_tags_are_text_for_a_source_without_a_parser(api: str) -> None:
    stream = chunk_of({"content": TEXT}, "c1") + chunk_of({}, "c1", "stop") + b"data: [DONE]\n\n"
    document = json.loads(aggregated(MAKERS[api]("plain"), stream).body)
    (item,) = document["content" if api == "messages" else "output"]
    assert (item if api == "messages" else item["content"][0])["text"] == TEXT


@pytest.mark.parametrize("api", MAKERS)
def test_what_is_held_at_the_end_is_given_before_a_call_and_before_the_end(api: str) -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    for last in ({"tool_calls": [call]}, {"refusal": "No."}, {}):
        stream = chunk_of({"content": "<thi"}, "c1") + chunk_of(last, "c1", "stop") + b"data: [DONE]\n\n"
        document = json.loads(aggregated(MAKERS[api]("think"), stream).body)
        first = document["content" if api == "messages" else "output"][0]
        text = first["text"] if api == "messages" else first["content"][0]["text"]
        assert text.startswith("<thi")
