"""OpenAI's SDK is served over a real socket: chat completions, completions, responses, embeddings, models."""

from __future__ import annotations

import json
import math

import openai
import pytest
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolChoiceOptionParam,
)
from openai.types.responses import (
    FunctionToolParam,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseInputParam,
    ResponseTextDeltaEvent,
)

from tests.simulated.prompts import ARGUMENTS, PROMPT, SCHEMA, TOOL, TOOL_PROMPT, TOOL_RESULT, is_labelled

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
TOOL_MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": TOOL_PROMPT}]
TOOL_RESULT_MESSAGES: list[ChatCompletionMessageParam] = [
    *TOOL_MESSAGES,
    {"role": "tool", "tool_call_id": "call_1", "content": TOOL_RESULT},
]
CHAT_TOOL: ChatCompletionFunctionToolParam = {"type": "function", "function": {"name": TOOL, "parameters": SCHEMA}}
RESPONSE_TOOL: FunctionToolParam = {"type": "function", "name": TOOL, "parameters": SCHEMA, "strict": False}
INPUT: ResponseInputParam = [{"role": "user", "content": PROMPT}]


def text_of(completion: ChatCompletion) -> str:
    text = completion.choices[0].message.content
    assert text is not None
    return text


def tool_call_of(completion: ChatCompletion) -> tuple[str, object]:
    """The name and the decoded arguments of the one tool call."""
    (call,) = completion.choices[0].message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    return call.function.name, json.loads(call.function.arguments)


async def test_a_chat_completion_has_a_labelled_text_its_usage_and_a_request_id(openai_client: openai.AsyncOpenAI) -> None:
    raw = await openai_client.chat.completions.with_raw_response.create(model="some-model", messages=MESSAGES)
    answer = raw.parse()
    assert is_labelled(text_of(answer))
    assert (answer.model, answer.choices[0].finish_reason) == ("some-model", "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.completion_tokens == len(text_of(answer).split())
    assert raw.headers["x-request-id"].startswith("req_")


async def test_a_chat_stream_has_one_word_per_event_and_then_the_usage(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    words = [content for chunk in chunks if (content := chunk.choices[0].delta.content)]
    assert is_labelled("".join(words))
    assert all(len(word.split()) == 1 for word in words)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, len(words))
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_chat_stream_has_no_usage_unless_it_is_requested(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert all([chunk.usage is None and bool(chunk.choices) async for chunk in stream])


@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens"])
async def test_a_chat_completion_is_cut_at_the_token_limit(openai_client: openai.AsyncOpenAI, member: str) -> None:
    limit = {member: 3}
    answer = await openai_client.chat.completions.create(model="m", messages=MESSAGES, extra_body=limit)
    assert (text_of(answer), answer.choices[0].finish_reason) == ("This is the", "length")
    stream = await openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True, extra_body=limit)
    choices = [chunk.choices[0] async for chunk in stream]
    assert "".join(choice.delta.content or "" for choice in choices) == "This is the"
    assert choices[-1].finish_reason == "length"


async def test_a_chat_completion_calls_the_tool_that_the_user_mentions(openai_client: openai.AsyncOpenAI) -> None:
    answer = await openai_client.chat.completions.create(model="m", messages=TOOL_MESSAGES, tools=[CHAT_TOOL])
    assert tool_call_of(answer) == (TOOL, ARGUMENTS)
    assert (answer.choices[0].finish_reason, answer.choices[0].message.content) == ("tool_calls", None)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": TOOL}}])
async def test_a_chat_stream_calls_the_tool_that_tool_choice_demands(
    openai_client: openai.AsyncOpenAI, choice: ChatCompletionToolChoiceOptionParam
) -> None:
    async with openai_client.chat.completions.stream(
        model="m", messages=MESSAGES, tools=[CHAT_TOOL], tool_choice=choice
    ) as stream:
        deltas = [event async for event in stream if event.type == "tool_calls.function.arguments.delta"]
        answer = await stream.get_final_completion()
    assert len(deltas) > 2
    assert tool_call_of(answer) == (TOOL, ARGUMENTS)


@pytest.mark.parametrize(("choice", "messages"), [("auto", TOOL_RESULT_MESSAGES), ("none", TOOL_MESSAGES)])
async def test_a_tool_result_and_tool_choice_none_get_a_text(
    openai_client: openai.AsyncOpenAI,
    choice: ChatCompletionToolChoiceOptionParam,
    messages: list[ChatCompletionMessageParam],
) -> None:
    answer = await openai_client.chat.completions.create(model="m", messages=messages, tools=[CHAT_TOOL], tool_choice=choice)
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"


async def test_a_text_completion_and_its_stream_have_the_same_text_and_usage(openai_client: openai.AsyncOpenAI) -> None:
    answer = await openai_client.completions.create(model="m", prompt=PROMPT)
    assert is_labelled(answer.choices[0].text)
    stream = await openai_client.completions.create(
        model="m", prompt=PROMPT, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert last.usage == answer.usage


async def test_embeddings_are_unit_vectors_and_the_same_each_time(openai_client: openai.AsyncOpenAI) -> None:
    floats = await openai_client.embeddings.create(model="m", input=["one text", "two"], encoding_format="float")
    base64 = await openai_client.embeddings.create(model="m", input=["one text", "two"])  # the SDK's default encoding
    first, second = (entry.embedding for entry in floats.data)
    assert math.isclose(math.hypot(*first), 1.0, rel_tol=1e-6)
    assert first != second
    repeated_first, repeated_second = (entry.embedding for entry in base64.data)
    assert repeated_first == pytest.approx(first)
    assert repeated_second == pytest.approx(second)
    assert floats.usage.prompt_tokens == 3


async def test_a_list_of_tokens_is_one_input_of_the_requested_dimensions(openai_client: openai.AsyncOpenAI) -> None:
    answer = await openai_client.embeddings.create(model="m", input=[1, 2, 3], dimensions=8)
    (entry,) = answer.data
    assert (len(entry.embedding), answer.usage.prompt_tokens) == (8, 3)


async def test_a_response_has_a_labelled_text_and_its_usage(openai_client: openai.AsyncOpenAI) -> None:
    answer = await openai_client.responses.create(model="m", input=PROMPT)
    assert is_labelled(answer.output_text)
    assert answer.status == "completed"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 4 + len(answer.output_text.split())


async def test_a_response_stream_goes_from_created_to_completed_in_numbered_events(openai_client: openai.AsyncOpenAI) -> None:
    events = [event async for event in await openai_client.responses.create(model="m", input=INPUT, stream=True)]
    assert events[0].type == "response.created"
    deltas = [event.delta for event in events if isinstance(event, ResponseTextDeltaEvent)]
    assert is_labelled("".join(deltas))
    last = events[-1]
    assert isinstance(last, ResponseCompletedEvent)
    assert last.response.output_text == "".join(deltas)
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == len(deltas)
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_a_response_is_cut_at_the_token_limit(openai_client: openai.AsyncOpenAI) -> None:
    answer = await openai_client.responses.create(model="m", input=PROMPT, max_output_tokens=2)
    assert (answer.output_text, answer.status) == ("This is", "incomplete")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    stream = await openai_client.responses.create(model="m", input=PROMPT, max_output_tokens=2, stream=True)
    assert [event.type async for event in stream][-1] == "response.incomplete"


async def test_a_response_stream_calls_the_tool_that_tool_choice_demands(openai_client: openai.AsyncOpenAI) -> None:
    async with openai_client.responses.stream(model="m", input=PROMPT, tools=[RESPONSE_TOOL], tool_choice="required") as stream:
        answer = await stream.get_final_response()
    (call,) = answer.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", TOOL, ARGUMENTS)


async def test_openais_model_list_has_the_text_and_the_image_model(openai_client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in openai_client.models.list()] == ["simulated", "simulated-image"]


@pytest.mark.parametrize(
    ("param", "members"),
    [
        ("model", {"model": ""}),
        ("messages", {"messages": []}),
        ("messages.[0]", {"messages": ["hello"]}),
        ("n", {"n": 2}),
        ("max_tokens", {"max_tokens": 0}),
        ("stream", {"stream": "yes"}),
        ("tool_choice", {"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}),
    ],
)
async def test_a_bad_chat_request_gets_a_400_that_names_the_member(
    openai_client: openai.AsyncOpenAI, param: str, members: dict[str, object]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await openai_client.chat.completions.create(model="m", messages=MESSAGES, extra_body=members)
    assert (refused.value.type, refused.value.param) == ("invalid_request_error", param)


@pytest.mark.parametrize("value", ["", [], [""], ["text", [True]], [[]]])
async def test_a_bad_embeddings_input_gets_a_400_that_names_it(openai_client: openai.AsyncOpenAI, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await openai_client.embeddings.create(model="m", input="replaced", extra_body={"input": value})
    assert refused.value.param == "input"
