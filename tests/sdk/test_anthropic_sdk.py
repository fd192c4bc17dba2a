"""The official Anthropic SDK works as it is: only its base URL is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest

from tests.processes import Running

TALK: Any = [{"role": "user", "content": "Tell me of Atlantis"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"name": "get_weather", "input_schema": SCHEMA}
CALLED: Any = {"model": "claude", "max_tokens": 64, "messages": TALK, "tools": [TOOL], "tool_choice": {"type": "any"}}


@pytest.fixture
def client(gateway: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.base, api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
async def aclient(gateway: Running) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway.base, api_key="ky-any", max_retries=0, timeout=10) as client:
        yield client


def test_a_message_whole(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model="claude", max_tokens=64, messages=TALK)
    assert "simulated provider" in answer.content[0].text
    assert (answer.stop_reason, answer.usage.input_tokens) == ("end_turn", 4)


def test_a_message_is_cut_where_the_caller_says_so(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model="claude", max_tokens=3, messages=TALK)
    assert (answer.stop_reason, answer.content[0].text) == ("max_tokens", "This is the")


def test_a_message_streamed(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="claude", max_tokens=64, messages=TALK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "simulated provider" in text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == len(text.split())


async def test_a_message_whole_and_streamed_from_an_event_loop(aclient: anthropic.AsyncAnthropic) -> None:
    answer = await aclient.messages.create(model="claude", max_tokens=64, messages=TALK)
    async with aclient.messages.stream(model="claude", max_tokens=64, messages=TALK) as stream:
        assert "".join([text async for text in stream.text_stream]) == answer.content[0].text


def test_tools_whole(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(**CALLED)
    assert (answer.content[0].type, answer.content[0].input) == ("tool_use", {"city": "simulated"})
    assert answer.stop_reason == "tool_use"


def test_tools_streamed(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**CALLED) as stream:
        final = stream.get_final_message()
    assert (final.content[0].name, final.content[0].input) == ("get_weather", {"city": "simulated"})


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    assert client.messages.count_tokens(model="claude", messages=TALK).input_tokens == 4


def test_beta_messages_work_with_their_query_and_header(client: anthropic.Anthropic) -> None:
    answer = client.beta.messages.create(model="claude", max_tokens=64, messages=TALK, betas=["some-beta-2026"])
    assert "simulated provider" in answer.content[0].text


def test_the_headers_say_what_answered(client: anthropic.Anthropic) -> None:
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


def test_a_bad_request_is_the_providers_own_or_ours(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="not empty"):
        client.messages.create(model="claude", max_tokens=9, messages=[])


def test_a_base_url_with_v1_gets_a_hint(gateway: Running) -> None:
    with (
        anthropic.Anthropic(base_url=f"{gateway.base}/v1", api_key="ky-any", max_retries=0) as client,
        pytest.raises(anthropic.NotFoundError, match="twice"),
    ):
        client.messages.create(model="claude", max_tokens=9, messages=TALK)
