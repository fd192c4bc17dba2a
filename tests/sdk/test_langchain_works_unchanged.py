"""LangChain works as it is, over providers of either dialect: only its base URL is changed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.processes import GatewayProcess
from tests.sdk.chat_completions import TWO_CALLS, whole
from tests.sdk.scripted import ScriptedProvider


@tool
def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"fine in {city}"


@pytest.fixture
async def chat(gateway: GatewayProcess) -> AsyncIterator[ChatOpenAI]:
    with httpx2.Client() as sync:
        async with httpx2.AsyncClient() as http:
            yield ChatOpenAI(
                model="sim", base_url=f"{gateway.base}/v1", api_key=SecretStr("ky-any"), max_retries=0, timeout=10,
                http_client=sync, http_async_client=http,
            )  # fmt: skip


def test_invoke_gives_an_answer_and_its_usage(chat: ChatOpenAI) -> None:
    answer = chat.invoke("Tell me of Atlantis")
    assert "simulated provider" in str(answer.content)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == 4


def test_stream_gives_many_pieces(chat: ChatOpenAI) -> None:
    pieces = [str(piece.content) for piece in chat.stream("Tell me of Atlantis")]
    assert len(pieces) > 20
    assert "simulated provider" in "".join(pieces)


async def test_astream_gives_the_same_text(chat: ChatOpenAI) -> None:
    pieces = [str(piece.content) async for piece in chat.astream("Tell me of Atlantis")]
    assert "simulated provider" in "".join(pieces)


def test_bound_tools_are_called(chat: ChatOpenAI) -> None:
    answer = chat.bind_tools([get_weather]).invoke("Use get_weather for Atlantis")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "simulated"})


def anthropic_chat(base: str, **more: Any) -> ChatAnthropic:
    """LangChain's class for Anthropic, with a model whose provider speaks OpenAI."""
    return ChatAnthropic(
        model_name="gpt", base_url=base, api_key=SecretStr("ky-any"), max_retries=0, timeout=10, stop=None, **more
    )


@pytest.fixture(scope="module")
def claude(translating: tuple[GatewayProcess, ScriptedProvider]) -> Iterator[ChatAnthropic]:
    model = anthropic_chat(translating[0].base)
    with contextlib.closing(model._client):  # otherwise the garbage collector finds it open
        yield model


def test_chat_anthropic_calls_tools_over_a_provider_that_speaks_openai(
    claude: ChatAnthropic, provider: ScriptedProvider
) -> None:
    provider.plays(TWO_CALLS, whole({"content": "Fine in both."}))
    talk = HumanMessage("How is it in Rome and in Oslo?")
    with_tool = claude.bind_tools([get_weather])
    first, *more = with_tool.stream([talk])
    answer = sum(more, first)
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    results = [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
    assert with_tool.invoke([talk, answer, *results]).text == "Fine in both."
    assert [one["content"] for one in provider.requests[1]["messages"] if one["role"] == "tool"] == [
        "fine in Rome",
        "fine in Oslo",
    ]


async def test_chat_anthropic_thinks_over_a_provider_that_speaks_openai(
    translating: tuple[GatewayProcess, ScriptedProvider], provider: ScriptedProvider
) -> None:
    provider.plays(whole({"content": "Fine.", "reasoning_content": "Rome first."}), whole({"content": "Yes."}))
    thinking = {"type": "enabled", "budget_tokens": 2048}
    model = anthropic_chat(translating[0].base, max_tokens_to_sample=9000, thinking=thinking)
    talk = HumanMessage("How is it?")
    async with contextlib.aclosing(model._async_client._client):  # otherwise it is open when the loop ends
        answer = await model.ainvoke([talk])
        thought = answer.content[0]
        assert isinstance(thought, dict)
        assert (answer.text, thought["thinking"]) == ("Fine.", "Rome first.")
        assert (await model.ainvoke([talk, answer, HumanMessage("Really?")])).text == "Yes."
    assert provider.requests[1]["messages"][1]["reasoning_content"] == "Rome first."
