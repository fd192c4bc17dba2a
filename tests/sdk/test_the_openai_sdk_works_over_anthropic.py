"""The official OpenAI SDK works with a model whose provider speaks only Anthropic, and accepts only valid requests of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from tests.processes import GatewayProcess
from tests.sdk.scripted import Json, ScriptedProvider

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Tell the weather.", "parameters": SCHEMA}
TOOL: Any = {"type": "function", "function": FUNCTION}
TALK: Any = [{"role": "user", "content": "How is it in Rome and in Oslo?"}]
SAID = {"role": "user", "content": [{"type": "text", "text": "How is it in Rome and in Oslo?"}]}
USAGE = {"input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": 7}
LOOK = {"type": "text", "text": "I look."}
ROME = {"type": "tool_use", "id": "toolu_r", "name": "get_weather", "input": {"city": "Rome"}}
OSLO = {"type": "tool_use", "id": "toolu_o", "name": "get_weather", "input": {"city": "Oslo"}}
THOUGHT = {"type": "thinking", "thinking": "Rome first.", "signature": "EqQBCgIYAhIM"}
HIDDEN = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3"}


def whole(*content: Json, reason: str = "end_turn") -> Json:
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [*content]}
    return answer | {"stop_reason": reason, "stop_sequence": None, "usage": USAGE}


def stream(*content: Json, reason: str = "end_turn") -> list[Any]:
    """The events of a message, each of its blocks in two pieces."""
    opening = whole() | {"stop_reason": None, "usage": USAGE | {"output_tokens": 1}}
    events: list[Any] = [{"type": "message_start", "message": opening}, {"type": "ping"}]
    for at, block in enumerate(content):
        events += [{"type": "content_block_start", "index": at, "content_block": block | empty(block)}]
        events += [{"type": "content_block_delta", "index": at, "delta": delta} for delta in pieces(block)]
        events += [{"type": "content_block_stop", "index": at}]
    last = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 7}}
    return [*events, last, {"type": "message_stop"}]


def empty(block: Json) -> Json:
    return {name: type(block[name])() for name in ("text", "thinking", "signature", "input") if name in block}


def pieces(block: Json) -> Iterator[Json]:
    for kind, name, text in (
        ("text_delta", "text", block.get("text", "")),
        ("thinking_delta", "thinking", block.get("thinking", "")),
        ("input_json_delta", "partial_json", json.dumps(block["input"]) if "input" in block else ""),
    ):
        if text:
            yield from ({"type": kind, name: part} for part in (text[:5], text[5:]))
    if "signature" in block:
        yield {"type": "signature_delta", "signature": block["signature"]}


@pytest.fixture
def client(translating: tuple[GatewayProcess, ScriptedProvider]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{translating[0].base}/v1", api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
async def aclient(translating: tuple[GatewayProcess, ScriptedProvider]) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{translating[0].base}/v1", api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


def test_parallel_tool_calls_and_their_results(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.plays(whole(LOOK, ROME, OSLO, reason="tool_use"), whole({"type": "text", "text": "Fine in Rome."}))
    common: Any = {"model": "claude", "max_tokens": 99, "tools": [TOOL], "tool_choice": "required"}
    first = client.chat.completions.create(messages=TALK, **common)
    message = first.choices[0].message
    assert (first.choices[0].finish_reason, message.content, first.model) == ("tool_calls", "I look.", "claude")
    assert [(one.id, one.function.name) for one in message.tool_calls] == [
        ("toolu_r", "get_weather"),
        ("toolu_o", "get_weather"),
    ]
    assert [json.loads(one.function.arguments) for one in message.tool_calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    assert first.usage is not None
    assert (first.usage.prompt_tokens, first.usage.prompt_tokens_details.cached_tokens, first.usage.total_tokens) == (11, 4, 18)

    results: Any = [
        {"role": "tool", "tool_call_id": "toolu_r", "content": "fine"},
        {"role": "tool", "tool_call_id": "toolu_o", "content": [{"type": "text", "text": "no such city"}]},
        {"role": "user", "content": "And now?"},
    ]
    again = client.chat.completions.create(messages=[*TALK, message, *results], **common)
    assert again.choices[0].message.content == "Fine in Rome."

    one, other = provider.requests
    assert (one["messages"], one["model"], one["max_tokens"]) == ([SAID], "claude-sonnet-4-5", 99)
    assert one["tool_choice"] == {"type": "any"}
    assert one["tools"] == [{"name": "get_weather", "description": "Tell the weather.", "input_schema": SCHEMA}]
    assert other["messages"][1] == {"role": "assistant", "content": [LOOK, ROME, OSLO]}
    assert other["messages"][2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_r", "content": "fine"},
            {"type": "tool_result", "tool_use_id": "toolu_o", "content": [{"type": "text", "text": "no such city"}]},
            {"type": "text", "text": "And now?"},
        ],
    }


def test_streamed_tool_calls(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.plays(stream(LOOK, ROME, OSLO, reason="tool_use"))
    with client.chat.completions.stream(model="claude", messages=TALK, tools=[TOOL]) as events:
        arguments = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
        final = events.get_final_completion()
    assert "".join(arguments) == '{"city": "Rome"}{"city": "Oslo"}'
    assert [one.function.arguments for one in final.choices[0].message.tool_calls or ()] == [
        '{"city": "Rome"}',
        '{"city": "Oslo"}',
    ]
    assert (final.choices[0].finish_reason, final.choices[0].message.content) == ("tool_calls", "I look.")
    assert (provider.requests[0]["stream"], provider.requests[0]["max_tokens"]) == (True, 4096)


async def test_chat_completions_of_the_async_client(aclient: openai.AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.plays(whole(LOOK), stream(LOOK, ROME, reason="tool_use"))
    answer = await aclient.chat.completions.create(model="claude", messages=TALK)
    assert answer.choices[0].message.content == "I look."
    stream_of_chunks = await aclient.chat.completions.create(
        model="claude", messages=TALK, tools=[TOOL], stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream_of_chunks]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "I look."
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 18


def test_images_and_files_are_translated(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.plays(whole({"type": "text", "text": "A dot."}))
    parts: Any = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
        {"type": "text", "text": "What is it?"},
    ]
    raw = client.chat.completions.with_raw_response.create(model="claude", messages=[{"role": "user", "content": parts}])
    assert raw.parse().choices[0].message.content == "A dot."
    assert raw.headers["x-kyma-dropped"] == "messages[0].content[0].image_url.detail"
    one, two, pdf, text = provider.requests[0]["messages"][0]["content"]
    assert one["source"] == {"type": "base64", "media_type": "image/png", "data": PIXEL}
    assert two["source"] == {"type": "url", "url": "https://example.org/a.png"}
    assert (pdf["source"]["media_type"], pdf["title"], text["text"]) == ("application/pdf", "a.pdf", "What is it?")


@pytest.mark.parametrize("streams", [False, True])
def test_reasoning_is_translated_and_signed_thinking_is_sent_back(
    client: openai.OpenAI, provider: ScriptedProvider, streams: bool
) -> None:
    common: Any = {"model": "claude", "max_tokens": 9000, "reasoning_effort": "low", "tools": [TOOL]}
    blocks = (THOUGHT, HIDDEN, ROME)
    if streams:
        provider.plays(stream(*blocks, reason="tool_use"))
        with client.chat.completions.stream(messages=TALK, **common) as events:
            deltas = [event.chunk.choices[0].delta for event in events if event.type == "chunk" and event.chunk.choices]
            message = events.get_final_completion().choices[0].message
        assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Rome first."
    else:
        provider.plays(whole(*blocks, reason="tool_use"))
        message = client.chat.completions.create(messages=TALK, **common).choices[0].message
    answer: Any = message.model_dump(exclude_none=True)
    assert answer["reasoning_content"] == "Rome first."

    provider.plays(whole({"type": "text", "text": "Fine."}))
    answer = {name: answer[name] for name in ("role", "tool_calls", "reasoning_content", "thinking_blocks")}
    result: Any = {"role": "tool", "tool_call_id": "toolu_r", "content": "fine"}
    client.chat.completions.create(messages=[*TALK, answer, result], **common)
    assert [each["thinking"] for each in provider.requests] == [{"type": "enabled", "budget_tokens": 2048}] * 2
    assert provider.requests[1]["messages"][1]["content"] == [*blocks]


class City(BaseModel):
    name: str
    people: int


def test_structured_output(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.plays(whole({"type": "text", "text": '{"name":"Rome","people":3}'}))
    answer = client.chat.completions.parse(model="claude", messages=TALK, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Rome", people=3)
    form = provider.requests[0]["output_config"]["format"]
    assert (form["type"], form["schema"]["required"]) == ("json_schema", ["name", "people"])


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_an_unsupported_member_is_a_bad_request_that_names_it(
    client: openai.OpenAI, provider: ScriptedProvider, members: Json, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="claude", messages=TALK, **members)
    assert (caught.value.param, provider.requests) == (param, [])


def test_the_provider_gets_its_own_credential_and_version(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.plays(whole(LOOK))
    client.chat.completions.create(model="claude", messages=TALK, extra_headers={"openai-beta": "new"})
    fields = provider.headers[0]
    assert (fields["x-api-key"], fields["anthropic-version"]) == ("provider-key", "2023-06-01")
    assert "authorization" not in fields
    assert "openai-beta" not in fields


CODES = {
    400: "invalid_request", 401: "no_source_available", 404: "not_found", 413: "request_too_large", 422: "invalid_request",
    429: "provider_rate_limited", 529: "server_is_overloaded",
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", openai.BadRequestError),
        (401, "authentication_error", openai.InternalServerError),  # the gateway's key, not the caller's
        (404, "not_found_error", openai.NotFoundError),
        (413, "request_too_large", openai.APIStatusError),
        (422, "invalid_request_error", openai.UnprocessableEntityError),
        (429, "rate_limit_error", openai.RateLimitError),
        (500, "api_error", openai.InternalServerError),
        (503, "api_error", openai.InternalServerError),
        (529, "overloaded_error", openai.InternalServerError),
    ],
)
def test_an_error_is_raised_as_the_sdks_class_for_its_status(
    client: openai.OpenAI, provider: ScriptedProvider, status: int, kind: str, raised: type[openai.APIStatusError]
) -> None:
    provider.plays({"type": "error", "error": {"type": kind, "message": "as it is"}, "request_id": "req_1"}, status=status)
    with pytest.raises(raised) as caught:
        client.chat.completions.create(model=f"claude-{status}", messages=TALK, extra_headers={"x-request-id": "mine"})
    assert caught.value.request_id == "mine"
    assert caught.value.code == CODES.get(status, "provider_error")
    assert "provider-key" not in str(caught.value.body)


def test_an_error_in_mid_stream_is_raised(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "too busy"}}
    provider.plays([*stream(LOOK)[:4], error])
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError, match="too busy"):
        chunks.extend(client.chat.completions.create(model="claude", messages=TALK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "I loo"


def test_a_stream_without_its_end_is_an_error(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.plays(stream(LOOK)[:-1])
    with pytest.raises(openai.APIError, match="stopped in the middle"):
        list(client.chat.completions.create(model="claude", messages=TALK, stream=True))


def test_a_whole_answer_to_a_request_for_a_stream_is_streamed(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.plays(whole(THOUGHT, LOOK, ROME, OSLO, reason="tool_use"))
    with client.chat.completions.stream(model="claude", messages=TALK, tools=[TOOL]) as events:
        choice = events.get_final_completion().choices[0]
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")
    assert [json.loads(one.function.arguments) for one in choice.message.tool_calls or ()] == [
        {"city": "Rome"},
        {"city": "Oslo"},
    ]
