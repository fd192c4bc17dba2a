"""A stream that is translated and folded says what it says when it is folded and translated, wherever it is cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.responses import to_chat, to_messages
from kyma_proxy.dialect.translation import Translation
from tests.dialect.aggregating import aggregated
from tests.dialect.anthropic_to_openai import material as chat
from tests.dialect.openai_to_anthropic import material as messages
from tests.dialect.responses.material import Json, events, last_response, order, play

REQUESTS: list[Json] = [{}, {"include": ["reasoning.encrypted_content"]}, {"reasoning": {"summary": "auto"}}]
SOURCES: dict[str, tuple[Any, Any, Any]] = {
    "chat": (to_chat, chat.streams(), chat.aggregate_chunks),
    "messages": (to_messages, messages.streams(), lambda source: json.dumps(messages.aggregate_events(source)).encode()),
}
"""By the endpoint of the source: its translator, its streams, and what makes a whole answer of one."""


def comparable(response: Json) -> Json:
    """What a response says: its texts, its thoughts, and its calls in the order of their ids, for a stream may mix them."""
    said: Json = {"message": "", "reasoning": "", "refusal": ""}
    calls: list[Json] = []
    for item in response["output"]:
        if item["type"] in ("message", "reasoning"):
            for part in [*item.get("content", ()), *item.get("summary", ())]:
                said["refusal" if part["type"] == "refusal" else item["type"]] += part.get("text") or part.get("refusal") or ""
        else:
            call = {name: item[name] for name in item if name != "id"}
            calls.append(call | {"arguments": _value_of(item["arguments"])})
    calls.sort(key=lambda call: str(call["call_id"]))
    return {name: response[name] for name in ("status", "incomplete_details", "usage", "model", "id")} | said | {"calls": calls}


def _value_of(arguments: str) -> object:
    """The value that arguments are, whatever their white space; themselves if they are none."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


def folded(written: bytes) -> Json:
    """The response that the events of a stream build, from their deltas alone."""
    items: dict[int, Json] = {}
    response: Json = {}
    for event in events(written):
        kind = event["type"]
        if kind == "response.output_item.added":
            items[event["output_index"]] = event["item"] | {"content": [], "summary": []}
        elif kind.endswith(("_part.added",)):
            name = "summary" if "summary" in kind else "content"
            items[event["output_index"]][name].append({"type": event["part"]["type"], "text": ""})
        elif kind.endswith(("text.delta", "refusal.delta")):
            name = "summary" if "summary" in kind else "content"
            items[event["output_index"]][name][-1]["text"] += event["delta"]
        elif kind == "response.function_call_arguments.delta":
            items[event["output_index"]]["arguments"] += event["delta"]
        elif kind in ("response.completed", "response.incomplete"):
            response = event["response"]
    for index, item in enumerate(response["output"]):
        items[index]["status"] = item["status"]
        if item["type"] == "function_call":
            del items[index]["content"], items[index]["summary"]
    return response | {"output": [items[index] for index in sorted(items)]}


def translation(source: str, request: Json) -> Translation:
    made: Translation = SOURCES[source][0](order(request | {"stream": True}))
    return made


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("request_", REQUESTS, ids=["", "include", "summary"])
def test_a_translated_stream_folded_is_the_folded_stream_translated(source: str, request_: Json) -> None:
    _, streams, whole_of = SOURCES[source]

    @given(streams)
    def law(stream: bytes) -> None:
        made = translation(source, request_)
        whole = comparable(json.loads(made.answer(200, whole_of(stream)).body))
        written = play(made.stream(), stream)
        assert comparable(last_response(written)) == whole
        assert comparable(folded(written)) == whole
        assert comparable(json.loads(aggregated(made, stream).body)) == whole
        again = made.stream()
        assert comparable(last_response(play(again, made.as_stream(whole_of(stream))))) == whole
        assert again.is_finished

    law()


@pytest.mark.parametrize("source", SOURCES)
def test_a_stream_is_translated_the_same_however_it_is_cut(source: str) -> None:
    @given(SOURCES[source][1], st.lists(st.integers(0, 4000), max_size=6))
    def law(stream: bytes, cuts: list[int]) -> None:
        made = translation(source, REQUESTS[1])
        ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        pieces = [stream[begin:end] for begin, end in itertools.pairwise(ends)]
        assert play(made.stream(), *pieces) == play(made.stream(), stream)

    law()
