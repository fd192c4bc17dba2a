"""LangChain's ChatOpenAI works as it is: only its base URL is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from tests.running import Running


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
