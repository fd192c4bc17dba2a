"""The official Anthropic SDK works as it is: only its base URL is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest

from tests.processes import GatewayProcess
from tests.sdk.blocks import text_of, tool_uses

TALK: Any = [{"role": "user", "content": "Tell me of Atlantis"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"name": "get_weather", "input_schema": SCHEMA}
CALLED: Any = {"model": "claude", "max_tokens": 64, "messages": TALK, "tools": [TOOL], "tool_choice": {"type": "any"}}


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.base, api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
async def aclient(gateway: GatewayProcess) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway.base, api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


def test_a_message(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model="claude", max_tokens=64, messages=TALK)
    assert "simulated provider" in text_of(answer)
    assert (answer.stop_reason, answer.usage.input_tokens) == ("end_turn", 4)


def test_a_message_ends_at_max_tokens(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model="claude", max_tokens=3, messages=TALK)
    assert (answer.stop_reason, text_of(answer)) == ("max_tokens", "This is the")


def test_a_streamed_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="claude", max_tokens=64, messages=TALK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "simulated provider" in text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == len(text.split())


async def test_messages_of_the_async_client(aclient: anthropic.AsyncAnthropic) -> None:
    answer = await aclient.messages.create(model="claude", max_tokens=64, messages=TALK)
    async with aclient.messages.stream(model="claude", max_tokens=64, messages=TALK) as stream:
        assert "".join([text async for text in stream.text_stream]) == text_of(answer)


def test_a_tool_call(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(**CALLED)
    assert [block.input for block in tool_uses(answer)] == [{"city": "simulated"}]
    assert (len(answer.content), answer.stop_reason) == (1, "tool_use")


def test_a_streamed_tool_call(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**CALLED) as stream:
        final = stream.get_final_message()
    assert [(block.name, block.input) for block in tool_uses(final)] == [("get_weather", {"city": "simulated"})]


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    assert client.messages.count_tokens(model="claude", messages=TALK).input_tokens == 4


def test_beta_messages_work_with_their_query_and_header(client: anthropic.Anthropic) -> None:
    answer = client.beta.messages.create(model="claude", max_tokens=64, messages=TALK, betas=["some-beta-2026"])
    assert "simulated provider" in text_of(answer)


def test_the_headers_name_the_model_that_answered(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(model="claude", max_tokens=9, messages=TALK)
    assert raw.headers["x-kyma-model"] == "claude"
    assert raw.headers["x-request-id"]
    assert "x-kyma-alias" not in raw.headers


def test_an_unknown_model_is_not_found(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="claud", max_tokens=9, messages=TALK)
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert "did you mean claude" in body["error"]["message"]
    assert body["request_id"] == caught.value.response.headers["x-request-id"]


def test_a_bad_request_of_the_provider_is_raised_as_one(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="not empty"):
        client.messages.create(model="claude", max_tokens=9, messages=[])


def test_a_base_url_with_v1_gets_a_hint(gateway: GatewayProcess) -> None:
    with (
        anthropic.Anthropic(base_url=f"{gateway.base}/v1", api_key="ky-any", max_retries=0) as client,
        pytest.raises(anthropic.NotFoundError, match="twice"),
    ):
        client.messages.create(model="claude", max_tokens=9, messages=TALK)
