"""The tokens of an unreported answer are estimated from its first and last bytes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.dialect.completion_estimate import estimated_completion_tokens
from kyma_proxy.simulated import anthropic_answers, openai_answers
from kyma_proxy.simulated.answers import Answer


def chat(**delta: object) -> dict[str, object]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }


def call(**function: object) -> dict[str, object]:
    return chat(tool_calls=[{"index": 0, "function": function}])


def claude(**delta: object) -> dict[str, object]:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def completion(text: str) -> dict[str, object]:
    return {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": None}]}


def response(name: str, delta: object) -> dict[str, object]:
    return {"type": f"response.{name}.delta", "item_id": "msg_1", "output_index": 0, "delta": delta}


def sse(*events: object, end: str = "\n\n") -> bytes:
    return b"".join(f"data: {json.dumps(event, ensure_ascii=False)}{end}".encode() for event in events)


def delivered(body: bytes, size: int = 2048, *, streams: bool = True) -> int:
    """The estimate for a body of which at least `size` bytes are kept at both ends."""
    is_all = len(body) <= 2 * size
    return estimated_completion_tokens(body if is_all else body[:size], body if is_all else body[-size:], len(body), streams)


@pytest.mark.parametrize(("event", "tokens"), [
    (chat(content="twelve bytes"), 3), (chat(content="a"), 1), (chat(content=" fourteen byte"), 3),
    (chat(content="一二三四"), 3),
    (chat(reasoning_content="twelve bytes"), 3), (chat(reasoning="twelve bytes"), 3), (chat(refusal="twelve bytes"), 3),
    (chat(reasoning="twelve bytes", reasoning_content="twelve bytes"), 3),
    (call(arguments='{"city":1}  '), 3), (chat(function_call={"arguments": '{"city":1}  '}), 3),
    (completion("twelve bytes"), 3),
    (response("output_text", "twelve bytes"), 3), (response("function_call_arguments", "twelve bytes"), 3),
    (claude(type="text_delta", text="twelve bytes"), 3), (claude(type="thinking_delta", thinking="twelve bytes"), 3),
    (claude(type="input_json_delta", partial_json="twelve bytes"), 3),
    (chat(role="assistant", content=""), 0), (chat(role="assistant", content=None), 0), (chat(), 0), (call(name="weather"), 0),
    (claude(type="signature_delta", signature="EqQBCgIYAhIM"), 0),
    ({"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 9, "output_tokens": 1}}}, 0),
    ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}, 0),
    ({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, 0),
    ({"type": "response.output_text.done", "text": "all of it once more"}, 0), ({"type": "ping"}, 0),
    ({"choices": [], "usage": None}, 0), ({"choices": None}, 0), ({"choices": 7}, 0),
    ({"error": {"message": "overloaded"}}, 0), ([], 0), ("text", 0), (None, 0),
])  # fmt: skip
def test_each_event_counts_four_bytes_per_token_and_at_least_one_token(event: object, tokens: int) -> None:
    for end in ("\n\n", "\r\n\r\n"):
        assert delivered(sse(event, end=end)) == tokens
        assert delivered(b": keep-alive\n\nevent: x\n" + sse(event, event, end=end) + b"data: [DONE]\n\n") == 2 * tokens


WORDS = "twelve bytes"


@pytest.mark.parametrize(("event", "tokens"), [
    # Mistral's lists of parts, OpenRouter's details beside the same text, custom tools, audio, Gemini's extras, unknown members
    (chat(content=[{"type": "text", "text": WORDS}]), 3), (chat(content=[WORDS]), 3),
    (chat(content=[{"type": "thinking", "thinking": [{"type": "text", "text": WORDS}]}]), 3),
    (chat(tool_calls=[{"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "f", "input": WORDS}}]), 3),
    (chat(reasoning_details=[{"type": "reasoning.text", "text": WORDS, "id": "r", "signature": "s" * 99}]), 3),
    (chat(reasoning=WORDS, reasoning_details=[{"type": "reasoning.text", "text": WORDS}]), 3),
    (chat(reasoning_details=[{"type": "reasoning.encrypted", "data": "A" * 2048}]), 4),
    (chat(audio={"id": "audio_1", "transcript": WORDS, "expires_at": 1}), 3), (chat(audio={"id": "a", "data": "A" * 2048}), 4),
    (chat(content=WORDS, extra_content={"google": {"thought_signature": "s" * 99}}), 3),
    (chat(some_new_member={"deeper": [WORDS]}), 3),
    # one odd member does not make the others count less
    (chat(content=WORDS, tool_calls=7), 3), (chat(content=WORDS, refusal=[None, 1.5]), 3), (chat(content=7, refusal=WORDS), 3),
    ({"choices": [{"delta": {"content": WORDS}}, "odd", None, 7]}, 3), ({"choices": {"delta": {"content": WORDS}}}, 3),
    (chat(content=WORDS, tool_calls=[{"function": {"arguments": {"name": "Anna", "id": 7}}}]), 8),
    # what a provider adds, and what it repeats
    (chat(content=WORDS) | {"p": "x" * 99, "citations": ["https://a.example"], "usage": {"x": "y" * 99}}, 3),
    ({"choices": [{"delta": {"content": WORDS}, "message": {"role": "assistant", "content": "all so far " + WORDS}}]}, 3),
    ({"choices": [{"delta": {"content": WORDS}, "logprobs": {"content": [{"token": WORDS, "bytes": [1]}]}}]}, 3),
    (response("output_text", WORDS) | {"obfuscation": "x" * 30, "logprobs": []}, 3),
    (response("custom_tool_call_input", WORDS), 3), (response("reasoning_summary_text", WORDS), 3),
    (response("audio", "A" * 2048), 4), (response("audio_transcript", "A" * 2048), 512),
    ({"type": "response.some_new_event", "words": WORDS}, 3),
    ({"type": "response.content_part.done", "part": {"type": "output_text", "text": WORDS}}, 0),
    ({"type": "response.completed", "response": {"output": [{"content": [{"text": WORDS}]}], "metadata": {"a": WORDS}}}, 0),
    (claude(type="compaction_delta", content=WORDS), 3),
    (claude(type="citations_delta", citation={"cited_text": "of the caller's document"}), 0),
    ({"type": "content_block_start", "content_block": {"type": "text", "text": WORDS}}, 3),
    ({"type": "content_block_start", "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}, 0),
    ({"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": "A" * 2048}}, 4),
    ({"type": "content_block_start", "content_block": {"type": "web_search_tool_result", "content": [{"page": WORDS}]}}, 0),
    ({"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "of the caller"}}, 0),
])  # fmt: skip
def test_every_text_of_an_event_counts_whatever_its_member(event: object, tokens: int) -> None:
    assert delivered(sse(event)) == tokens


@pytest.mark.parametrize("line", [
    b'{"choices":[{"delta":{"content":"twelve byte\\ud83d"}}]}', b'{"choices":[{"delta":{"content":"twelve byte\xff"}}]}',
    b'{"choices":[{"delta":{"content":"twelve bytes","x":1e999}}]}',
])  # fmt: skip
def test_a_broken_character_does_not_make_an_event_count_nothing(line: bytes) -> None:
    assert delivered(b"data: " + line + b"\n\n") == 3


def responses_stream(count: int, echoed: str) -> list[dict[str, object]]:
    """A stream of so many deltas, three of whose events repeat the caller's own instructions."""
    response_ = {"id": "resp_1", "instructions": echoed, "metadata": {"a": echoed}, "user": echoed, "tools": [{"name": echoed}]}
    events: list[dict[str, object]] = [
        {"type": f"response.{name}", "response": response_} for name in ("created", "in_progress")
    ]
    events += [response("output_text", " word") for _ in range(count)]
    events += [
        {"type": "response.output_text.done", "text": " word" * count},
        {"type": "response.completed", "response": response_},
    ]
    return [event | {"sequence_number": at} for at, event in enumerate(events)]


@pytest.mark.parametrize("echoed", ["", "x" * 900, "x" * 5000, "x" * 200_000])
@pytest.mark.parametrize("count", [5, 100, 3000])
def test_what_an_answer_repeats_of_its_request_counts_neither_for_nor_against_the_caller(echoed: str, count: int) -> None:
    body = sse(*responses_stream(count, echoed)[:-2])
    assert count <= delivered(body) <= count + 3
    assert delivered(body[: body.rindex(b"data:") + 30]) in range(count - 1, count + 3)


def test_an_answer_that_is_sent_in_whole_items_counts_them() -> None:
    item = {
        "type": "response.output_item.done",
        "item": {"type": "message", "content": [{"type": "output_text", "text": WORDS}]},
    }
    assert delivered(sse({"type": "response.created", "response": {}}, item)) == 3
    assert delivered(sse(response("output_text", WORDS), item)) == 3


@pytest.mark.parametrize("body", [
    b"", b"\n", b": keep-alive\n\n", b"data:", b"data: {\n\n", b'data: {"choices":[{"delta":{"content":"cut o',
    b"data: {broken}\n\n",
    b"data: " + b'{"x":' * 9000 + b"\n\n", b"\x1f\x8b\x08\xff\xfe" * 99,
])  # fmt: skip
def test_an_answer_without_a_complete_event_has_no_tokens(body: bytes) -> None:
    assert delivered(body) == 0


@given(st.lists(st.integers(1, 30), min_size=40, max_size=400), st.integers(2048, 6000), st.integers(0, 200))
def test_a_long_stream_is_extrapolated_from_its_ends(words: list[int], size: int, cut: int) -> None:
    words = words * 10
    body = sse(chat(role="assistant", content=""), *(chat(content="x" * word) for word in words))
    fact = sum(max(word // 4, 1) for word in words)
    assert 0.5 * fact < delivered(body[: len(body) - cut], size) < 1.8 * fact


@pytest.mark.parametrize("count", [1, 10, 30, 50, 70, 200, 5000])
def test_a_stream_of_equal_events_is_estimated_exactly(count: int) -> None:
    body = sse(*[claude(type="text_delta", text=" word")] * count)
    assert abs(delivered(body) - count) <= 1


@given(st.integers(0, 300), st.integers(2048, 6000))
def test_the_estimate_does_not_depend_on_how_much_is_kept(count: int, kept: int) -> None:
    body = sse(*(chat(content=" word") for _ in range(count)))
    assert abs(delivered(body, kept) - count) <= 1 + count / 50


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 10**6), st.booleans())
def test_the_estimate_is_never_negative(opening: bytes, tail: bytes, more: int, streams: bool) -> None:
    assert estimated_completion_tokens(opening, tail, more, streams) >= 0


def test_a_first_event_larger_than_the_sample_counts_as_no_text() -> None:
    created = {"type": "response.created", "response": {"instructions": "x" * 30_000, "output": []}}
    assert delivered(sse(created)) == 0


SAID = Answer(
    model="small", pieces=tuple(f" word{at}" for at in range(300)), tool=None, is_cut=False, prompt_tokens=9, stream=True,
    include_usage=False,
)  # fmt: skip


@pytest.mark.parametrize("events", [
    lambda: openai_answers.chat_events(SAID, "1", 1), lambda: openai_answers.text_completion_events(SAID, "1", 1),
    lambda: anthropic_answers.message_events(SAID, "1"),
])  # fmt: skip
def test_streams_of_every_endpoint_are_estimated(events: Callable[[], list[bytes]]) -> None:
    fact = sum(max(len(piece) // 4, 1) for piece in SAID.pieces)
    assert 0.8 * fact < delivered(b"".join(events())) < 1.2 * fact


def test_truncated_responses_streams_are_estimated() -> None:
    events = list(openai_answers.response_events(SAID, "1", 1))[:-4]  # before the events that repeat all that was said
    fact = sum(max(len(piece) // 4, 1) for piece in SAID.pieces)
    assert 0.8 * fact < delivered(b"".join(events)) < 1.2 * fact


WHOLE = {
    "chat": {"choices": [{"message": {"role": "assistant", "content": "TEXT", "refusal": None}}]},
    "tool": {"choices": [{"message": {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "TEXT"}}]}}]},
    "completion": {"choices": [{"text": "TEXT", "index": 0}]},
    "response": {"object": "response", "output": [{"type": "message", "content": [{"type": "output_text", "text": "TEXT"}]}]},
    "message": {"type": "message", "content": [{"type": "text", "text": "TEXT"}], "stop_reason": "end_turn"},
    "custom tool": {"choices": [{"message": {"content": None, "tool_calls": [{"custom": {"name": "f", "input": "TEXT"}}]}}]},
    "parts": {"choices": [{"message": {"content": [{"type": "text", "text": "TEXT"}], "tool_calls": None}}]},
    "reasoning": {"choices": [{"message": {"content": "", "reasoning_details": [{"text": "TEXT", "id": "r"}]}}]},
    "transcript": {"choices": [{"message": {"content": None, "audio": {"id": "a", "transcript": "TEXT"}}}]},
    "unknown": {"choices": [{"message": {"some_new_member": "TEXT"}}]},
    "echo": {"object": "response", "instructions": "x" * 300, "output": [{"content": [{"text": "TEXT"}]}]},
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("text", ["word " * 4, "word " * 4000, 'a "quoted" \\ text ' * 9, "很长的故事" * 9])
def test_a_whole_answer_counts_four_bytes_of_its_text(name: str, indent: int | None, text: str) -> None:
    body = json.dumps(WHOLE[name], indent=indent).replace("TEXT", json.dumps(text)[1:-1]).encode()
    fact = len(text.encode()) / 4
    assert fact <= delivered(body, streams=False) <= fact * 1.1 + 2


@pytest.mark.parametrize("document", [
    {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.25] * 1536}], "model": "small"},
    {"object": "response", "instructions": "x" * 300, "metadata": {"a": "x" * 99}, "output": [], "tools": [{"name": "f"}]},
    {"input_tokens": 2095}, {}, [], {"choices": []}, {"content": None}, {"text": {"format": {"type": "text"}}},
])  # fmt: skip
def test_an_answer_without_text_has_no_tokens(document: object) -> None:
    assert delivered(json.dumps(document).encode(), streams=False) == 0


@pytest.mark.parametrize("cut", [b"", b" and", b" \\u12", b" \\ud83d", b" \\", b"\\u00e9"])
def test_a_truncated_whole_answer_counts_what_was_sent(cut: bytes) -> None:
    body = b'{"choices":[{"message":{"content":"' + b"word " * 40 + cut
    assert 50 <= delivered(body, streams=False) <= 53


def test_a_text_that_a_short_answer_has_twice_counts_once() -> None:
    message = {"content": "", "reasoning": "word " * 40, "reasoning_details": [{"text": "word " * 40}]}
    assert delivered(json.dumps({"choices": [{"message": message}]}).encode(), streams=False) == 50


def test_arguments_that_are_no_text_count_as_they_are_written() -> None:
    body = {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"name": "Anna", "list": [1, 2, 3], "id": "x"}}]}
    written = len(json.dumps(body["content"][0]["input"], separators=(",", ":")))
    assert written / 4 - 3 <= delivered(json.dumps(body).encode(), streams=False) <= written / 4 + 3


@given(st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["choices", "delta", "content", "arguments", "input", "data", "type", "message", "response"]), inner
    ),
    max_leaves=20,
))  # fmt: skip
def test_no_odd_shape_of_an_answer_breaks_the_estimate(value: object) -> None:
    """Where the estimate failed, the answer would be free."""
    body = json.dumps({"choices": value, "delta": value}).encode()
    for cut in (len(body), len(body) // 2):
        for streams in (True, False):
            assert delivered(b"data: " * streams + body[:cut] + b"\n\n", streams=streams) >= 0
