"""The short way to read a usual whole answer comes to the same as the way that reads every form."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.dialect.answers import anthropic, anthropic_usual, openai, openai_usual
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


MESSAGES: Final = "messages"
MESSAGE_USAGE: Final[dict[str, Any]] = {"input_tokens": 20, "output_tokens": 5}
MESSAGE: Final[dict[str, Any]] = {"type": "message", "content": [{"type": "text", "text": "hi"}], "usage": MESSAGE_USAGE}
MESSAGE_MEMBERS: Final = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation",
    "server_tool_use", "service_tier", "iterations", "inference_geo",
)  # fmt: skip
MESSAGE_ODD: Final[tuple[object, ...]] = (
    *ODD, {"ephemeral_5m_input_tokens": 3}, {"ephemeral_1h_input_tokens": 4}, {"ephemeral_1h_input_tokens": "4"},
    {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 1}, {"web_search_requests": None},
    [{"type": "compaction", "input_tokens": 3, "output_tokens": 4}],
)  # fmt: skip


def check_alike(document: object, endpoint: str = CHAT) -> None:
    """Both ways must come to the same."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    dialect: Any = openai if endpoint == CHAT else anthropic
    short, long = dialect.read_whole(endpoint, body), dialect.read_any(endpoint, body)
    assert (short.is_answer, short.error, short.end) == (long.is_answer, long.error, long.end)
    used, expected = (one.used if one.usage is None else dialect.usage_of(one.usage) for one in (short, long))
    assert used == expected


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_one_odd_member_of_a_usage_is_read_alike(member: str, value: object) -> None:
    check_alike(ANSWER | {"usage": USAGE | {member: value}})


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(ODD), max_size=8))
def test_any_usage_is_read_alike(odd: dict[str, object]) -> None:
    check_alike(ANSWER | {"usage": USAGE | odd})


@pytest.mark.parametrize("member", MESSAGE_MEMBERS)
@pytest.mark.parametrize("value", MESSAGE_ODD, ids=repr)
def test_one_odd_member_of_a_messages_usage_is_read_alike(member: str, value: object) -> None:
    check_alike(MESSAGE | {"usage": MESSAGE_USAGE | {member: value}}, MESSAGES)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(MESSAGE_MEMBERS), st.sampled_from(MESSAGE_ODD), max_size=6))
def test_any_usage_of_a_message_is_read_alike(odd: dict[str, object]) -> None:
    check_alike(MESSAGE | {"usage": MESSAGE_USAGE | odd}, MESSAGES)


@pytest.mark.parametrize(
    "changed",
    [
        {"error": {"type": "overloaded_error"}}, {"error": None}, {"error": ""}, {"type": "error"}, {"type": None}, {"type": 3},
        {"content": None}, {"content": []}, {"content": {}}, {"content": "hi"}, {"usage": None}, {"usage": {}}, {"usage": []},
        {"usage": {"output_tokens": 3}}, {"stop_reason": "max_tokens"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_message_that_deviates_is_judged_alike(changed: dict[str, object]) -> None:
    check_alike(MESSAGE | changed, MESSAGES)


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


def broken(written: bytes) -> list[bytes]:
    """An answer that is cut at every place, or broken in some way."""
    return [
        *(written[:size] for size in range(len(written))), written + b"x", written + b" \n", written.replace(b"hi", b"\\ud83d"),
        written.replace(b"hi", b"\xff"), written.replace(b"stop", b"\\ud83d"), written.replace(b"5", b"NaN"),
        written.replace(b'"usage"', b'"usage": {}, "usage"'), written[:-1] + b', "usage": null}', b"[" + written + b"]",
        written.replace(b'"hi"', b"[" * 5000 + b"]" * 5000), written.replace(b'"hi"', b"1e999"),
    ]  # fmt: skip


def test_bytes_that_are_cut_or_broken_are_judged_alike() -> None:
    for body in broken(WRITTEN):
        check_alike(body)
    for body in broken(json.dumps(MESSAGE).encode()):
        check_alike(body, MESSAGES)


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
    answer = ANSWER | {"usage": usage, "system_fingerprint": "fp", "service_tier": "default"}
    assert openai_usual.read_usual(json.dumps(answer).encode(), openai.INCOMPLETE_REASONS) is not None


@pytest.mark.parametrize(
    "usage",
    [
        MESSAGE_USAGE,
        MESSAGE_USAGE | {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard"},
        MESSAGE_USAGE | {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}},
        MESSAGE_USAGE | {"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}, "inference_geo": "us"},
    ],
)
def test_what_anthropic_writes_is_usual(usage: dict[str, object]) -> None:
    assert anthropic_usual.read_usual(json.dumps(MESSAGE | {"usage": usage}).encode()) is not None


def test_usage_of_a_usual_answer_is_found_in_pieces() -> None:
    assert usage_in(OPENAI, WRITTEN, streams=False, cuts=(10, 40)) == Usage(20, 5, None, "reported")
    assert usage_in(OPENAI, json.dumps({"choices": [{}]}).encode(), streams=False) == NO_USAGE
