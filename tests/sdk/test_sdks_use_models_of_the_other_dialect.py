"""Either SDK uses models whose provider speaks only the other dialect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.processes import GatewayProcess
from tests.sdk.blocks import text_of

TALK: Any = [{"role": "user", "content": "one two three"}]


@pytest.fixture
def claude(gateway: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.base, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_the_anthropic_sdk_gets_a_message_from_a_provider_that_speaks_openai(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model="sim", max_tokens=100, system="Be brief.", messages=TALK)
    assert message.model == "sim"
    assert message.stop_reason == "end_turn"
    assert message.content[0].type == "text"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0


def test_the_anthropic_sdk_gets_a_stream_from_a_provider_that_speaks_openai(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="sim", max_tokens=100, messages=TALK) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(final)
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


async def test_the_async_anthropic_sdk_gets_a_stream_from_a_provider_that_speaks_openai(gateway: GatewayProcess) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.base, api_key="any", max_retries=0) as client,
        client.messages.stream(model="sim", max_tokens=100, messages=TALK) as stream,
    ):
        assert (await stream.get_final_message()).stop_reason == "end_turn"


def test_the_openai_sdk_gets_a_completion_from_a_provider_that_speaks_anthropic(gpt: openai.OpenAI) -> None:
    completion = gpt.chat.completions.create(model="claude", messages=TALK)
    assert completion.model == "claude"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].message.content
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_the_openai_sdk_gets_a_stream_from_a_provider_that_speaks_anthropic(gpt: openai.OpenAI) -> None:
    pieces = list(
        gpt.chat.completions.create(
            model="claude",
            messages=TALK,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1] == "stop"
    assert pieces[-1].usage is not None
    assert not pieces[-1].choices


def test_dropped_members_are_named_in_a_header(gpt: openai.OpenAI) -> None:
    raw = gpt.chat.completions.with_raw_response.create(model="claude", messages=TALK, seed=7)
    assert "seed" in raw.headers["x-kyma-dropped"]


def test_an_unsupported_member_is_a_bad_request_in_the_callers_dialect(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.chat.completions.create(model="claude", messages=TALK, n=2)
    assert refused.value.param == "n"


def test_an_error_of_the_provider_is_raised_as_one_of_the_callers_sdk(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(model="sim", max_tokens=100, messages=[])
    body: Any = refused.value.body
    assert body["type"] == "error"


def test_langchain_gets_a_stream_from_a_provider_that_speaks_anthropic(gateway: GatewayProcess) -> None:
    with httpx2.Client() as http:
        model = ChatOpenAI(
            model="claude", base_url=f"{gateway.base}/v1", api_key=SecretStr("any"), max_retries=0, http_client=http
        )
        assert "simulated provider" in "".join(str(piece.content) for piece in model.stream("one two three"))
        assert model.invoke("one two three").content
