"""A chat answer becomes a Responses answer, whole or streamed, wherever the network has cut it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.responses.reasoning import Thoughts, unpack
from tests.dialect.responses.material import (
    USAGE,
    Json,
    arguments,
    chat_answer,
    chat_stream,
    chunk,
    events,
    last_response,
    play,
    translation,
)

CUSTOM = {"tools": [{"type": "custom", "name": "patch"}]}
INCLUDED: Json = {"include": ["reasoning.encrypted_content"]}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, TEXTS),
    st.builds(lambda text: {"reasoning_content": text}, TEXTS),
    st.builds(lambda text: {"refusal": text}, TEXTS),
)


def test_the_events_come_in_the_documented_order() -> None:
    stream = chat_stream(
        {"role": "assistant", "content": ""}, {"reasoning_content": "Hm"}, {"reasoning_content": "."}, {"content": "Hel"},
        {"content": "lo"}, arguments(0, "", name="look"), arguments(0, '{"a"'), arguments(0, ":1}"), finish="tool_calls",
    )  # fmt: skip
    read = events(play(translation(INCLUDED).stream(), stream))
    assert [one["type"].removeprefix("response.") for one in read] == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta", "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]  # fmt: skip
    response = read[-1]["response"]
    thought, message, call = response["output"]
    assert unpack(thought["encrypted_content"]) == Thoughts("Hm.")
    assert (thought["content"][0]["text"], message["content"][0]["text"]) == ("Hm.", "Hello")
    assert (call["call_id"], call["name"], call["arguments"]) == ("call_0", "look", '{"a":1}')
    assert response["output"] == [one["item"] for one in read if one["type"] == "response.output_item.done"]
    assert response["usage"] == {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 18,
    }  # fmt: skip


def test_a_summary_is_given_to_who_asks_for_one() -> None:
    read = events(play(translation({"reasoning": {"summary": "auto"}}).stream(), chat_stream({"reasoning_content": "Hm."})))
    assert [one["type"] for one in read if "summary" in one["type"]] == [
        "response.reasoning_summary_part.added", "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done", "response.reasoning_summary_part.done",
    ]  # fmt: skip
    assert read[-1]["response"]["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm."}]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"input": "a\\nb"}', "a\nb"), ('{"patch": "x"}', "x"), ('"x"', "x"), ("raw", "raw"), ('{"input": 1}', '{"input": 1}'),
        ("", ""),
    ],
)  # fmt: skip
def test_the_input_of_a_custom_tool_is_what_the_model_wrote(written: str, read: str) -> None:
    stream = chat_stream(arguments(0, "", name="patch"), arguments(0, written), finish="tool_calls")
    made = play(translation(CUSTOM).stream(), stream)
    (item,) = last_response(made)["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", read)
    deltas = [one["delta"] for one in events(made) if one["type"] == "response.custom_tool_call_input.delta"]
    assert deltas == [read]


def test_tools_of_a_namespace_and_searches_are_called_by_their_own_names() -> None:
    function = {"type": "function", "name": "look", "parameters": {}}
    tools = [
        {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [function]},
        {"type": "tool_search", "execution": "client"},
    ]
    stream = chat_stream(
        arguments(0, "{}", name="crm__look"), arguments(1, '{"query":"x"}', name="tool_search"), finish="tool_calls"
    )
    call, search = last_response(play(translation({"tools": tools}).stream(), stream))["output"]
    assert (call["type"], call["name"], call["namespace"]) == ("function_call", "look", "crm")
    assert (search["type"], search["execution"], search["arguments"]) == ("tool_search_call", "client", {"query": "x"})


def test_pieces_of_parallel_calls_may_be_mixed() -> None:
    stream = chat_stream(
        arguments(0, "", name="look"), arguments(0, "{1"), arguments(1, "", name="go"), arguments(1, "{2"), arguments(0, "}"),
        arguments(1, "}"), finish="tool_calls",
    )  # fmt: skip
    output = last_response(play(translation({}).stream(), stream))["output"]
    assert [(one["name"], one["arguments"]) for one in output] == [("look", "{1}"), ("go", "{2}")]


STREAM = chat_stream(
    {"reasoning_content": "Hé"}, {"content": "a\r\nb"}, {"refusal": "no"}, arguments(0, "", name="patch"),
    arguments(0, '{"input":"ü"}'), finish="tool_calls",
)  # fmt: skip


def test_every_split_of_a_stream_gives_the_same() -> None:
    expected = play(translation(CUSTOM).stream(), STREAM)
    for cut in range(1, len(STREAM)):
        assert play(translation(CUSTOM).stream(), STREAM[:cut], STREAM[cut:]) == expected
    assert play(translation(CUSTOM).stream(), *[STREAM[at : at + 1] for at in range(len(STREAM))]) == expected


@given(st.lists(DELTAS, max_size=6), st.sampled_from(["stop", "length", "content_filter"]))
def test_a_stream_that_becomes_one_answer_says_what_its_last_event_says(deltas: list[Json], finish: str) -> None:
    stream = chat_stream(*deltas, finish=finish)
    made = translation(INCLUDED)
    aggregation = made.aggregation()
    aggregation.feed(stream)
    assert json.loads(aggregation.finish().body) == last_response(play(made.stream(), stream))


@given(TEXTS, st.none() | TEXTS, st.sampled_from(["stop", "length"]))
def test_a_whole_answer_says_what_its_stream_says(text: str, thought: str | None, finish: str) -> None:
    made = translation(INCLUDED)
    whole = json.loads(made.answer(200, chat_answer({"content": text, "reasoning_content": thought}, finish)).body)
    deltas = ([] if thought is None else [{"reasoning_content": thought}]) + [{"content": text}]
    assert whole == last_response(play(made.stream(), chat_stream(*deltas, finish=finish)))


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None), ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)  # fmt: skip
def test_the_status_says_why_an_answer_ended(finish: str, status: str, reason: str | None) -> None:
    made = play(translation({}).stream(), chat_stream({"content": "a"}, finish=finish))
    response = last_response(made)
    assert (events(made)[-1]["type"], response["status"]) == (f"response.{status}", status)
    assert response["incomplete_details"] == (None if reason is None else {"reason": reason})
    assert response["output"][0]["status"] == status


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": 429, "message": "m"}, "rate_limit_exceeded"),
        ({"type": "rate_limit_error", "message": "m"}, "rate_limit_exceeded"),
        ({"message": "m"}, "server_error"), ("m", "server_error"),
    ],
)  # fmt: skip
def test_an_error_of_the_source_is_a_failed_response_and_nothing_follows(error: object, code: str) -> None:
    stream = translation({}).stream()
    failing = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
    made = play(stream, chunk({"content": "a"}), failing, chat_stream({"content": "b"}))
    last = events(made)[-1]
    assert (last["type"], last["response"]["error"]) == ("response.failed", {"code": code, "message": "m"})
    assert (stream.is_finished, stream.has_failed) == (False, True)


def test_a_stream_that_was_cut_has_no_end() -> None:
    stream = translation({}).stream()
    made = play(stream, chunk({"content": "a"}), b'data: {"choices"')
    assert events(made)[-1]["type"] == "response.output_text.delta"
    assert not stream.is_finished


@pytest.mark.parametrize(
    "event", [b"data: {]\n\n", b'data: {"choices": 3}\n\n', b'data: {"choices":[{"delta":{"content":3}}]}\n\n']
)
def test_an_event_that_can_not_be_read_fails_the_response(event: bytes) -> None:
    stream = translation({}).stream()
    assert events(play(stream, chunk({"content": "a"}), event))[-1]["type"] == "response.failed"
    assert stream.has_failed


def test_an_answer_repeats_its_request_and_is_never_stored() -> None:
    asked = {"instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 0.5, "max_output_tokens": 9}
    response = last_response(play(translation(asked).stream(), chat_stream({"content": "a"})))
    assert {name: response[name] for name in asked} == asked
    assert (response["model"], response["store"], response["id"]) == ("public", False, "resp_rid")


@pytest.mark.parametrize(
    "body", [b"{", b"{}", b'{"choices":[]}', b'{"choices":[{"message":{"content":"a"},"finish_reason":"error"}]}']
)
def test_what_is_no_answer_is_not_translated(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        translation({}).answer(200, body)


def test_an_error_keeps_its_message() -> None:
    error = {"error": {"message": "m", "type": "t", "param": "p", "code": "unsupported_value"}}
    told = json.loads(translation({}).answer(400, json.dumps(error).encode()).body)["error"]
    assert told == error["error"] | {"type": "invalid_request_error", "code": "unsupported_parameter"}
    assert json.loads(translation({}).answer(422, b"no such thing").body)["error"]["message"] == "no such thing"


def test_the_usage_of_a_source_is_read_as_it_writes_it() -> None:
    body = json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": USAGE}).encode()
    assert json.loads(translation({}).answer(200, body).body)["usage"]["total_tokens"] == 18
