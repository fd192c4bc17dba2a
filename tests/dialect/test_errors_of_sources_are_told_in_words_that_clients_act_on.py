"""An error of a source of another dialect has the type, the code and the words by which the caller's client acts."""

from __future__ import annotations

import re

import pytest

from kyma_proxy.errors import Kind
from tests.dialect.errors_of_sources import (
    BUSY,
    CELLS,
    FILTERED,
    IMAGE,
    LARGE,
    LIMITED,
    MODEL,
    OPERATORS,
    TOO_LONG,
    UNSUPPORTED,
    Sample,
    told_before,
    told_within,
)

INVALID = "invalid_request_error"
# kind: Anthropic's status and type, OpenAI's status, type and code, the code of a failed response
TABLE: dict[Kind, tuple[int, str, int, str, str, str]] = {
    TOO_LONG: (400, INVALID, 400, INVALID, "context_length_exceeded", "context_length_exceeded"),
    LIMITED: (429, "rate_limit_error", 429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_exceeded"),
    BUSY: (529, "overloaded_error", 503, "server_error", "server_is_overloaded", "server_is_overloaded"),
    FILTERED: (400, INVALID, 400, INVALID, "content_filter", "invalid_prompt"),
    IMAGE: (400, INVALID, 400, INVALID, "invalid_image", "invalid_image"),
    MODEL: (404, "not_found_error", 404, INVALID, "model_not_found", "invalid_prompt"),
    UNSUPPORTED: (400, INVALID, 400, INVALID, "unsupported_parameter", "invalid_prompt"),
    LARGE: (413, "request_too_large", 413, INVALID, "request_too_large", "invalid_prompt"),
    OPERATORS: (503, "overloaded_error", 503, "server_error", "no_source_available", "server_error"),
}
WORDS = {
    "messages": {
        TOO_LONG: "prompt is too long|input length and `max_tokens` exceed context limit", IMAGE: "(?i)image",
        FILTERED: "content filtering policy", LARGE: "Request exceeds the maximum size",
    },
    "chat": {TOO_LONG: "maximum context length"},
    "responses": {TOO_LONG: "maximum context length"},
}  # fmt: skip


@pytest.mark.parametrize(("caller", "sample"), CELLS, ids=str)
def test_an_error_before_the_answer_has_the_words_of_its_kind(caller: str, sample: Sample) -> None:
    status, error = told_before(caller, sample)
    row = TABLE[sample.kind]
    if caller == "messages":
        assert (status, error["type"]) == row[:2]
    else:
        assert (status, error["type"], error["code"]) == row[2:5]
        assert isinstance(error["param"], str | None)
    check_words(caller, sample, error["message"])


@pytest.mark.parametrize(("caller", "sample"), CELLS, ids=str)
def test_an_error_within_the_answer_has_the_words_of_its_kind(caller: str, sample: Sample) -> None:
    error = told_within(caller, sample)
    row = TABLE[sample.kind]
    if caller == "messages":
        assert error["type"] == row[1]
    elif caller == "chat":
        assert (error["type"], error["code"]) == row[3:5]
    else:
        assert error["code"] == row[5]
    check_words(caller, sample, error["message"])


def check_words(caller: str, sample: Sample, message: str) -> None:
    """The message has the words of its kind, the numbers that are known, and no credential."""
    assert re.search(WORDS[caller].get(sample.kind, "."), message)
    assert "provider-key" not in message
    assert "Provider returned error" not in message
    prompt, answer, context = sample.numbers
    if sample.kind is not TOO_LONG or not prompt:
        return
    if caller != "messages":
        assert str(prompt) in message
        assert str(context) in message
    elif prompt > context:
        assert message == f"prompt is too long: {prompt} tokens > {context} maximum"
    else:
        assert f"exceed context limit: {prompt} + {answer} > {context}" in message


@pytest.mark.parametrize(("prompt", "begin"), [
    (60_000, "input length and `max_tokens` exceed context limit: 60000 + 8000 > 65536"),
    (64_000, "prompt is too long: 72000 tokens > 65536 maximum"),  # the answer would have no room
])  # fmt: skip
def test_a_prompt_that_leaves_no_room_for_an_answer_is_too_long(prompt: int, begin: str) -> None:
    words = (
        f"This model's maximum context length is 65536 tokens. However, you requested {prompt + 8000} tokens ({prompt} in the "
        "messages, 8000 in the completion)."
    )
    _, error = told_before("messages", Sample("DeepSeek", TOO_LONG, 400, {"error": {"message": words}}))
    assert error["message"].startswith(begin)


@pytest.mark.parametrize("words", [
    "`tools[0].function.parameters` is no JSON schema", "max_tokens must be at least 1, got -186.", "Invalid value: 'x'.",
    "temperature: must be at most 2", "The image of the model is a prompt.", "messages: at least one is required",
])  # fmt: skip
def test_an_error_that_nobody_acts_on_keeps_its_words(words: str) -> None:
    sample = Sample("anybody", Kind.INVALID_REQUEST, 400, {"error": {"message": words, "type": "invalid_request_error"}})
    for caller in ("messages", "responses"):
        status, error = told_before(caller, sample)
        assert (status, error["type"], error["message"]) == (400, INVALID, words)


def test_the_parameter_that_a_source_does_not_take_is_named() -> None:
    for caller, sample in CELLS:
        if sample.kind is UNSUPPORTED and caller != "messages" and sample.provider != "Mistral":
            assert told_before(caller, sample)[1]["param"] == "seed"
