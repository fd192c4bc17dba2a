"""The provider of `make trial` takes what OpenAI takes, and nothing else, so that the trial proves something."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.trial.strict_provider import Refused, check, events, words_of

KEY = "sk-trial"
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
GOOD: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "a 1"}]}
PATH = "/v1/chat/completions"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"max_tokens": 4096},
        {"max_completion_tokens": 1, "temperature": 0.5, "user": "it"},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "tool_choice": "auto"},
    ],
)
def test_a_good_request_is_taken(more: dict[str, Any]) -> None:
    assert check(PATH, HEADERS, json.dumps(GOOD | more).encode(), {KEY}) == GOOD | more


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"model": "fast"}, 404),
        ({"messages": []}, 400),
        ({"messages": [{"role": "user"}]}, 400),
        ({"messages": [{"role": "nobody", "content": "a"}]}, 400),
        ({"kyma": True}, 400),
        ({"max_tokens": 1_000_000}, 400),
        ({"max_tokens": 1, "max_completion_tokens": 1}, 400),
        ({"max_tokens": "many"}, 400),
        ({"stream": "yes"}, 400),
        ({"stream_options": {"include_usage": True}}, 400),
    ],
)
def test_a_body_that_openai_refuses_is_refused(more: dict[str, Any], status: int) -> None:
    with pytest.raises(Refused) as refused:
        check(PATH, HEADERS, json.dumps(GOOD | more).encode(), {KEY})
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("path", "changed", "status"),
    [
        (PATH, {"authorization": "Bearer none"}, 401),
        (PATH, {"authorization": ""}, 401),
        (PATH, {"x-api-key": "ky-of-the-caller"}, 400),
        (PATH, {"cookie": "a=b"}, 400),
        (PATH, {"content-type": "text/plain"}, 415),
        ("/v1/chat", {}, 404),
    ],
)
def test_a_path_or_a_header_that_openai_refuses_is_refused(path: str, changed: dict[str, str], status: int) -> None:
    with pytest.raises(Refused) as refused:
        check(path, HEADERS | changed, json.dumps(GOOD).encode(), {KEY})
    assert refused.value.status == status


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"text"', b'{"stream": {}, "model": [[]'])
def test_a_body_that_is_no_object_of_json_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        check(PATH, HEADERS, body, {KEY})
    assert refused.value.status == 400


def test_a_stream_tells_its_prompt_in_numbered_words_and_its_usage_if_that_was_asked_for() -> None:
    texts = [event.decode() for event in events(words_of("it 2"), "1", include_usage=True)]
    assert texts[-1] == "data: [DONE]\n\n"
    documents = [json.loads(text.removeprefix("data: ")) for text in texts[:-1]]
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in documents[:-1]) == "it-0 it-1 "
    assert documents[-1]["usage"]["completion_tokens"] == 2
