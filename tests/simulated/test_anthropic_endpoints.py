"""Anthropic's SDK is served over a real socket: messages, the count of their tokens, models."""

from __future__ import annotations

import anthropic
import pytest
from anthropic.types import Message, MessageParam, TextBlock, ToolChoiceParam, ToolParam, ToolUseBlock

from tests.simulated.prompts import ARGUMENTS, PROMPT, SCHEMA, TOOL, TOOL_PROMPT, TOOL_RESULT, is_labelled

MESSAGES: list[MessageParam] = [{"role": "user", "content": PROMPT}]
TOOL_RESULT_MESSAGES: list[MessageParam] = [
    {"role": "user", "content": TOOL_PROMPT},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": TOOL_RESULT}]},
]
TOOLS: list[ToolParam] = [{"name": TOOL, "input_schema": SCHEMA}]


def text_of(message: Message) -> str:
    (block,) = message.content
    assert isinstance(block, TextBlock)
    return block.text


def tool_use_of(message: Message) -> tuple[str, object]:
    """The name and the input of the one tool use."""
    (block,) = message.content
    assert isinstance(block, ToolUseBlock)
    return block.name, block.input


def error_of(error: anthropic.APIStatusError) -> dict[str, str]:
    """The `error` member of the body."""
    assert isinstance(error.body, dict)
    member = error.body["error"]
    assert isinstance(member, dict)
    return member


async def test_a_message_has_a_labelled_text_its_usage_and_a_request_id(anthropic_client: anthropic.AsyncAnthropic) -> None:
    raw = await anthropic_client.messages.with_raw_response.create(
        model="m", max_tokens=100, system="Be brief", messages=MESSAGES
    )
    answer = await raw.parse()
    assert "simulated provider" in text_of(answer)
    assert "27 characters" in text_of(answer)
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (6, len(text_of(answer).split()))
    assert raw.headers["request-id"].startswith("req_")


async def test_a_message_stream_has_anthropics_events_in_their_order(anthropic_client: anthropic.AsyncAnthropic) -> None:
    stream = await anthropic_client.messages.create(model="m", max_tokens=3, messages=MESSAGES, stream=True)
    assert [event.type async for event in stream] == [
        "message_start", "content_block_start", *["content_block_delta"] * 3,
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip


async def test_a_message_stream_adds_up_to_a_labelled_text_and_its_usage(anthropic_client: anthropic.AsyncAnthropic) -> None:
    async with anthropic_client.messages.stream(model="m", max_tokens=100, messages=MESSAGES) as stream:
        answer = await stream.get_final_message()
    assert is_labelled(text_of(answer))
    assert (answer.stop_reason, answer.usage.input_tokens) == ("end_turn", 4)
    assert answer.usage.output_tokens == len(text_of(answer).split())


async def test_a_message_is_cut_at_the_token_limit(anthropic_client: anthropic.AsyncAnthropic) -> None:
    answer = await anthropic_client.messages.create(model="m", max_tokens=3, messages=MESSAGES)
    assert (text_of(answer), answer.stop_reason) == ("This is the", "max_tokens")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": TOOL}])
async def test_a_message_and_its_stream_use_the_tool_that_tool_choice_demands(
    anthropic_client: anthropic.AsyncAnthropic, choice: ToolChoiceParam
) -> None:
    answer = await anthropic_client.messages.create(
        model="m", max_tokens=100, messages=MESSAGES, tools=TOOLS, tool_choice=choice
    )
    assert (tool_use_of(answer), answer.stop_reason) == ((TOOL, ARGUMENTS), "tool_use")
    async with anthropic_client.messages.stream(
        model="m", max_tokens=100, messages=MESSAGES, tools=TOOLS, tool_choice=choice
    ) as stream:
        streamed = await stream.get_final_message()
    assert (tool_use_of(streamed), streamed.stop_reason) == ((TOOL, ARGUMENTS), "tool_use")


async def test_a_tool_result_gets_a_text(anthropic_client: anthropic.AsyncAnthropic) -> None:
    answer = await anthropic_client.messages.create(model="m", max_tokens=100, messages=TOOL_RESULT_MESSAGES, tools=TOOLS)
    assert answer.content[0].type == "text"


async def test_count_tokens_is_the_count_that_the_message_reports(anthropic_client: anthropic.AsyncAnthropic) -> None:
    counted = await anthropic_client.messages.count_tokens(model="m", system="Be brief", messages=MESSAGES)
    answer = await anthropic_client.messages.create(model="m", max_tokens=1, system="Be brief", messages=MESSAGES)
    assert counted.input_tokens == answer.usage.input_tokens == 6


async def test_anthropics_model_list_has_the_text_model(anthropic_client: anthropic.AsyncAnthropic) -> None:
    assert [model.display_name async for model in anthropic_client.models.list()] == ["Simulated"]


async def test_a_bad_message_gets_anthropics_error_that_names_the_member(anthropic_client: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        await anthropic_client.messages.create(model="m", max_tokens=0, messages=MESSAGES)
    assert error_of(refused.value)["type"] == "invalid_request_error"
    assert "max_tokens" in error_of(refused.value)["message"]


async def test_an_unknown_path_gets_anthropics_not_found_error(anthropic_client: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        await anthropic_client.beta.files.list()
    assert error_of(refused.value)["type"] == "not_found_error"
