"""A translated caller sees what its source used, however the source writes it: whole, streamed, or one made into the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kyma_proxy.dialect.sse import SseParser, encode_event
from kyma_proxy.dialect.translation import Translation
from tests.dialect.aggregating import aggregated
from tests.dialect.anthropic_to_openai import material as anthropic_callers
from tests.dialect.openai_to_anthropic import material as openai_callers

Json = dict[str, Any]
NO_TOKENS = {"input_tokens": 0, "output_tokens": 0}
ODD: list[tuple[object, int]] = [
    (14417.92, 14418), (11.0, 11), ("11", 11), ("12.5", 13), (0, 0), (-1, 0), (None, 0), ([], 0), ({}, 0), (True, 0),
    ("x", 0), (2**40, 0), (2**64, 0),
]  # fmt: skip
"""What a source may write as a number of tokens, and what that says."""


def documents_in(stream: bytes) -> list[Json]:
    parser = SseParser()
    return [json.loads(event.data) for event in (*parser.feed(stream), *parser.flush()) if event.data != b"[DONE]"]


def translated(made: Translation, source: bytes) -> list[Json]:
    stream = made.stream()
    out = stream.feed(source) + stream.flush()
    assert stream.is_finished
    return documents_in(out)


def from_whole(made: Translation, body: bytes, streamed: Callable[[Translation, bytes], object]) -> object:
    """The usage in a translated whole answer, which is the same if that is made into a stream."""
    usage = reported(json.loads(made.answer(200, body).body).get("usage"))
    assert streamed(made, made.as_stream(body)) == usage
    return usage


def from_stream(made: Translation, source: bytes, streamed: Callable[[Translation, bytes], object]) -> object:
    """The usage in a translated stream, which is the same if that is made into a whole answer."""
    usage = streamed(made, source)
    assert reported(json.loads(aggregated(made, source).body).get("usage")) == usage
    return usage


# ---- callers who speak Anthropic


def end_of_message(made: Translation, source: bytes) -> object:
    return reported(next(event["usage"] for event in translated(made, source) if event["type"] == "message_delta"))


def reported(usage: Json | None) -> Json | None:
    """A usage object without what no source has reported."""
    if usage is None:
        return None
    caches = ("cache_creation_input_tokens", "cache_read_input_tokens")
    return {name: value for name, value in usage.items() if value is not None and (value or name not in caches)}


def openai_answer(**members: Any) -> bytes:
    choice = {"message": {"content": "a"}, "finish_reason": "stop"} | members.pop("choice", {})
    return json.dumps({"id": "1", "choices": [choice], **members}).encode()


def openai_stream(*chunks: Json) -> bytes:
    text = {"id": "1", "choices": [{"index": 0, "delta": {"content": "a"}}]}
    end = {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    events = [text, *[chunk if "choices" in chunk else text | chunk for chunk in chunks[:-1]], end, *chunks[-1:]]
    return b"".join([encode_event(b"", json.dumps(event).encode()) for event in events]) + b"data: [DONE]\n\n"


def shown_to_anthropic(usage: object) -> object:
    made = anthropic_callers.translation()
    found = from_whole(made, openai_answer(usage=usage), end_of_message)
    assert from_stream(made, openai_stream({"choices": [], "usage": usage}), end_of_message) == found
    return found


def tokens(prompt: int, completion: int, **more: Any) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


@pytest.mark.parametrize(("usage", "expected"), [
    (tokens(100, 5), {"input_tokens": 100, "output_tokens": 5}),
    (tokens(100, 5, prompt_tokens_details={"cached_tokens": 60}), {"input_tokens": 40, "cache_read_input_tokens": 60}),
    (tokens(100, 5, prompt_tokens_details={"cached_tokens": 0}), {"input_tokens": 100, "cache_read_input_tokens": 0}),
    (tokens(100, 5, prompt_tokens_details={"cached_tokens": 999}), {"input_tokens": 0, "cache_read_input_tokens": 100}),
    (tokens(100, 5, cached_tokens=60), {"input_tokens": 40, "cache_read_input_tokens": 60}),
    (tokens(100, 5, prompt_cache_hit_tokens=60), {"input_tokens": 40, "cache_read_input_tokens": 60}),
    (tokens(100, 5, cache_read_input_tokens=60), {"input_tokens": 40, "cache_read_input_tokens": 60}),
    (tokens(100, 5, prompt_tokens_details=[], cached_tokens=60), {"input_tokens": 40, "cache_read_input_tokens": 60}),
    (
        tokens(100, 5, prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 30}),
        {"input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 60},
    ),
    (
        tokens(100, 5, completion_tokens_details={"reasoning_tokens": 3}),
        {"input_tokens": 100, "output_tokens_details": {"thinking_tokens": 3}},
    ),
    (
        tokens(10120, 1499, total_tokens=14428, completion_tokens_details={"reasoning_tokens": 2809}),
        {"input_tokens": 10120, "output_tokens": 4308, "output_tokens_details": {"thinking_tokens": 2809}},
    ),
    ({"input_tokens": 100, "output_tokens": 5}, {"input_tokens": 100}),
    ({"prompt_tokens": 100, "total_tokens": 105}, {"input_tokens": 100}),
    ({"completion_tokens": 5}, {"input_tokens": 0}),
    ({}, NO_TOKENS), ([], NO_TOKENS), ("many", NO_TOKENS), (None, NO_TOKENS), ({"cost": 0.1}, NO_TOKENS),
])  # fmt: skip
def test_a_caller_of_anthropic_sees_what_an_openai_source_used(usage: object, expected: Json) -> None:
    assert shown_to_anthropic(usage) == reported({"output_tokens": 5, **expected})


@pytest.mark.parametrize(("odd", "known"), ODD)
def test_an_odd_number_of_an_openai_source_discards_no_other(odd: object, known: int) -> None:
    assert shown_to_anthropic(tokens(7, 5) | {"prompt_tokens": odd}) == {"input_tokens": known, "output_tokens": 5}
    assert shown_to_anthropic(tokens(7, 5) | {"completion_tokens": odd}) == {"input_tokens": 7, "output_tokens": known}
    usage = tokens(50_000, 50_000, cached_tokens=odd, completion_tokens_details={"reasoning_tokens": odd})
    shown = shown_to_anthropic(usage)
    assert isinstance(shown, dict)
    assert (shown["input_tokens"], shown["output_tokens"]) == (50_000 - known, 50_000)
    assert shown.get("cache_read_input_tokens", 0) == shown.get("output_tokens_details", {}).get("thinking_tokens", 0) == known


def test_usage_of_an_openai_source_is_found_wherever_it_stands() -> None:
    made = anthropic_callers.translation()
    usage, expected = tokens(9, 4), {"input_tokens": 9, "output_tokens": 4}
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    for answer in (openai_answer(x_groq={"id": "r", "usage": usage}), openai_answer(choice={"usage": usage}, usage=None)):
        assert from_whole(made, answer, end_of_message) == expected
    for last in ({"choices": [end], "x_groq": {"usage": usage}}, {"choices": [end | {"usage": usage}], "usage": None}):
        assert from_stream(made, openai_stream({"x_groq": {"id": "r"}}, last), end_of_message) == expected
    odd: object
    for odd in ([], "x", 1, None, {"usage": []}, {"usage": None}):
        assert from_whole(made, openai_answer(x_groq=odd, choice={"usage": odd}), end_of_message) == NO_TOKENS
        assert from_stream(made, openai_stream({"choices": [end | {"usage": odd}], "x_groq": odd}), end_of_message) == NO_TOKENS


def test_a_later_report_of_an_openai_source_replaces_counts_but_never_by_nothing() -> None:
    made = anthropic_callers.translation()
    early, late = {"usage": tokens(9, 1)}, {"usage": tokens(9, 4, cached_tokens=2)}
    empty: list[Json] = [
        {"usage": None}, {"usage": {}}, {"usage": []}, {"usage": tokens(0, 0)}, {"usage": {"completion_tokens": None}},
    ]  # fmt: skip
    for nothing in empty:
        source = openai_stream(early, late, nothing)
        expected = {"input_tokens": 7, "cache_read_input_tokens": 2, "output_tokens": 4}
        assert from_stream(made, source, end_of_message) == expected


# ---- callers who speak OpenAI


def last_chunk(made: Translation, source: bytes) -> object:
    return translated(made, source)[-1].get("usage")


def openai_caller() -> Translation:
    return openai_callers.translation(stream_options={"include_usage": True})


def anthropic_answer(usage: object) -> bytes:
    return json.dumps({"type": "message", "id": "1", "content": [{"type": "text", "text": "a"}], "usage": usage}).encode()


def anthropic_stream(first: object, *later: object) -> bytes:
    event, end = openai_callers.event, {"stop_reason": "end_turn"}
    begin = event({"type": "message_start", "message": {"id": "1", "usage": first}})
    reports = [event({"type": "message_delta", "delta": end, "usage": usage}) for usage in later]
    return b"".join([begin, openai_callers.text_delta("a"), *reports, openai_callers.MESSAGE_STOP])


def shown_to_openai(usage: Json) -> object:
    """The same whole; in a stream that reports the prompt at its beginning; and in one that repeats it at its end."""
    made = openai_caller()
    found = from_whole(made, anthropic_answer(usage), last_chunk)
    ends = {name: value for name, value in usage.items() if name.startswith("output")}
    assert from_stream(made, anthropic_stream(usage | {"output_tokens": 1}, ends), last_chunk) == found
    assert from_stream(made, anthropic_stream({"input_tokens": 1, "output_tokens": 1}, usage), last_chunk) == found
    return found


def counted(prompt: int, completion: int, **more: Any) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def details(cached: int, written: int) -> Json:
    return {"prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written}}


@pytest.mark.parametrize(("usage", "expected"), [
    ({"input_tokens": 3, "output_tokens": 5}, counted(3, 5)),
    ({"input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 5}, counted(8, 5, **details(5, 0))),
    ({"input_tokens": 3, "cache_read_input_tokens": 0, "output_tokens": 5}, counted(3, 5, **details(0, 0))),
    ({"input_tokens": 3, "cache_creation_input_tokens": 7, "output_tokens": 5}, counted(10, 5, **details(0, 7))),
    (
        {"input_tokens": 3, "cache_creation": {"ephemeral_1h_input_tokens": 7}, "output_tokens": 5},
        counted(10, 5, **details(0, 7)),
    ),
    (
        {"input_tokens": 3, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2}},
        counted(3, 5, completion_tokens_details={"reasoning_tokens": 2}),
    ),
    ({"input_tokens": 3, "output_tokens": 5, "output_tokens_details": [], "cache_creation": "x"}, counted(3, 5)),
])  # fmt: skip
def test_a_caller_of_openai_sees_what_an_anthropic_source_used(usage: Json, expected: Json) -> None:
    assert shown_to_openai(usage) == expected


@pytest.mark.parametrize(("odd", "known"), ODD)
def test_an_odd_number_of_an_anthropic_source_discards_no_other(odd: object, known: int) -> None:
    made = openai_caller()
    whole = anthropic_answer({"input_tokens": odd, "output_tokens": 5})
    assert from_whole(made, whole, last_chunk) == counted(known, 5)
    assert from_stream(made, anthropic_stream({"input_tokens": odd}, {"output_tokens": 5}), last_chunk) == counted(known, 5)
    assert shown_to_openai({"input_tokens": 7, "output_tokens": odd}) == counted(7, known)
    usage = {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": odd}
    shown = shown_to_openai(usage | {"output_tokens_details": {"thinking_tokens": odd}})
    assert isinstance(shown, dict)
    assert (shown["prompt_tokens"], shown["completion_tokens"]) == (7 + known, 5)
    assert shown.get("prompt_tokens_details", {}).get("cached_tokens", 0) == known
    assert shown.get("completion_tokens_details", {}).get("reasoning_tokens", 0) == known


@pytest.mark.parametrize(
    "usage", [{}, [], None, 3, "many", {"input_tokens": -1}, {"output_tokens": 2**41}, {"service_tier": "a"}]
)
def test_an_anthropic_source_that_reports_no_tokens_has_no_usage(usage: object) -> None:
    made = openai_caller()
    assert from_whole(made, anthropic_answer(usage), last_chunk) is None
    assert from_stream(made, anthropic_stream(usage, usage), last_chunk) is None


@pytest.mark.parametrize(("first", "later", "expected"), [
    ({"input_tokens": 3, "output_tokens": 1}, [{}], counted(3, 0)),  # the beginning's count is never the end's
    ({"output_tokens": 1}, [None], None),
    (None, [{"output_tokens": 5}], counted(0, 5)),
    ({"input_tokens": 3}, [{"output_tokens": 5}, {"output_tokens": 0}, {"output_tokens": None}], counted(3, 5)),
    ({"input_tokens": 3}, [{"output_tokens": 5}, {"output_tokens": 6}], counted(3, 6)),
    ({"input_tokens": 3}, [{"input_tokens": 0, "output_tokens": 5}], counted(3, 5)),
    ({"input_tokens": 0}, [{"input_tokens": 3, "output_tokens": 5}], counted(3, 5)),
    (
        {"input_tokens": 3, "cache_read_input_tokens": 4},
        [{"input_tokens": 9, "cache_read_input_tokens": 0, "output_tokens": 5}],
        counted(13, 5, **details(4, 0)),
    ),
    (
        {"input_tokens": 3},
        [{"input_tokens": 23, "output_tokens": 10, "iterations": [
            {"type": "compaction", "input_tokens": 180, "output_tokens": 35, "cache_read_input_tokens": 7},
            {"type": "advisor_message", "input_tokens": 999, "output_tokens": 999},
            {"type": "message", "input_tokens": 23, "output_tokens": 10},
        ]}],
        counted(210, 45, **details(7, 0)),
    ),
])  # fmt: skip
def test_reports_of_an_anthropic_stream_complete_each_other(first: object, later: list[object], expected: object) -> None:
    assert from_stream(openai_caller(), anthropic_stream(first, *later), last_chunk) == expected
