"""The short way to read a usual whole answer comes to the same as the way that reads every form."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.answers import openai
from kyma_proxy.dialect.answers.facts import Facts
from kyma_proxy.dialect.answers.openai_usual import read_usual
from kyma_proxy.dialect.answers.usage import MAX_TOKENS
from kyma_proxy.dialect.openai import OPENAI
from tests.dialect.answers.reading import usage_in

CHAT: Final = "chat/completions"
USAGE: Final[dict[str, Any]] = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
ANSWER: Final[dict[str, Any]] = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": USAGE}
ODD: Final[tuple[object, ...]] = (
    0, 1, 7, 2.0, 2.5, -1, MAX_TOKENS, MAX_TOKENS + 1, 2**70, "3", "x", "", True, False, None, [], {}, [1],
    {"cached_tokens": 3}, {"cached_tokens": 0}, {"cached_tokens": None, "cache_write_tokens": 4}, {"cached_tokens": "5"},
    {"reasoning_tokens": 90}, {"web_search_requests": 2}, "flex",
)  # fmt: skip
MEMBERS: Final = (
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "prompt_tokens_details",
    "input_tokens_details", "completion_tokens_details", "output_tokens_details", "cached_tokens", "prompt_cache_hit_tokens",
    "cache_read_input_tokens", "cache_creation_input_tokens", "num_search_queries", "server_tool_use", "service_tier", "cost",
)  # fmt: skip


def usage_of(facts: Facts) -> Usage:
    return facts.used if facts.usage is None else openai.usage_of(facts.usage)


def check_alike(document: object) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    short, long = openai.read_whole(CHAT, body), openai.read_any(CHAT, body)
    assert (short.is_answer, short.error, short.end) == (long.is_answer, long.error, long.end)
    assert usage_of(short) == usage_of(long)


def is_usual(document: object) -> bool:
    return read_usual(json.dumps(document).encode(), openai.INCOMPLETE_REASONS) is not None


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_one_odd_member_of_a_usage_is_read_alike(member: str, value: object) -> None:
    check_alike(ANSWER | {"usage": USAGE | {member: value}})


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(ODD), max_size=8))
def test_any_usage_is_read_alike(odd: dict[str, object]) -> None:
    check_alike(ANSWER | {"usage": USAGE | odd})


@pytest.mark.parametrize(
    "changed",
    [
        {"error": {"code": 500}}, {"error": None}, {"error": ""}, {"error": "no"}, {"choices": None}, {"choices": []},
        {"choices": {}}, {"choices": [None]}, {"choices": [{}]}, {"choices": [{"finish_reason": "error"}]},
        {"choices": [{"finish_reason": 3}]},
        {"choices": [{"finish_reason": "insufficient_system_resource"}]}, {"choices": [{"error": {"code": 502}}]},
        {"choices": [{"error": None, "finish_reason": "stop"}, {"finish_reason": "error"}]}, {"choices": [{"usage": USAGE}]},
        {"usage": None}, {"usage": {}}, {"usage": []}, {"usage": {"prompt_tokens": 3}}, {"object": "error"}, {"type": "error"},
        {"service_tier": "flex"}, {"service_tier": ""}, {"service_tier": None}, {"service_tier": 3},
        {"x_groq": {"usage": {"prompt_tokens": 9}}}, {"x_groq": None}, {"status": "failed"}, {"output": []},
    ],
    ids=repr,
)  # fmt: skip
def test_an_answer_that_deviates_is_judged_alike(changed: dict[str, object]) -> None:
    check_alike(ANSWER | changed)
    check_alike(ANSWER | changed | {"usage": USAGE | {"service_tier": "priority"}})


WRITTEN: Final = json.dumps(ANSWER).encode()


@pytest.mark.parametrize(
    "body",
    [
        *(WRITTEN[:size] for size in range(len(WRITTEN))), WRITTEN + b"x", WRITTEN + b" \n", WRITTEN.replace(b"hi", b"\\ud83d"),
        WRITTEN.replace(b"hi", b"\xff"), WRITTEN.replace(b"stop", b"\\ud83d"), WRITTEN.replace(b"5", b"NaN"),
        WRITTEN.replace(b'"usage"', b'"usage": {}, "usage"'), WRITTEN[:-1] + b', "usage": null}', b"[" + WRITTEN + b"]",
        WRITTEN.replace(b'"hi"', b"[" * 5000 + b"]" * 5000), WRITTEN.replace(b'"hi"', b"1e999"),
    ],
)  # fmt: skip
def test_bytes_that_are_cut_or_broken_are_judged_alike(body: bytes) -> None:
    check_alike(body)


@pytest.mark.parametrize(
    "usage",
    [
        USAGE,
        USAGE | {"prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0}},
        USAGE | {"completion_tokens_details": {"reasoning_tokens": 3}, "cost": 0.1, "queue_time": 0.02},
        USAGE | {"prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 12},
    ],
)
def test_what_most_providers_write_is_usual(usage: dict[str, object]) -> None:
    assert is_usual(ANSWER | {"usage": usage, "system_fingerprint": "fp", "service_tier": "default"})


def test_usage_of_a_usual_answer_is_found_in_pieces() -> None:
    assert usage_in(OPENAI, WRITTEN, streams=False, cuts=(10, 40)) == Usage(20, 5, None, "reported")
    assert usage_in(OPENAI, json.dumps({"choices": [{}]}).encode(), streams=False) == NO_USAGE
