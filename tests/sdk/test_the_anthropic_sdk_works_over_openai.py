"""The official Anthropic SDK works with a model whose provider speaks only OpenAI, and accepts only valid requests of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, ThinkingBlock, ToolUseBlock
from pydantic import BaseModel

from tests.processes import GatewayProcess
from tests.sdk.blocks import text_of, tool_uses
from tests.sdk.chat_completions import TWO_CALLS, call, chunk, piece, stream, whole
from tests.sdk.scripted import ScriptedProvider

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"name": "get_weather", "description": "Tell the weather.", "input_schema": SCHEMA}
FUNCTION = {"name": "get_weather", "description": "Tell the weather.", "parameters": SCHEMA}
TALK: Any = [{"role": "user", "content": "How is it in Rome and in Oslo?"}]


@pytest.fixture
def client(translating: tuple[GatewayProcess, ScriptedProvider]) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=translating[0].base, api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
async def aclient(translating: tuple[GatewayProcess, ScriptedProvider]) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=translating[0].base, api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


def test_parallel_tool_calls_and_their_results(client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    provider.plays(whole({"content": "I look.", "tool_calls": [call("call_r", "Rome"), call("call_o", "Oslo")]}, "tool_calls"))
    provider.plays(whole({"content": "Fine in Rome."}))
    common: Any = {"model": "gpt", "max_tokens": 99, "tools": [TOOL], "tool_choice": {"type": "any"}}
    first = client.messages.create(messages=TALK, **common)
    assert first.stop_reason == "tool_use"
    assert [block.type for block in first.content] == ["text", "tool_use", "tool_use"]
    rome, oslo = tool_uses(first)
    assert (rome.id, rome.name, rome.input, oslo.input) == ("call_r", "get_weather", {"city": "Rome"}, {"city": "Oslo"})
    assert (first.usage.input_tokens, first.usage.cache_read_input_tokens, first.usage.output_tokens) == (7, 4, 7)

    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    results: Any = [
        {"type": "tool_result", "tool_use_id": rome.id, "content": [{"type": "text", "text": "see"}, image]},
        {"type": "tool_result", "tool_use_id": oslo.id, "content": "no such city", "is_error": True},
        {"type": "text", "text": "And now?"},
    ]
    turns: Any = [*TALK, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    assert text_of(client.messages.create(messages=turns, **common)) == "Fine in Rome."

    one, other = provider.requests
    assert one["messages"] == TALK
    assert (one["model"], one["max_tokens"], one["tool_choice"]) == ("real-gpt", 99, "required")
    assert one["tools"] == [{"type": "function", "function": FUNCTION}]
    called, *results, user = other["messages"][1:]
    assert (called["content"], [each["id"] for each in called["tool_calls"]]) == ("I look.", ["call_r", "call_o"])
    assert [json.loads(each["function"]["arguments"])["city"] for each in called["tool_calls"]] == ["Rome", "Oslo"]
    assert [(each["role"], each["tool_call_id"], each["content"]) for each in results] == [
        ("tool", "call_r", "see"),
        ("tool", "call_o", "Error: no such city"),
    ]
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text"]
    assert user["content"][1]["image_url"] == {"url": f"data:image/png;base64,{PIXEL}"}


def test_streamed_tool_calls_whose_arguments_are_interleaved(client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    provider.plays(TWO_CALLS)
    with client.messages.stream(model="gpt", max_tokens=99, messages=TALK, tools=[TOOL]) as events:
        kinds = [event.type for event in events]
        final = events.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use", "tool_use"]
    assert [(block.name, block.input) for block in tool_uses(final)] == [
        ("get_weather", {"city": "Rome"}),
        ("get_weather", {"city": "Oslo"}),
    ]
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 7)
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 3
    assert "input_json" in kinds
    assert provider.requests[0]["stream_options"] == {"include_usage": True}


async def test_tool_calls_of_the_async_client(aclient: anthropic.AsyncAnthropic, provider: ScriptedProvider) -> None:
    provider.plays(whole({"tool_calls": [call("call_r", "Rome")]}, "tool_calls"), TWO_CALLS)
    first = await aclient.messages.create(model="gpt", max_tokens=99, messages=TALK, tools=[TOOL])
    assert [block.input for block in tool_uses(first)] == [{"city": "Rome"}]
    async with aclient.messages.stream(model="gpt", max_tokens=99, messages=TALK, tools=[TOOL]) as events:
        assert "".join([text async for text in events.text_stream]) == "I look."
        final = await events.get_final_message()
    assert [block.input for block in tool_uses(final)] == [{"city": "Rome"}, {"city": "Oslo"}]


def test_images_and_documents_are_translated(client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    provider.plays(whole({"content": "A dot."}))
    blocks: Any = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A letter."}},
        {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}},
    ]
    raw = client.messages.with_raw_response.create(model="gpt", max_tokens=9, messages=[{"role": "user", "content": blocks}])
    assert text_of(raw.parse()) == "A dot."
    assert raw.headers["x-kyma-dropped"] == "cache_control"
    one, two, pdf, letter, text = provider.requests[0]["messages"][0]["content"]
    assert one["image_url"] == {"url": f"data:image/png;base64,{PIXEL}"}
    assert two["image_url"] == {"url": "https://example.org/a.png"}
    assert pdf["file"] == {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}
    assert (letter["text"], text["text"]) == ("A letter.", "What is it?")


@pytest.mark.parametrize("streams", [False, True])
def test_thinking_is_translated_and_sent_back_in_the_next_turn(
    client: anthropic.Anthropic, provider: ScriptedProvider, streams: bool
) -> None:
    common: Any = {"model": "gpt", "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2048}, "tools": [TOOL]}
    first: Message
    if streams:
        deltas = [{"reasoning_content": "Rome "}, {"reasoning_content": "first."}, piece(0, "", **call("call_r", "Rome"))]
        provider.plays(stream(*deltas, finish="tool_calls"))
        with client.messages.stream(messages=TALK, **common) as events:
            thoughts = [event.thinking for event in events if event.type == "thinking"]
            first = events.get_final_message()
        assert thoughts == ["Rome ", "first."]
    else:
        message = {"reasoning_content": "Rome first.", "tool_calls": [call("call_r", "Rome")]}
        provider.plays(whole(message, "tool_calls"))
        first = client.messages.create(messages=TALK, **common)
    thought, use = first.content
    assert isinstance(thought, ThinkingBlock)
    assert isinstance(use, ToolUseBlock)
    assert (thought.thinking, use.input) == ("Rome first.", {"city": "Rome"})
    assert thought.signature

    provider.plays(whole({"content": "Fine."}))
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "fine"}
    turns: Any = [*TALK, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    raw = client.messages.with_raw_response.create(messages=turns, **common)
    assert "x-kyma-dropped" not in raw.headers
    assert [each["reasoning_effort"] for each in provider.requests] == ["low", "low"]
    called = provider.requests[1]["messages"][1]
    assert (called["reasoning_content"], called["tool_calls"][0]["id"]) == ("Rome first.", "call_r")


class City(BaseModel):
    name: str
    people: int


def test_structured_output(client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    provider.plays(whole({"content": '{"name":"Rome","people":3}'}))
    message = client.messages.parse(model="gpt", max_tokens=99, messages=TALK, output_format=City)
    assert message.parsed_output == City(name="Rome", people=3)
    form = provider.requests[0]["response_format"]
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)
    assert form["json_schema"]["schema"]["required"] == ["name", "people"]


def test_tokens_are_estimated_without_a_request_to_the_provider(
    client: anthropic.Anthropic, provider: ScriptedProvider
) -> None:
    talk: Any = [{"role": "user", "content": "word " * 400}]
    raw = client.messages.with_raw_response.count_tokens(model="gpt", messages=talk)
    assert 450 <= raw.parse().input_tokens <= 550
    assert (raw.headers["x-kyma-estimated"], provider.requests) == ("true", [])
    assert raw.request_id == raw.headers["x-request-id"]


def test_beta_and_version_headers_do_not_reach_an_openai_provider(
    client: anthropic.Anthropic, provider: ScriptedProvider
) -> None:
    provider.plays(whole({"content": "Fine."}))
    client.beta.messages.create(model="gpt", max_tokens=9, messages=TALK, betas=["some-beta-2026"])
    assert provider.headers[0]["authorization"] == "Bearer provider-key"
    assert not [name for name in provider.headers[0] if name.startswith(("anthropic-", "x-api-key"))]


def test_the_sdk_finds_the_request_id(client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    provider.plays(whole({"content": "Fine."}), stream({"content": "Fine."}))
    common: Any = {"model": "gpt", "max_tokens": 9, "messages": TALK}
    assert client.messages.create(**common, extra_headers={"x-request-id": "mine"})._request_id == "mine"
    with client.messages.stream(**common, extra_headers={"x-request-id": "mine-too"}) as events:
        assert events.request_id == "mine-too"
        events.until_done()


@pytest.mark.parametrize(
    ("status", "raised", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.InternalServerError, "overloaded_error"),  # it is the gateway's key that was refused, not the caller's
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (422, anthropic.UnprocessableEntityError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (503, anthropic.InternalServerError, None),
        (529, anthropic.InternalServerError, None),
    ],
)
def test_an_error_is_raised_as_the_sdks_class_for_its_status(
    client: anthropic.Anthropic,
    provider: ScriptedProvider,
    status: int,
    raised: type[anthropic.APIStatusError],
    kind: str | None,
) -> None:
    provider.plays({"error": {"message": "as it is", "type": "x", "param": None, "code": None}}, status=status)
    with pytest.raises(raised) as caught:
        client.messages.create(model=f"gpt-{status}", max_tokens=9, messages=TALK, extra_headers={"x-request-id": "mine"})
    body: Any = caught.value.body
    assert (body["type"], body["request_id"], caught.value.request_id) == ("error", "mine", "mine")
    assert kind in (None, body["error"]["type"])
    assert "provider-key" not in str(body)


def test_an_error_in_mid_stream_is_raised(client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    provider.plays([chunk({"content": "I lo"}), {"error": {"message": "too busy", "type": "overloaded_error", "code": 529}}])
    with client.messages.stream(model="gpt", max_tokens=9, messages=TALK) as events:
        with pytest.raises(anthropic.APIStatusError, match="too busy") as caught:
            events.until_done()
        assert text_of(events.current_message_snapshot) == "I lo"
    body: Any = caught.value.body
    assert body["error"]["type"] == "overloaded_error"


def test_a_stream_without_its_end_is_an_error(client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    provider.plays([chunk({"content": "I lo"})])
    with client.messages.stream(model="gpt", max_tokens=9, messages=TALK) as events, pytest.raises(anthropic.APIError):
        events.until_done()


def test_a_whole_answer_to_a_request_for_a_stream_is_streamed(client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    message = {"content": "I look.", "reasoning_content": "Rome.", "tool_calls": [call("a", "Rome"), call("b", "Oslo")]}
    provider.plays(whole(message, "tool_calls"))
    with client.messages.stream(model="gpt", max_tokens=99, messages=TALK, tools=[TOOL]) as events:
        final = events.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in tool_uses(final)] == [{"city": "Rome"}, {"city": "Oslo"}]
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 7)
