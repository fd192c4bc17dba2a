"""An Anthropic message or error becomes OpenAI's, whole; a malformed message raises ValueError."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.dialect.openai_to_anthropic.material import (
    ANSWERED,
    case_name,
    load_json,
    translation,
    translation_of_case,
)


@pytest.mark.parametrize("case", ANSWERED, ids=case_name)
def test_golden_answers_are_translated_to_openai(case: Path) -> None:
    whole = translation_of_case(case).answer(200, (case / "answer.json").read_bytes())
    assert whole.status == 200
    assert json.loads(whole.body) == load_json(case, "expected_answer.json")


@pytest.mark.parametrize(("status", "kind", "told", "words"), [
    (400, "invalid_request_error", 400, ("invalid_request_error", "invalid_request")),
    (404, "not_found_error", 404, ("invalid_request_error", "not_found")),
    (413, "request_too_large", 413, ("invalid_request_error", "request_too_large")),
    (429, "rate_limit_error", 429, ("rate_limit_error", "rate_limit_exceeded")),
    (500, "api_error", 500, ("server_error", "provider_error")),
    (504, "timeout_error", 504, ("server_error", "provider_timeout")),
    (529, "overloaded_error", 503, ("server_error", "server_is_overloaded")),
    (429, "something_new", 429, ("rate_limit_error", "rate_limit_exceeded")),
    (418, "something_new", 418, ("invalid_request_error", "invalid_request")),
    (599, "something_new", 599, ("server_error", "provider_error")),
])  # fmt: skip
def test_an_anthropic_error_gets_the_openai_type_and_code(status: int, kind: str, told: int, words: tuple[str, str]) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "Why."}, "request_id": "req_1"}
    whole = translation().answer(status, json.dumps(body).encode())
    assert whole.status == told
    assert json.loads(whole.body) == {"error": {"message": "Why.", "type": words[0], "param": None, "code": words[1]}}


@pytest.mark.parametrize(("body", "message"), [
    (b"<html>Bad gateway</html>", None), (b"", None), (b"\xff\xfe", None), (b"[1]", None), (b'{"error":3}', None),
    (b'{"error":{"message":null}}', None), (b'{"error":{"message":5}}', None), (b"[" * 99_999, None),
    (b'{"error":"Why."}', "Why."), (b'{"message":"Why."}', "Why."), (b'{"error":{"message":"Why."}}', "Why."),
    (b'{"detail":"Why."}', "Why."), (b'{"detail":[{"loc":["body"],"msg":"Why."}]}', '[{"loc":["body"],"msg":"Why."}]'),
    (b'[{"error":{"message":"Why."}}]', "Why."), (b"no healthy upstream\nsecret", "no healthy upstream"),
    (b'{"error":{"message":"Why.","type":5,"code":["x"]}}', "Why."), (b'{"error":{"message":{"detail":"Why."}}}', "Why."),
    (b'{"error":{"message":"%b"}}' % (b"x" * 9999), "x" * 300), (b"x" * 9999, "x" * 300),
])  # fmt: skip
def test_an_anthropic_error_of_any_form_keeps_its_message_if_it_has_one(body: bytes, message: str | None) -> None:
    whole = translation().answer(502, body)
    error = json.loads(whole.body)["error"]
    assert (error["type"], error["code"]) == ("server_error", "provider_error")
    assert error["message"] == message or (message is None and "answered 502" in error["message"])


@pytest.mark.parametrize("body", [
    b"", b"<html>", b"{}", b'{"type":"message"}', b'{"content":"x"}', b'{"content":[{"type":"text","text":5}]}',
    b'{"type":"error","content":[],"error":{"type":"api_error","message":"x"}}', b'{"content":[{"type":"text","text":"\xff"}]}',
    b'{"content":[{"type":"tool_use","input":{"a":"\xff"}}]}', b'{"content":[3]}', b'{"x":' + b"[" * 99_999,
])  # fmt: skip
def test_a_malformed_anthropic_message_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the relay tells no kinds of it apart)
        translation().answer(200, body)


@pytest.mark.parametrize(("status", "kind"), [(401, "authentication_error"), (402, "billing_error"), (403, "permission_error")])
def test_an_error_about_the_operators_account_says_nothing_of_it(status: int, kind: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "The key sk-1 has no money."}}
    whole = translation().answer(status, json.dumps(body).encode())
    error = json.loads(whole.body)["error"]
    assert (whole.status, error["type"], error["code"]) == (503, "server_error", "no_source_available")
    assert "sk-1" not in error["message"]


def test_dropped_blocks_of_an_anthropic_answer_are_reported() -> None:
    content = [
        {"type": "text", "text": "a", "citations": [{"cited_text": "q"}]}, {"type": "text", "text": "b", "citations": None},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, {"type": "my secret prompt"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "tool_use", "id": "u", "name": "g", "input": {}},
    ]  # fmt: skip
    body = json.dumps({"content": content}).encode()
    lost = ("answer.content[0].citations", "answer.content[2].server_tool_use", "answer.content[3].unknown")
    assert translation().answer(200, body).dropped == lost
    assert translation(functions=[{"name": "f"}]).answer(200, body).dropped == (*lost, "answer.content[5].tool_use")
