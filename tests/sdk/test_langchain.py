"""LangChain works as it is, over providers of either dialect: only its base URL is changed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from tests.processes import Running
from tests.sdk.scripted import Scripted
from tests.sdk.test_anthropic_sdk_over_openai import TWO_CALLS, whole


@tool
def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"fine in {city}"


@pytest.fixture
async def chat(gateway: Running) -> AsyncIterator[ChatOpenAI]:
    with httpx2.Client() as sync:
        async with httpx2.AsyncClient() as http:
            yield ChatOpenAI(
                model="sim", base_url=f"{gateway.base}/v1", api_key="ky-any", max_retries=0, timeout=10,
                http_client=sync, http_async_client=http,
            )  # fmt: skip


def test_invoke(chat: ChatOpenAI) -> None:
    answer = chat.invoke("Tell me of Atlantis")
    assert "simulated provider" in str(answer.content)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == 4


def test_stream(chat: ChatOpenAI) -> None:
    pieces = [str(piece.content) for piece in chat.stream("Tell me of Atlantis")]
    assert len(pieces) > 20
    assert "simulated provider" in "".join(pieces)


async def test_astream(chat: ChatOpenAI) -> None:
    pieces = [str(piece.content) async for piece in chat.astream("Tell me of Atlantis")]
    assert "simulated provider" in "".join(pieces)


def test_tools_bound(chat: ChatOpenAI) -> None:
    answer = chat.bind_tools([get_weather]).invoke("Use get_weather for Atlantis")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "simulated"})


@pytest.fixture(scope="module")
def claude(crossing: tuple[Running, Scripted]) -> Iterator[ChatAnthropic]:
    model = ChatAnthropic(model="gpt", base_url=crossing[0].base, api_key="ky-any", max_retries=0, timeout=10)
    with contextlib.closing(model._client):  # which it would leave to the garbage collector
        yield model


def test_anthropics_class_calls_tools_over_a_provider_that_speaks_openai(claude: ChatAnthropic, provider: Scripted) -> None:
    provider.plays(TWO_CALLS, whole({"content": "Fine in both."}))
    talk = HumanMessage("How is it in Rome and in Oslo?")
    able = claude.bind_tools([get_weather])
    first, *more = able.stream([talk])
    answer = sum(more, first)
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    results = [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
    assert able.invoke([talk, answer, *results]).text == "Fine in both."
    assert [one["content"] for one in provider.asked[1]["messages"] if one["role"] == "tool"] == [
        "fine in Rome",
        "fine in Oslo",
    ]


async def test_anthropics_class_from_an_event_loop_and_with_thinking(
    crossing: tuple[Running, Scripted], provider: Scripted
) -> None:
    provider.plays(whole({"content": "Fine.", "reasoning_content": "Rome first."}), whole({"content": "Yes."}))
    thinks = ChatAnthropic(
        model="gpt", base_url=crossing[0].base, api_key="ky-any", max_retries=0, timeout=10, max_tokens=9000,
        thinking={"type": "enabled", "budget_tokens": 2048},
    )  # fmt: skip
    talk = HumanMessage("How is it?")
    async with contextlib.aclosing(thinks._async_client._client):  # which it would leave open when the loop ends
        answer = await thinks.ainvoke([talk])
        assert (answer.text, answer.content[0]["thinking"]) == ("Fine.", "Rome first.")
        assert (await thinks.ainvoke([talk, answer, HumanMessage("Really?")])).text == "Yes."
    assert provider.asked[1]["messages"][1]["reasoning_content"] == "Rome first."
