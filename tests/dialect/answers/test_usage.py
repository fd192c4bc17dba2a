"""Usage is found in every form that providers use, wherever it stands, and never in what a caller can influence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.answers.usage import token_count
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import OPENAI
from tests.dialect.answers.reading import usage_in


def whole(document: object) -> bytes:
    return json.dumps(document, indent=2).encode()


def stream(*documents: object, done: bool = True) -> bytes:
    events = [f"data: {json.dumps(document, separators=(',', ':'))}\n\n" for document in documents]
    return ("".join(events) + "data: [DONE]\n\n" * done).encode()


def named(*documents: Mapping[str, object]) -> bytes:
    return "".join(f"event: {document['type']}\ndata: {json.dumps(document)}\n\n" for document in documents).encode()


CHAT_AT = "chat/completions"


def reported(prompt: int | None, completion: int | None, cached: int | None, **more: Any) -> Usage:
    return Usage(prompt, completion, cached, "reported", **more)


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
WRITTEN = {"cache_write_5m": 100, "service_tier": "standard"}
BEGIN = {"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": MESSAGE | {"output_tokens": 1}}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
STOP = {"type": "message_stop"}


def end(**usage: int) -> dict[str, object]:
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


CHUNK = {"choices": [{"index": 0, "delta": {"content": "hi"}}]}
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
ANSWERS: dict[str, tuple[Dialect, str, bytes, Usage]] = {
    "chat": (
        OPENAI, CHAT_AT, whole({"id": "1", "choices": [{}], "usage": CHAT, "service_tier": "flex"}),
        reported(20, 5, 16, service_tier="flex"),
    ),
    "chat stream": (OPENAI, CHAT_AT, stream(DELTA, DELTA, END, {"choices": [], "usage": CHAT}), reported(20, 5, 16)),
    "completions": (
        OPENAI, "completions", whole({"choices": [{"text": "a"}], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}),
        reported(5, 7, None),
    ),
    "embeddings": (
        OPENAI, "embeddings", whole({"data": [{}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}), reported(8, None, None),
    ),
    "responses": (
        OPENAI, "responses", whole({"object": "response", "output": [], "usage": RESPONSE, "metadata": {}}),
        reported(36, 87, 4),
    ),
    "responses stream": (
        OPENAI, "responses", named({"type": "response.completed", "response": {"output": [], "usage": RESPONSE}}),
        reported(36, 87, 4),
    ),
    "groq": (OPENAI, CHAT_AT, stream(DELTA, END | {"x_groq": {"usage": {**CHAT, "queue_time": 0.1}}}), reported(20, 5, 16)),
    "deepseek": (OPENAI, CHAT_AT, whole({"choices": [{}], "usage": DEEPSEEK}), reported(9, 2, 8)),
    "moonshot, in the choice": (
        OPENAI, CHAT_AT, stream(DELTA, {"choices": [{"delta": {}, "finish_reason": "stop", "usage": {**CHAT}}]}),
        reported(20, 5, 16),
    ),
    "moonshot, cached at the top": (
        OPENAI, CHAT_AT, whole({"choices": [{}], "usage": {"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 7}}),
        reported(9, 1, 7),
    ),
    "none": (OPENAI, CHAT_AT, stream(DELTA, END | {"usage": None}), NO_USAGE),
    "reasoning outside of the completion": (
        OPENAI, CHAT_AT,
        whole({"choices": [{}], "usage": {
            "prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428,
            "completion_tokens_details": {"reasoning_tokens": 2809},
        }}),
        reported(10120, 4308, None),
    ),
    "reasoning outside, no total": (
        OPENAI, CHAT_AT,
        whole({"choices": [{}], "usage": {
            "prompt_tokens": 10, "completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 30},
        }}),
        reported(10, 50, None),
    ),
    "in each chunk, and citations after the last": (
        OPENAI, CHAT_AT,
        stream(
            CHUNK | {"usage": {"prompt_tokens": 10, "completion_tokens": 1}},
            *([CHUNK | {"usage": {"prompt_tokens": 10, "completion_tokens": 9}}] * 40),
            END | {"usage": {"prompt_tokens": 10, "completion_tokens": 336}, "citations": ["https://a.example/" + "x" * 9000]},
        ),
        reported(10, 336, None),
    ),
    "behind a large member": (
        OPENAI, CHAT_AT,
        whole({"choices": [{"message": {"content": "x" * 99}}], "usage": CHAT, "prompt_token_ids": [*range(200_000)]}),
        reported(20, 5, 16),
    ),
    "before a large member": (
        OPENAI, CHAT_AT, whole({"usage": CHAT, "choices": [{"message": {"content": "x" * 900_000}}]}), reported(20, 5, 16),
    ),
    "behind more than is kept": (
        OPENAI, CHAT_AT, whole({"choices": [{"message": {"content": "x" * 3_000_000}}], "usage": CHAT}), reported(20, 5, 16),
    ),
    "in a last event of many megabytes": (
        OPENAI, "responses",
        named({"type": "response.completed", "response": {"output": ["x" * 3_000_000], "usage": RESPONSE, "metadata": {}}}),
        reported(36, 87, 4),
    ),
    "a message": (
        ANTHROPIC, "messages", whole({"type": "message", "content": [], "usage": MESSAGE}),
        reported(1110, 7, 1000, **WRITTEN),
    ),
    "a message stream": (
        ANTHROPIC, "messages", named(BEGIN, TEXT, end(output_tokens=42), STOP),
        reported(1110, 42, 1000, **WRITTEN),
    ),
    "a message stream that counts the prompt at its end": (
        ANTHROPIC, "messages",
        named(BEGIN, TEXT, end(input_tokens=3, cache_read_input_tokens=5, cache_creation_input_tokens=2, output_tokens=42)),
        reported(10, 42, 5, cache_write_5m=2, service_tier="standard"),
    ),
    "a message stream without its end's count": (
        ANTHROPIC, "messages", named(BEGIN, TEXT, STOP),
        reported(1110, None, 1000, **WRITTEN),
    ),
    "a message stream without its beginning": (
        ANTHROPIC, "messages", named(TEXT, end(output_tokens=42), STOP), reported(None, 42, None),
    ),
    "a message stream without usage": (ANTHROPIC, "messages", named(TEXT, STOP), NO_USAGE),
    "searches": (
        OPENAI, "responses",
        named({"type": "response.completed", "response": {
            "output": [{"type": "web_search_call"}, {"type": "message"}, {"type": "web_search_call"}], "usage": RESPONSE,
        }}),
        reported(36, 87, 4, searches=2),
    ),
    "searches of Anthropic's, and a cache for an hour": (
        ANTHROPIC, "messages",
        whole({"type": "message", "content": [], "usage": {
            "input_tokens": 1, "output_tokens": 2, "server_tool_use": {"web_search_requests": 3},
            "cache_creation_input_tokens": 30, "cache_creation": {"ephemeral_1h_input_tokens": 20},
        }}),
        reported(31, 2, None, cache_write_5m=10, cache_write_1h=20, searches=3),
    ),
    "searches in a large answer, and a tier beside the usage": (
        OPENAI, "responses",
        json.dumps({
            "output": [{"type": "web_search_call"}] * 9 + [{"type": "message", "content": "x" * 99_000}],
            "service_tier": "flex", "usage": RESPONSE, "user": "u",
        }).encode(),
        reported(36, 87, 4, searches=9, service_tier="flex"),
    ),
    "a tier beside the usage of a large answer": (
        OPENAI, CHAT_AT, json.dumps({"choices": [{"message": "x" * 99_000}], "usage": CHAT, "service_tier": "flex"}).encode(),
        reported(20, 5, 16, service_tier="flex"),
    ),
    "a cache written at a gateway": (
        OPENAI, CHAT_AT,
        whole({"choices": [{}], "usage": {
            "prompt_tokens": 50, "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 30},
        }}),
        reported(50, 2, 5, cache_write=30),
    ),
    "iterations": (
        ANTHROPIC, "messages",
        whole({"type": "message", "content": [], "usage": {
            "input_tokens": 3000, "output_tokens": 90,
            "iterations": [{"type": "message", "input_tokens": 1000, "output_tokens": at} for at in (30, 30, 30)],
        }}),
        reported(3000, 90, None),
    ),
    "compaction": (
        ANTHROPIC, "messages",
        named(BEGIN, TEXT, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {
            "input_tokens": 23_000, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 1000,
            "iterations": [
                {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
                {"type": "advisor_message", "model": "other", "input_tokens": 999, "output_tokens": 999},
                {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
            ],
        }}, STOP),
        reported(204_100, 4500, 1000, **WRITTEN),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_usage_is_read_in_every_form_that_providers_use(name: str) -> None:
    dialect, endpoint, body, expected = ANSWERS[name]
    assert usage_in(dialect, body, streams=body.startswith((b"data:", b"event:")), endpoint=endpoint) == expected


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(0, 45_000), max_size=8))
def test_usage_does_not_depend_on_how_the_body_is_cut(name: str, cuts: list[int]) -> None:
    dialect, endpoint, body, expected = ANSWERS[name]
    assert usage_in(dialect, body, streams=body.startswith((b"data:", b"event:")), cuts=cuts, endpoint=endpoint) == expected


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(ANSWERS)), st.integers(0, 40_000), st.lists(st.integers(0, 45_000), max_size=8))
def test_usage_does_not_depend_on_what_stands_between_two_events(name: str, length: int, cuts: list[int]) -> None:
    dialect, endpoint, body, expected = ANSWERS[name]
    if b"\n\n" not in body:
        return
    middle = body.find(b"\n\n") + 2
    body = body[:middle] + b": " + b" " * length + b"\n\n" + body[middle:]
    assert usage_in(dialect, body, streams=True, cuts=cuts, endpoint=endpoint) == expected


PLANTED = {"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 0, "output_tokens": 1}


@pytest.mark.parametrize("planted", [
    {"metadata": {f"key{at}": "usage" for at in range(8)}},
    {"metadata": {f"key{at}": "x" * 512 for at in range(16)}},
    {"metadata": {"usage": PLANTED}}, {"metadata": {"usage": json.dumps({"usage": PLANTED})}},
    {"user": "x" * 9000}, {"user": '"usage":{"input_tokens":0,"output_tokens":1}'},
    {"tools": [{"type": "function", "parameters": {"properties": {"usage": PLANTED}, "usage": PLANTED}}]},
    {"text": {"format": {"type": "json_schema", "schema": {"usage": PLANTED}}}},
    {"instructions": '\\"usage\\":{"input_tokens":0}' * 500}, {"metadata": {"usage": "usage", '"usage"': '\\"usage\\"'}},
])  # fmt: skip
@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("size", [0, 100_000, 2_000_000])
def test_nothing_that_a_caller_sends_and_the_answer_echoes_moves_the_usage(
    planted: dict[str, object], is_before: bool, size: int
) -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "x" * size}]}]
    response: dict[str, object] = {"object": "response", "status": "completed", "error": None, "output": output}
    response = {**response, **planted, "usage": RESPONSE} if is_before else {**response, "usage": RESPONSE, **planted}
    assert usage_in(OPENAI, json.dumps(response).encode(), streams=False, endpoint="responses") == reported(36, 87, 4)
    event = named({"type": "response.completed", "sequence_number": 9, "response": response})
    assert usage_in(OPENAI, event, streams=True, endpoint="responses") == reported(36, 87, 4)
    assert usage_in(OPENAI, event, streams=True, endpoint="responses", cuts=range(0, len(event), 1000)) == reported(36, 87, 4)


@pytest.mark.parametrize(("written", "expected"), [
    (14417.92, 14418), (11.0, 11), ("11", 11), ("12.5", 13), (0, 0), (-1, None), (None, None), ([], None), ({}, None),
    (True, None), ("x", None), ("", None), ("9" * 40, None), (2**40, None), ("nan", None), ("inf", None), (1e300, None),
    ("1_0", None), ("\u0661", None), (" 11", None), ("+11", None), ("1e2", 100), ("11.", 11), ("-1", None),
])  # fmt: skip
def test_an_odd_number_is_read_or_ignored_and_never_discards_the_others(written: object, expected: int | None) -> None:
    assert token_count(written) == expected
    usage = {"prompt_tokens": written, "completion_tokens": 7, "prompt_tokens_details": [], "completion_tokens_details": "x"}
    assert OPENAI.usage_of(usage) == reported(expected, 7, None)
    usage = {"prompt_tokens": 7, "completion_tokens": written, "prompt_tokens_details": {"cached_tokens": written}}
    assert OPENAI.usage_of(usage) == reported(7, expected, expected)
    usage = {"input_tokens": 9, "output_tokens": written, "cache_read_input_tokens": None, "cache_creation": []}
    assert ANTHROPIC.usage_of(usage) == reported(9, expected, None)


def test_a_count_that_more_text_followed_is_completed_by_an_estimate() -> None:
    early = CHUNK | {"usage": {"prompt_tokens": 10, "completion_tokens": 1}}
    text = {"choices": [{"index": 0, "delta": {"content": "word " * 40}}]}
    usage = usage_in(OPENAI, stream(early, *[text] * 50, END), streams=True)
    assert usage.prompt == 10
    assert usage.completion is not None
    assert usage.completion > 1000
    assert usage.source == "estimated"


def test_a_completed_count_keeps_all_else_that_was_reported() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 5}, "service_tier": "flex"}
    early = CHUNK | {"usage": {"prompt_tokens": 10, "completion_tokens": 1, "num_search_queries": 3} | details}
    usage = usage_in(OPENAI, stream(early, *[DELTA] * 50, END), streams=True)
    assert usage == Usage(10, usage.completion, 2, "estimated", cache_write=5, searches=3, service_tier="flex")


def test_an_estimate_never_replaces_a_larger_count() -> None:
    early = CHUNK | {"usage": {"prompt_tokens": 10, "completion_tokens": 5000}}
    assert usage_in(OPENAI, stream(early, CHUNK, CHUNK, END), streams=True) == reported(10, 5000, None)


def test_usage_in_a_tools_input_does_not_hide_the_answers_usage() -> None:
    content = [{"type": "tool_use", "input": {"usage": {"input_tokens": 666, "output_tokens": 666}}}]
    for size in (0, 99_000, 2_000_000):
        text = {"type": "text", "text": "x" * size}
        body = whole({"type": "message", "content": [text, *content], "usage": MESSAGE, "container": content})
        assert usage_in(ANTHROPIC, body, streams=False) == reported(1110, 7, 1000, **WRITTEN)


@pytest.mark.parametrize("size", [900_000, 1_100_000, 3_000_000])
@pytest.mark.parametrize("piece", [1400, 65_536, 2**30])
def test_usage_that_stands_before_a_large_member_is_found(size: int, piece: int) -> None:
    answer = {"object": "list", "metadata": {"usage": PLANTED}, "usage": CHAT, "text": '"usage":{' + "x" * size}
    body = json.dumps(answer | {"choices": [{"message": {"content": "hi"}}]}).encode()
    assert usage_in(OPENAI, body, streams=False, cuts=range(0, len(body), piece)) == reported(20, 5, 16)
    body = stream(DELTA, answer | {"choices": [{"delta": {}, "finish_reason": "stop"}]})
    assert usage_in(OPENAI, body, streams=True, cuts=range(0, len(body), piece)) == reported(20, 5, 16)
