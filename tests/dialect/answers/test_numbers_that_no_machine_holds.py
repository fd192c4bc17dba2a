"""A number that no machine holds, or that is no count, is none: the answer in which it stands goes on."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.model_list import read_list
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic

NUMBERS = {
    "5,000 digits": "9" * 5000,
    "5,000 digits below zero": "-" + "9" * 5000,
    "30 digits": "9" * 30,
    "1e400": "1e400",
    "-1e400": "-1e400",
    "an exponent of 30 digits": "1e" + "9" * 30,
    "1e300": "1e300",
    "a fraction of 5,000 digits": "0." + "3" * 5000,
}
QUESTION = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'

CHAT = """{"id":"a","created":@,"choices":[{"index":0,"message":{"role":"assistant","content":"so"},"finish_reason":"stop"}],
"usage":{"prompt_tokens":@,"completion_tokens":7,"total_tokens":@,"prompt_tokens_details":{"cached_tokens":@}}}"""
MESSAGE = """{"type":"message","id":"a","content":[{"type":"text","text":"so"}],"stop_reason":"end_turn",
"usage":{"input_tokens":@,"output_tokens":7,"cache_read_input_tokens":@}}"""
CHUNK = CHAT.replace("message", "delta")
DELTA = """{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":@,"output_tokens":7}}"""


def written(document: str, number: str) -> bytes:
    return document.replace("@", number).replace("\n", "").encode()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("dialect", "endpoint", "document"), [(OPENAI, "chat/completions", CHAT), (ANTHROPIC, "messages", MESSAGE)]
)
def test_a_whole_answer_stays_one_and_its_other_counts_count(
    dialect: Dialect, endpoint: str, document: str, number: str
) -> None:
    facts = dialect.read_whole(endpoint, written(document, NUMBERS[number]))
    assert facts.is_answer
    assert facts.error is None
    assert facts.usage is not None
    assert dialect.usage_of(facts.usage).completion == 7


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(("dialect", "document"), [(OPENAI, CHUNK), (ANTHROPIC, DELTA)])
def test_an_event_is_read_all_the_same(dialect: Dialect, document: str, number: str) -> None:
    facts = dialect.read_event(b"", written(document, NUMBERS[number]))
    assert facts.is_answer
    assert facts.usage is not None
    assert dialect.usage_of(facts.usage).completion == 7


def to_anthropic_callers(body: bytes) -> bytes:
    made = AnthropicToOpenAI(QUESTION, "s", public_model="m")
    stream = made.stream()
    return made.answer(200, body).body + stream.feed(made.as_stream(body)) + stream.flush()


def to_openai_callers(body: bytes) -> bytes:
    made = OpenAIToAnthropic(QUESTION, "s", public_model="m", default_max_tokens=None, created=1)
    stream = made.stream()
    return made.answer(200, body).body + stream.feed(made.as_stream(body)) + stream.flush()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(("translate", "document"), [(to_anthropic_callers, CHAT), (to_openai_callers, MESSAGE)])
def test_a_translated_answer_has_its_text(translate: Callable[[bytes], bytes], document: str, number: str) -> None:
    assert translate(written(document, NUMBERS[number])).count(b'"so"') == 2


@pytest.mark.parametrize("number", NUMBERS)
def test_a_list_of_models_has_all_its_models(number: str) -> None:
    listed = read_list(
        written('{"data":[{"id":"a","created":@,"context_length":@},{"id":"b","created":5}]}', NUMBERS[number]), 9
    )
    assert [(one.name, one.created) for one in listed] == [("a", 0), ("b", 5)]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_message_of_an_error_is_kept(number: str) -> None:
    body = written('{"type":"error","error":{"type":"api_error","code":@,"message":"no luck"}}', NUMBERS[number])
    for made in (
        AnthropicToOpenAI(QUESTION, "s", public_model="m"),
        OpenAIToAnthropic(QUESTION, "s", public_model="m", default_max_tokens=None, created=1),
    ):
        assert "no luck" in json.dumps(json.loads(made.answer(400, body).body))
