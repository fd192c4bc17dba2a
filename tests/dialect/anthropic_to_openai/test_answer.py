"""An OpenAI answer or error becomes Anthropic's, whole; a malformed one raises ValueError."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given

from tests.dialect.anthropic_to_openai.material import (
    Json,
    aggregate_chunks,
    aggregate_events,
    case_options,
    chunk,
    comparable,
    golden_cases,
    streams,
    translate_stream,
    translation,
)


@golden_cases("answer.json")
def test_golden_answers_are_translated_to_anthropic(case: Path) -> None:
    options = case_options(case)
    status = options.get("status", 200)
    whole = translation().answer(status, (case / "answer.json").read_bytes())
    assert whole.status == options.get("told", status)
    assert json.loads(whole.body) == json.loads((case / "expected.json").read_bytes())


@given(streams())
def test_an_openai_answer_as_a_stream_translates_to_the_same_message(source: bytes) -> None:
    answer = aggregate_chunks(source)
    made = translation()
    out, stream = translate_stream(made.as_stream(answer))
    assert comparable(aggregate_events(out)) == comparable(json.loads(made.answer(200, answer).body))
    assert stream.is_finished


@golden_cases("answer.json")
def test_golden_answers_as_streams_translate_to_the_same_messages(case: Path) -> None:
    answer = (case / "answer.json").read_bytes()
    if case_options(case).get("status", 200) == 200:
        out, stream = translate_stream(translation().as_stream(answer))
        assert stream.is_finished
        assert comparable(aggregate_events(out)) == comparable(json.loads((case / "expected.json").read_bytes()))


@pytest.mark.parametrize(("finish", "message", "reason"), [
    ("stop", {"content": "a"}, "end_turn"), ("length", {"content": "a"}, "max_tokens"),
    ("content_filter", {"content": ""}, "refusal"), ("eos", {"content": "a"}, "end_turn"), (None, {"content": "a"}, "end_turn"),
    ("tool_calls", {"tool_calls": [{"id": "a", "function": {"name": "n"}}]}, "tool_use"),
    ("stop", {"tool_calls": [{"id": "a", "function": {"name": "n"}}]}, "tool_use"),
    ("length", {"tool_calls": [{"id": "a", "function": {"name": "n"}}]}, "max_tokens"),
    ("tool_calls", {"content": "a", "tool_calls": []}, "end_turn"),
])  # fmt: skip
def test_finish_reasons_become_stop_reasons(finish: str | None, message: Json, reason: str) -> None:
    body = json.dumps({"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()
    assert json.loads(translation().answer(200, body).body)["stop_reason"] == reason
    if "tool_calls" in message:
        message = {"tool_calls": [call | {"index": at} for at, call in enumerate(message["tool_calls"])]}
    out, _ = translate_stream(chunk(message), chunk({}, finish), b"data: [DONE]\n\n")
    assert aggregate_events(out)["stop_reason"] == reason


@pytest.mark.parametrize("body", [
    b"", b"null", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"index":1,"message":{"content":"a"}}]}', b"<html>", b"\xff",
    b'{"error":{"message":"no"}}', b'{"choices":[{"message":{"content":"half"},"finish_reason":"error"}]}',
    b'{"choices":[{"message":{"content":1}}]}', b"[" * 100_000, b'{"a":' * 100_000,
    b'{"id":"1","choices":[{"message":{"content":"a',
])  # fmt: skip
def test_a_malformed_openai_answer_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        translation().answer(200, body)


@pytest.mark.parametrize(("status", "told", "kind"), [
    (400, 400, "invalid_request_error"), (404, 404, "not_found_error"), (409, 409, "invalid_request_error"),
    (413, 413, "request_too_large"), (422, 422, "invalid_request_error"), (429, 429, "rate_limit_error"),
    (500, 500, "api_error"), (502, 502, "api_error"), (503, 529, "overloaded_error"), (504, 504, "timeout_error"),
    (529, 529, "overloaded_error"),
    *((status, 503, "overloaded_error") for status in (401, 402, 403)),  # the operator's trouble, not the caller's
])  # fmt: skip
def test_an_openai_error_gets_the_anthropic_type_of_its_status(status: int, told: int, kind: str) -> None:
    whole = translation().answer(status, b'{"error":{"message":"Because.","type":"x","code":null}}')
    error = json.loads(whole.body)
    assert (whole.status, error["type"], error["error"]["type"]) == (told, "error", kind)
    assert ("Because." in error["error"]["message"]) == (status not in (401, 402, 403))  # it may quote a credential


@pytest.mark.parametrize(("body", "message"), [
    (b"", None), (b"<!DOCTYPE html><p>secret", None), (b"\xff\xfe", None), (b'{"a":', None), (b'"a"', "a"), (b"{}", None),
    (b"a\x00b", None), (b"no healthy upstream\nsecret", "no healthy upstream"), (b"x" * 9999, "x" * 300),
    (b'{"error":"why"}', "why"), (b'{"message":"why"}', "why"), (b'{"detail":"why"}', "why"), (b'{"error":{"code":5}}', None),
    (b'{"error":{"message":{"detail":"why"}}}', "why"), (b'{"error":{"error":{"error":{"error":"deep"}}}}', None),
    (b'{"error":{"message":"half \\ud83d"}}', "half \ufffd"),
])  # fmt: skip
def test_an_openai_error_keeps_its_message_in_any_form_but_no_html(body: bytes, message: str | None) -> None:
    found = json.loads(translation().answer(500, body).body)["error"]["message"]
    assert found == (message or "The source answered 500 without saying why.")


def test_dropped_members_of_an_openai_answer_are_reported() -> None:
    said: Json = {"content": "a", "annotations": [{"type": "url_citation"}], "audio": {"id": "1"}, "images": []}
    for message, lost in ((said, ("annotations", "audio")), ({"content": "a", "annotations": [], "audio": None}, ())):
        body = json.dumps({"id": "1", "choices": [{"message": message, "finish_reason": "stop"}]}).encode()
        assert translation().answer(200, body).dropped == tuple(f"answer.message.{name}" for name in lost)
