"""An OpenAI stream becomes Anthropic's events, wherever it is cut; a truncated one never gets an end."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.anthropic_to_openai.stream import MessageStream
from kyma_proxy.dialect.sse import encode_event
from kyma_proxy.dialect.tool_arguments import RAW_ARGUMENTS
from tests.dialect.anthropic_to_openai.material import (
    STOP_SEQUENCES,
    aggregate_chunks,
    aggregate_events,
    call_chunk,
    case_options,
    chunk,
    comparable,
    events_of,
    golden_cases,
    streams,
    translate_stream,
    translation,
)


@golden_cases("stream.sse")
def test_golden_streams_are_translated_the_same_wherever_they_are_cut(case: Path) -> None:
    source, expected = (case / "stream.sse").read_bytes(), (case / "expected.sse").read_bytes()
    for stream in (source, b"\xef\xbb\xbf" + source, source.replace(b"\n", b"\r\n"), source.replace(b"\n", b"\r")):
        assert translate_stream(stream)[0] == expected
        assert translate_stream(*(stream[at : at + 1] for at in range(len(stream))))[0] == expected
    for cut in range(len(source) + 1):
        out, stream_translation = translate_stream(source[:cut], source[cut:])
        assert out == expected
        assert stream_translation.is_finished == case_options(case).get("finished", True)


@golden_cases("stream.sse")
def test_a_truncated_openai_stream_gets_no_message_stop(case: Path) -> None:
    source, expected = (case / "stream.sse").read_bytes(), (case / "expected.sse").read_bytes()
    told = max(source.find(b'"finish_reason":"'), source.find(b"[DONE]"))
    for cut in range(len(source)):
        stream = MessageStream("shown-model", STOP_SEQUENCES)
        before = stream.feed(source[:cut])
        assert expected.startswith(before)  # all that goes out is what would have gone out
        after = stream.flush()
        assert (b"message_stop" in before + after) == stream.is_finished
        assert not stream.is_finished or cut > told or case_options(case).get("finished", True)


@given(streams(), st.data())
def test_an_openai_stream_translates_to_the_same_message_as_its_aggregate(source: bytes, chance: st.DataObject) -> None:
    cut = chance.draw(st.integers(0, len(source)))
    out, stream = translate_stream(source[:cut], source[cut:])
    whole = translation().answer(200, aggregate_chunks(source))
    message = aggregate_events(out)
    usage = message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (6, 3, 4)
    assert comparable(message) == comparable(json.loads(whole.body))
    assert stream.is_finished


@golden_cases("stream.sse")
def test_golden_streams_translate_to_the_same_message_as_their_aggregates(case: Path) -> None:
    if case.name in ("stream_text", "stream_tools", "stream_tools_interleaved", "stream_with_a_filter_first"):
        source = (case / "stream.sse").read_bytes()
        whole = translation().answer(200, aggregate_chunks(source))
        assert comparable(aggregate_events((case / "expected.sse").read_bytes())) == comparable(json.loads(whole.body))


def test_each_delta_is_sent_with_the_event_that_brought_it() -> None:
    stream = MessageStream("shown-model", STOP_SEQUENCES)
    pieces = [
        chunk({"role": "assistant", "content": ""}), chunk({"reasoning_content": "a"}), chunk({"content": "b"}),
        call_chunk(0, "", id="x", name="n"), call_chunk(0, '{"a":'), call_chunk(0, "1}"),
        call_chunk(1, "", id="y", name="n"), call_chunk(1, "{}"),
    ]  # fmt: skip
    out = [[event["type"] for event in events_of(stream.feed(piece))] for piece in pieces]
    start, delta, stop = "content_block_start", "content_block_delta", "content_block_stop"
    assert out == [
        ["message_start"],
        [start, delta],
        [delta, stop, start, delta],  # with the mark of a thought that nobody has signed
        [],  # the name of a call may go on
        [stop, start, delta],
        [delta],
        [],
        [stop, start, delta],
    ]
    assert [event["type"] for event in events_of(stream.feed(chunk({}, "tool_calls")))] == [stop]
    assert stream.is_finished
    assert [event["type"] for event in events_of(stream.flush())] == ["message_delta", "message_stop"]


def test_only_interleaved_calls_are_held() -> None:
    stream = MessageStream("shown-model", STOP_SEQUENCES)
    both = call_chunk(0, '{"a":"', id="x", name="n") + call_chunk(1, "{", id="y", name="m")
    assert [event["type"] for event in events_of(stream.feed(both))][-1] == "content_block_delta"
    assert stream.feed(call_chunk(1, "}")) == b""
    assert len(events_of(stream.feed(call_chunk(0, '}\\"')))) == 1  # in a string a brace ends nothing
    assert stream.feed(call_chunk(1, " ")) == b""
    out = events_of(stream.feed(call_chunk(0, '"}')))
    assert [event["type"] for event in out] == [
        "content_block_delta", "content_block_stop", "content_block_start", "content_block_delta",
    ]  # fmt: skip
    assert out[-1]["delta"]["partial_json"] == "{} "


def test_the_end_of_a_calls_arguments_is_found_wherever_they_are_cut() -> None:
    arguments = '{"a\\\\\\"}": ["{", {"b": "\\\\"}], "c": "]}"}'
    assert json.loads(arguments)
    for cut in range(1, len(arguments)):
        stream = MessageStream("shown-model", STOP_SEQUENCES)
        for piece in (arguments[:cut], arguments[cut:-1]):
            stream.feed(call_chunk(0, piece, id="x", name="n"))
        assert stream.feed(call_chunk(1, "{}", id="y", name="n")) == b""
        assert len(events_of(stream.feed(call_chunk(0, "}")))) == 4


def test_a_new_call_with_the_same_index_completes_the_one_before() -> None:
    stream = MessageStream("shown-model", STOP_SEQUENCES)
    stream.feed(call_chunk(0, "", id="x", name="n"))
    out = events_of(stream.feed(call_chunk(0, "{", id="y", name="n")))
    assert [event["type"] for event in out] == [
        "content_block_start", "content_block_stop", "content_block_start", "content_block_delta",
    ]  # fmt: skip


def test_a_split_function_name_is_complete_when_its_arguments_begin() -> None:
    def piece(name: str, arguments: str = "") -> bytes:
        return chunk({"tool_calls": [{"index": 0, "function": {"name": name, "arguments": arguments}}]})

    for pieces in (
        (call_chunk(0, "", id="x", name="get_"), piece("weather", "{}")),
        (call_chunk(0, "", id="x", name="get_"), piece("weather"), call_chunk(0, "{}")),
        (call_chunk(0, "", id="x", name="get_weather"), piece("get_weather", "{"), piece("get_weather", "}")),
        (
            call_chunk(0, "", id="x", name="get_weather"),
            call_chunk(1, "", id="y", name="n"),
            chunk({"content": "b"}),
            call_chunk(0, "{}"),
        ),
    ):
        out, _ = translate_stream(*pieces, chunk({}, "tool_calls"))
        assert aggregate_events(out)["content"][0] == {"type": "tool_use", "id": "x", "name": "get_weather", "input": {}}


def test_a_call_is_opened_only_when_its_name_is_known() -> None:
    out, _ = translate_stream(call_chunk(0, '{"a"', id="x"), call_chunk(0, ":1}", name="n"), chunk({}, "tool_calls"))
    assert [block["name"] for block in aggregate_events(out)["content"]] == ["n"]
    out, _ = translate_stream(call_chunk(0, "{}", id="x"), chunk({}, "tool_calls"))
    assert aggregate_events(out)["content"] == [{"type": "tool_use", "id": "x", "name": "", "input": {}}]


def test_a_call_repeated_in_every_event_is_one_tool_use() -> None:
    out, _ = translate_stream(call_chunk(0, "{", id="x", name="n"), call_chunk(0, "}", id="x", name="n"), chunk({}, "stop"))
    assert aggregate_events(out)["content"] == [{"type": "tool_use", "id": "x", "name": "n", "input": {}}]


def test_malformed_streamed_arguments_are_kept_as_raw_arguments() -> None:
    out, _ = translate_stream(call_chunk(0, '{"a"}}', id="x", name="n"), call_chunk(0, " oh"), chunk({}, "stop"))
    assert aggregate_events(out)["content"][0]["input"] == {RAW_ARGUMENTS: '{"a"}} oh'}
    out, _ = translate_stream(
        call_chunk(0, '}\\"{', id="x", name="n"), call_chunk(1, "{}", id="y", name="n"), call_chunk(0, "}"), chunk({}, "stop")
    )
    assert [block["input"] for block in aggregate_events(out)["content"]] == [{RAW_ARGUMENTS: '}\\"{}'}, {}]


def test_arguments_after_a_complete_value_of_a_closed_call_are_ignored() -> None:
    out, _ = translate_stream(
        call_chunk(0, "{}", id="x", name="n"), call_chunk(1, "{}", id="y", name="n"), call_chunk(0, " \n"), chunk({}, "stop")
    )
    assert [block["input"] for block in aggregate_events(out)["content"]] == [{}, {}]


def test_text_cut_within_a_character_continues_with_replacement_characters() -> None:
    texts = [rb"a\ud83d", rb"\ude00 \ud83d\ude00", b"\xf0\x9f"]
    out, _ = translate_stream(
        *(b'data: {"id":"1","choices":[{"delta":{"content":"%b"}}]}\n\n' % text for text in texts), chunk({}, "stop")
    )
    assert aggregate_events(out)["content"] == [{"type": "text", "text": "a\ufffd\ufffd \U0001f600\ufffd"}]


@pytest.mark.parametrize(("event", "kind", "message"), [
    (b'data: {"error":{"message":"Slow down","type":"rate_limit_exceeded","code":null}}', "rate_limit_error", "Slow down"),
    (b'data: {"error":{"message":"Full","code":"overloaded"}}', "overloaded_error", "Full"),
    (b'data: {"error":{"message":"No","code":529}}', "overloaded_error", "No"),
    (b'data: {"error":"Out of memory"}', "api_error", "Out of memory"),
    (b'data: {"object":"error","message":"Too long","code":400}', "invalid_request_error", "Too long"),
    (b'event: error\ndata: {"message":"Gone"}', "api_error", "Gone"),
    (b'data: {"id":"1","choices":[{"delta":{},"finish_reason":"insufficient_system_resource"}]}', "api_error",
     "The source ended its answer early; send the request again."),
    (b"data: {", "api_error", "The source sent an event that can't be read; send the request again."),
    (b"data: []", "api_error", "The source sent an event that can't be read; send the request again."),
    (b'data: {"choices":[{"delta":{"content":1}}]}', "api_error",
     "The source sent an event that can't be read; send the request again."),
])  # fmt: skip
def test_an_error_event_ends_the_translated_stream_unfinished(event: bytes, kind: str, message: str) -> None:
    out, stream = translate_stream(
        chunk({"content": "Half"}), event + b"\n\n", chunk({"content": "more"}, "stop"), b"data: [DONE]\n\n"
    )
    last = events_of(out)[-1]
    assert last == {"type": "error", "error": {"type": kind, "message": message}}
    assert out.endswith(b"event: error\ndata: " + json.dumps(last, separators=(",", ":")).encode() + b"\n\n")
    assert not stream.is_finished
    assert b"message_stop" not in out


def test_a_streamed_refusal_becomes_text_with_the_stop_reason_refusal() -> None:
    out, _ = translate_stream(
        chunk({"role": "assistant", "refusal": ""}), chunk({"refusal": "I"}), chunk({"refusal": " can't."}), chunk({}, "stop")
    )
    message = aggregate_events(out)
    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "I can't."}], "refusal")


def test_null_and_unknown_members_of_chunks_are_ignored() -> None:
    strange = {
        "choices": [{"index": None, "delta": None, "finish_reason": ""}, {"delta": {"tool_calls": [{"function": None}]}}]
    }
    out, _ = translate_stream(
        encode_event(b"", json.dumps({"created": 7, "usage": None, "error": None} | strange).encode()),
        chunk({"content": None, "reasoning": {"odd": 1}, "tool_calls": None}), chunk({"content": "a"}, "stop"),
    )  # fmt: skip
    message = aggregate_events(out)
    assert message["id"] == "msg_7"
    assert [block["type"] for block in message["content"]] == ["tool_use", "text"]


def test_an_error_after_the_finish_reason_fails_the_stream() -> None:
    out, stream = translate_stream(
        chunk({"content": "a"}, "stop"), b'data: {"error":{"message":"no"}}\n\n', b"data: [DONE]\n\n"
    )
    assert not stream.is_finished
    assert b"message_stop" not in out


@pytest.mark.parametrize("end", [b"", b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n"])
def test_a_stream_with_a_finish_reason_is_finished_with_or_without_done(end: bytes) -> None:
    out, stream = translate_stream(chunk({"content": "a"}), chunk({}, "stop"), end)
    assert aggregate_events(out)["content"] == [{"type": "text", "text": "a"}]
    assert stream.is_finished
    assert stream.feed(chunk({"content": "b"})) == stream.flush() == b""


def test_a_stream_with_only_done_is_an_empty_message() -> None:
    out, stream = translate_stream(b"data: [DONE]\n\n")
    assert (aggregate_events(out)["content"], aggregate_events(out)["stop_reason"]) == ([], "end_turn")
    assert stream.is_finished
    out, stream = translate_stream(b"")
    assert (out, stream.is_finished) == (b"", False)


def test_comments_of_the_source_become_comments_or_pings() -> None:
    stream = MessageStream("shown-model", STOP_SEQUENCES)
    assert stream.feed(b": keep-alive\n\n") == b":\n\n"
    stream.feed(chunk({"content": "a"}))
    assert stream.feed(b": keep-alive\n") == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert stream.feed(b"\ndata:\n\nid: 1\n\n") == b""


def test_a_large_event_in_small_pieces_is_translated_in_linear_time() -> None:
    text = "x" * (1 << 20)
    source = chunk({"content": text}, "stop")
    begin = time.process_time()
    out, _ = translate_stream(*(source[at : at + 100] for at in range(0, len(source), 100)))
    assert time.process_time() - begin < 2.0
    assert aggregate_events(out)["content"] == [{"type": "text", "text": text}]


def test_interleaved_calls_are_translated_in_linear_time() -> None:
    pieces = [
        call_chunk(at % 2, '{"a":[' if at < 2 else "[]," if at < 39_998 else "1]}", id=f"{at % 2}", name="n")
        for at in range(40_000)
    ]
    begin = time.process_time()
    out, _ = translate_stream(*pieces, chunk({}, "tool_calls"))
    assert time.process_time() - begin < 8.0  # each is looked at once; a quadratic search would take minutes
    assert [len(block["input"]["a"]) for block in aggregate_events(out)["content"]] == [19_999, 19_999]
