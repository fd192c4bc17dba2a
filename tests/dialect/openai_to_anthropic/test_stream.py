"""An Anthropic stream becomes OpenAI's chunks, wherever it is cut; a truncated or damaged one never gets `[DONE]`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dialect.openai_to_anthropic.material import (
    CREATED,
    FINISHED,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    STREAMED,
    aggregate_chunks,
    block_delta,
    block_start,
    block_stop,
    case_name,
    event,
    events_of,
    text_delta,
    translate_stream,
    translation,
    translation_of_case,
)


@pytest.mark.parametrize("case", STREAMED, ids=case_name)
def test_golden_streams_are_translated_the_same_wherever_they_are_cut(case: Path) -> None:
    source, expected = (case / "stream.sse").read_bytes(), (case / "expected_stream.sse").read_bytes()
    translation = translation_of_case(case)
    assert translate_stream(translation.stream(), source).decode() == expected.decode()
    assert translate_stream(translation.stream(), *(source[at : at + 1] for at in range(len(source)))) == expected
    for cut in range(len(source)):
        assert translate_stream(translation.stream(), source[:cut], source[cut:]) == expected


@pytest.mark.parametrize("case", STREAMED, ids=case_name)
def test_only_an_anthropic_stream_with_message_stop_is_finished(case: Path) -> None:
    source = (case / "stream.sse").read_bytes()
    stream = translation_of_case(case).stream()
    told = translate_stream(stream, source)
    assert stream.is_finished == (case in FINISHED)
    assert told.endswith(b"data: [DONE]\n\n") == stream.is_finished


@pytest.mark.parametrize("case", FINISHED, ids=case_name)
def test_a_truncated_anthropic_stream_gets_no_done(case: Path) -> None:
    source, expected = (case / "stream.sse").read_bytes(), (case / "expected_stream.sse").read_bytes()
    translation = translation_of_case(case)
    for cut in range(source.index(b'"message_stop"}')):
        stream = translation.stream()
        told = translate_stream(stream, source[:cut])
        assert not stream.is_finished
        assert expected.startswith(told)
        assert b"[DONE]" not in told


def test_a_malformed_event_ends_the_translated_stream_with_an_error() -> None:
    for broken in (
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x}\n\n', b"data: {\n\n", b"data: 3\n\n",
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"\xff"}}\n\n',
        b"data: " + b"[" * 99_999 + b"\n\n",
        block_delta(0, type="text_delta", text=5), event({"type": "message_start", "message": 3}),
        block_start(0, type="text", text=5), event({"type": "error", "error": "x"}),
    ):  # fmt: skip
        stream = translation().stream()
        told = translate_stream(stream, MESSAGE_START + text_delta("a"), broken, text_delta("b") + MESSAGE_DELTA + MESSAGE_STOP)
        last = told.split(b"\n\n")[-2]
        assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "server_error"
        assert told.count(b'"content":"a"') == 1
        assert not stream.is_finished
        assert b"[DONE]" not in told
        assert b'"b"' not in told


def test_unknown_events_and_deltas_are_skipped() -> None:
    for odd in (
        b": a comment\n\n", b"data: [DONE]\n\n", b"data:\n\n", b"event: x\n\n", b"data: {}\n\n",
        event({"type": "new", "delta": 3, "index": None}), block_delta(0, type="new_delta", text=[]), block_delta(0),
        event({"type": "content_block_delta", "index": 0}), block_start(7, type="new", text=[]), block_stop(99), MESSAGE_START,
        block_delta(42, type="input_json_delta", partial_json="{"), block_delta(42, type="signature_delta", signature="x"),
        event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": -1}}), text_delta(""),
    ):  # fmt: skip
        made = translation(stream_options={"include_usage": True})
        stream = made.stream()
        plain = translate_stream(made.stream(), MESSAGE_START, text_delta("a"), MESSAGE_DELTA, MESSAGE_STOP)
        assert b'{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}' in plain
        assert translate_stream(stream, MESSAGE_START, odd, text_delta("a"), MESSAGE_DELTA, MESSAGE_STOP) == plain
        assert stream.is_finished


@pytest.mark.parametrize("written", [
    b'data: {"error":{"message":"Why."}}', b'event: error\ndata: {"message":"Why."}', b'event: error\ndata: {"detail":"Why."}',
    b'data: {"type":"error","error":{"type":7,"message":"Why."}}', b'data: {"type":"error","error":"Why."}',
])  # fmt: skip
def test_an_error_event_of_any_form_fails_the_stream(written: bytes) -> None:
    stream = translation().stream()
    told = translate_stream(stream, MESSAGE_START, written + b"\n\n", MESSAGE_DELTA + MESSAGE_STOP)
    assert b'"message":"Why."' in told
    assert not stream.is_finished


def test_an_error_event_without_a_message_fails_the_stream() -> None:
    for written in (b"event: error\ndata: {}\n\n", b"event: error\ndata: {\n\n"):
        stream = translation().stream()
        told = json.loads(translate_stream(stream, written).removeprefix(b"data: "))
        assert told["error"]["type"] == "server_error"
        assert stream.has_failed


def test_the_message_of_an_error_event_is_truncated() -> None:
    long = event({"type": "error", "error": {"type": "api_error", "message": "x" * 9999}})
    assert json.loads(translate_stream(translation().stream(), long).removeprefix(b"data: "))["error"]["message"] == "x" * 300


def test_a_stream_without_message_start_still_has_an_id_and_a_role() -> None:
    block = block_start(0, type="text", text="")
    told = list(
        events_of(
            translate_stream(
                translation().stream(),
                event({"type": "ping"}),
                block + text_delta("a") + block_stop(0),
                MESSAGE_DELTA,
                MESSAGE_STOP,
            )
        )
    )
    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {one["id"] for one in told} == {f"chatcmpl-{CREATED}"}
    for opening in ({"id": "", "usage": {"input_tokens": 3}}, {}):
        stream = translation(stream_options={"include_usage": True}).stream()
        begin = event({"type": "message_start", "message": opening})
        late = list(events_of(translate_stream(stream, block, begin, text_delta("a"), MESSAGE_DELTA, MESSAGE_STOP)))
        assert [one["choices"][0]["delta"].get("role") for one in late[:-1]].count("assistant") == 1
        assert late[-1]["usage"]["prompt_tokens"] == (3 if opening else 0)
    assert json.loads(translation().answer(200, b'{"content":[]}').body)["id"] == f"chatcmpl-{CREATED}"


def test_nothing_is_sent_after_message_stop() -> None:
    stream = translation().stream()
    whole = translate_stream(stream, MESSAGE_START, MESSAGE_DELTA, MESSAGE_STOP)
    assert (stream.feed(text_delta("late")), stream.flush()) == (b"", b"")
    assert translate_stream(translation().stream(), MESSAGE_START + MESSAGE_DELTA + MESSAGE_STOP + text_delta("late")) == whole


def test_a_stream_without_a_stop_reason_finishes_with_stop() -> None:
    stream = translation(stream_options={"include_usage": True}).stream()
    told = translate_stream(stream, event({"type": "message_start", "message": {"id": "x"}}), text_delta("a"), MESSAGE_STOP)
    assert b'"finish_reason":"stop"' in told
    assert b'"choices":[]' not in told  # nothing was told of usage
    assert told.endswith(b"data: [DONE]\n\n")


def test_arguments_in_the_blocks_start_or_cut_short_are_passed_on() -> None:
    call = block_start(0, type="tool_use", id="t", name="f", input={"a": 1})
    for source in (call + block_stop(0), call):
        told = aggregate_chunks(translate_stream(translation().stream(), MESSAGE_START, source, MESSAGE_DELTA, MESSAGE_STOP))
        assert told["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    cut = call + block_delta(0, type="input_json_delta", partial_json='{"a":') + block_stop(0)
    told = aggregate_chunks(translate_stream(translation().stream(), MESSAGE_START, cut, MESSAGE_DELTA, MESSAGE_STOP))
    assert told["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":'
    null = block_start(0, type="tool_use", id="t", name="f", input=None) + block_stop(0)
    assert b'"arguments":"{}"' in translate_stream(translation().stream(), MESSAGE_START, null, MESSAGE_DELTA, MESSAGE_STOP)


def test_deltas_without_a_block_start_are_passed_on() -> None:
    source = text_delta("a") + block_delta(1, type="thinking_delta", thinking="b")
    message = aggregate_chunks(translate_stream(translation().stream(), MESSAGE_START, source, MESSAGE_DELTA, MESSAGE_STOP))[
        "choices"
    ][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("a", "b")


def test_a_legacy_caller_gets_only_the_first_call_as_function_call() -> None:
    two = b"".join(block_start(at, type="tool_use", id=f"t{at}", name=f"f{at}", input={}) + block_stop(at) for at in range(2))
    told = aggregate_chunks(
        translate_stream(translation(functions=[{"name": "f0"}]).stream(), MESSAGE_START, two, MESSAGE_DELTA, MESSAGE_STOP)
    )
    assert told["choices"][0]["message"]["function_call"] == {"name": "f0", "arguments": "{}"}
    assert "tool_calls" not in told["choices"][0]["message"]


def test_a_large_event_in_small_pieces_is_translated_whole() -> None:
    words = "ä" * 500_000
    source = text_delta(words)
    stream = translation().stream()
    told = translate_stream(
        stream, MESSAGE_START, *(source[at : at + 1000] for at in range(0, len(source), 1000)), MESSAGE_DELTA, MESSAGE_STOP
    )
    assert aggregate_chunks(told)["choices"][0]["message"]["content"] == words


def test_an_event_without_end_is_not_buffered_without_limit() -> None:
    stream = translation().stream()
    told = b""
    for _ in range(200):
        told += stream.feed(b"data: " + b"x" * 1_000_000 + b"\n")
        if told:
            break
    assert b'"error"' in told
    assert not stream.is_finished


@given(st.sampled_from(STREAMED), st.data())
def test_a_damaged_stream_never_raises_and_is_finished_only_with_done(case: Path, data: st.DataObject) -> None:
    source = bytearray((case / "stream.sse").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    stream = translation_of_case(case).stream()
    told = translate_stream(stream, bytes(source))
    assert stream.is_finished == told.endswith(b"data: [DONE]\n\n")
    told.decode()
    for line in told.split(b"\n"):
        if line.startswith(b"data: {"):
            json.loads(line[6:])
