"""Usage is found in the ends of an answer in every form that providers use, and never inside a text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.core.http.sample import Sample
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.dialect.usage import counts_from_end


def whole(document: object) -> bytes:
    return json.dumps(document, indent=2).encode()


def stream(*documents: object, done: bool = True) -> bytes:
    events = [f"data: {json.dumps(document, separators=(',', ':'))}\n\n" for document in documents]
    return ("".join(events) + "data: [DONE]\n\n" * done).encode()


def named(*documents: Mapping[str, object]) -> bytes:
    return "".join(f"event: {document['type']}\ndata: {json.dumps(document)}\n\n" for document in documents).encode()


def reported(prompt: int | None, completion: int | None, cached: int | None) -> Usage:
    return Usage(prompt, completion, cached, "reported")


DELTA = {"choices": [{"index": 0, "delta": {"content": "hi"}}], "usage": None}
CHAT = {
    "prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3, "accepted_prediction_tokens": 0},
}  # fmt: skip
RESPONSE = {
    "input_tokens": 36, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 123,
}  # fmt: skip
DEEPSEEK = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 1}
MESSAGE = {
    "input_tokens": 10, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 1000, "output_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 100}, "service_tier": "standard",
}  # fmt: skip
BEGIN = {"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": MESSAGE | {"output_tokens": 1}}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
STOP = {"type": "message_stop"}


def end(**usage: int) -> dict[str, object]:
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


ANSWERS: list[tuple[Dialect, bytes, Usage]] = [
    (OPENAI, whole({"id": "1", "choices": [], "usage": CHAT, "service_tier": "x"}), reported(20, 5, 16)),
    (OPENAI, stream(DELTA, DELTA, {"choices": [], "usage": CHAT}), reported(20, 5, 16)),
    (OPENAI, whole({"object": "text_completion", "usage": {"prompt_tokens": 5, "completion_tokens": 7}}), reported(5, 7, None)),
    (OPENAI, whole({"object": "list", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}), reported(8, None, None)),
    (OPENAI, whole({"object": "response", "output": [], "usage": RESPONSE, "metadata": {}}), reported(36, 87, 4)),
    (OPENAI, named({"type": "response.completed", "response": {"output": [], "usage": RESPONSE}}), reported(36, 87, 4)),
    (OPENAI, stream(DELTA, {"choices": [], "x_groq": {"id": "r", "usage": {**CHAT, "queue_time": 0.1}}}), reported(20, 5, 16)),
    (OPENAI, whole({"choices": [], "usage": DEEPSEEK}), reported(9, 2, 8)),
    (OPENAI, stream(DELTA, {"choices": [], "usage": None}), NO_USAGE),
    (OPENAI, stream(DELTA, {**DELTA, "usage": {"completion_tokens": 1}}), reported(None, 1, None)),
    (ANTHROPIC, whole({"type": "message", "content": [], "usage": MESSAGE}), reported(1110, 7, 1000)),
    (ANTHROPIC, named(BEGIN, TEXT, end(output_tokens=42), STOP), reported(1110, 42, 1000)),
    (ANTHROPIC, named(BEGIN, TEXT, end(input_tokens=3, output_tokens=42), STOP), reported(3, 42, None)),
    (ANTHROPIC, named(BEGIN, TEXT), reported(1110, 1, 1000)),
    (ANTHROPIC, named(TEXT, end(output_tokens=42), STOP), reported(None, 42, None)),
    (ANTHROPIC, named(TEXT, STOP), NO_USAGE),
    (ANTHROPIC, b"", NO_USAGE),
    (OPENAI, b"", NO_USAGE),
]


@pytest.mark.parametrize(("dialect", "body", "expected"), ANSWERS)
def test_usage_is_read_in_every_form_that_providers_use(dialect: Dialect, body: bytes, expected: Usage) -> None:
    assert dialect.read_usage(body, body) == expected


@settings(deadline=None)
@given(st.sampled_from(ANSWERS), st.integers(0, 40_000), st.lists(st.integers(0, 45_000), max_size=8))
def test_usage_does_not_depend_on_length_or_split_of_the_body(
    answer: tuple[Dialect, bytes, Usage], length: int, cuts: list[int]
) -> None:
    dialect, body, expected = answer
    middle = body.find(b"\n\n") + 2 if b"\n\n" in body else 1
    body = body[:middle] + b" " * length + body[middle:]
    sample = Sample()
    connections = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, stop in itertools.pairwise(connections):
        sample.add(body[start:stop])
    assert dialect.read_usage(sample.opening, sample.tail) == expected


@settings(deadline=None)
@given(st.integers(0, 4), st.sampled_from(["usage", "\\usage", "usage\\", 'x"usage']), st.booleans())
def test_usage_inside_a_text_is_never_read(depth: int, name: str, ascii_only: bool) -> None:
    text = json.dumps({name: {"prompt_tokens": 666, "input_tokens": 666, "output_tokens": 666}})
    for _ in range(depth):
        text = json.dumps(text)
    body = json.dumps({"content": text, "logprobs": ["usage"], "usage ": 1, "last": "usage"}, ensure_ascii=ascii_only).encode()
    for start in range(len(body)):
        assert [*counts_from_end(body[start:])] == []


@pytest.mark.parametrize("text", [
    b'"usage":{"note":"a } in a string","prompt_tokens":1}', b'"usage":{"note":"{","prompt_tokens":1}',
    b'"usage":{"note":"}{","prompt_tokens":1}', b'"usage": {"x": {"y": {"z": 1}}, "prompt_tokens": 1}',
    b'"usage":{' + b'"x":{},' * 99 + b'"prompt_tokens":1}', b'"usage"\n:\n{"prompt_tokens":1}',
])  # fmt: skip
def test_other_members_of_a_usage_object_are_ignored(text: bytes) -> None:
    assert [counts.prompt_tokens for counts in counts_from_end(b"{" + text + b"}")] == [1]


@pytest.mark.parametrize("text", [
    b'"usage"', b'"usage":', b'"usage" : {', b'"usage":{"prompt_tokens":1', b'"usage":{"prompt_tokens":1,"x":{}',
    b'"usage":null', b'"usage":{}', b'"usage":[{"prompt_tokens":1}]', b'"usage":{"prompt_tokens":"1"}',
    b'"usage",{"prompt_tokens":1}',
    b'"usage":{"total_tokens":1}', b'"usage":{"prompt_tokens":1 "}',
    b'"usage":{"x":{' + b'"x":{},' * 9 + b'},"prompt_tokens":1}',
    b'"usage":         {"prompt_tokens":1}', b'"usage":{"x":' + b"[" * 2000 + b"]" * 2000 + b',"prompt_tokens":1}',
])  # fmt: skip
def test_truncated_or_malformed_usage_is_ignored(text: bytes) -> None:
    assert [*counts_from_end(b"{" + text)] == []


def test_usage_in_one_end_of_an_answer_is_enough() -> None:
    last = end(input_tokens=3, output_tokens=42)
    assert ANTHROPIC.read_usage(named(BEGIN), named(TEXT)) == reported(1110, 1, 1000)
    assert ANTHROPIC.read_usage(named(TEXT), named(last)) == reported(3, 42, None)
    assert OPENAI.read_usage(stream({"usage": CHAT}), stream(DELTA)) == reported(20, 5, 16)


def test_any_truncated_answer_is_searched_without_an_error() -> None:
    for dialect, body, _ in ANSWERS:
        for stop in range(len(body)):
            dialect.read_usage(body[:stop], body[:stop])


def test_usage_objects_come_last_first_and_their_number_is_bounded() -> None:
    many = b"".join(b'{"usage":{"prompt_tokens":%d}}' % at for at in range(20))
    assert [counts.prompt_tokens for counts in counts_from_end(many)] == [19, 18, 17, 16, 15, 14, 13, 12]


def test_usage_in_a_tools_input_does_not_hide_the_answers_usage() -> None:
    content = [{"type": "tool_use", "input": {"usage": {"input_tokens": 666, "output_tokens": 666}}}]
    body = whole({"type": "message", "content": content, "usage": MESSAGE})
    assert ANTHROPIC.read_usage(body, body) == reported(1110, 7, 1000)
