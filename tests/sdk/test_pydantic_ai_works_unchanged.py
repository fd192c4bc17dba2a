"""pydantic-ai works as it is over a source of each dialect, by each of the three APIs: only its base URL is changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.processes import GatewayProcess
from tests.sdk import chat_completions as chat
from tests.sdk import test_the_openai_sdk_works_over_anthropic as messages
from tests.sdk.scripted import ScriptedProvider

ai = pytest.importorskip("pydantic_ai", reason="pip install 'pydantic-ai-slim[openai,anthropic]'")
openai_models = pytest.importorskip("pydantic_ai.models.openai")
openai_providers = pytest.importorskip("pydantic_ai.providers.openai")
anthropic_models = pytest.importorskip("pydantic_ai.models.anthropic")
anthropic_providers = pytest.importorskip("pydantic_ai.providers.anthropic")

APIS = ["chat", "responses", "messages"]
SOURCES = ["gpt", "claude"]


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


@asynccontextmanager
async def agent(running: GatewayProcess, api: str, source: str, **options: Any) -> AsyncIterator[Any]:
    """An agent that speaks this API, with a model whose source speaks its own dialect."""
    if api == "messages":
        async with anthropic.AsyncAnthropic(base_url=running.base, api_key="ky-any", max_retries=0) as claude:
            provider = anthropic_providers.AnthropicProvider(anthropic_client=claude)
            yield ai.Agent(anthropic_models.AnthropicModel(source, provider=provider), **options)
        return
    async with openai.AsyncOpenAI(base_url=f"{running.base}/v1", api_key="ky-any", max_retries=0) as client:
        kind = openai_models.OpenAIChatModel if api == "chat" else openai_models.OpenAIResponsesModel
        yield ai.Agent(kind(source, provider=openai_providers.OpenAIProvider(openai_client=client)), **options)


def call_of(source: str, name: str, arguments: dict[str, Any], *, streams: bool) -> Any:
    """An answer that calls a tool."""
    if source == "claude":
        block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}
        return (messages.stream if streams else messages.whole)(block, reason="tool_use")
    call = chat.call("call_1", "") | {"function": {"name": name, "arguments": json.dumps(arguments)}}
    message = {"tool_calls": [call | ({"index": 0} if streams else {})]}
    return chat.stream(message, finish="tool_calls") if streams else chat.whole(message, "tool_calls")


def text_of(source: str, text: str, *, streams: bool) -> Any:
    """An answer that says this."""
    if source == "claude":
        return (messages.stream if streams else messages.whole)({"type": "text", "text": text})
    message = {"content": text}
    return chat.stream(message) if streams else chat.whole(message)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("source", SOURCES)
async def test_a_tool_is_called_and_its_result_comes_back(
    translating: tuple[GatewayProcess, ScriptedProvider], provider: ScriptedProvider, api: str, source: str
) -> None:
    provider.plays(call_of(source, "get_weather", {"city": "Rome"}, streams=False), text_of(source, "Fine.", streams=False))
    async with agent(translating[0], api, source) as asked:
        asked.tool_plain(get_weather)
        result = await asked.run("How is it in Rome?")
    assert result.output == "Fine."
    assert "fine in Rome" in str(provider.requests[1]["messages"])
    assert result.usage.output_tokens > 0


def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"fine in {city}"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("source", SOURCES)
async def test_a_streamed_answer_arrives_in_pieces(
    translating: tuple[GatewayProcess, ScriptedProvider], provider: ScriptedProvider, api: str, source: str
) -> None:
    provider.plays(text_of(source, "Fine in Rome.", streams=True))
    async with agent(translating[0], api, source) as asked, asked.run_stream("How is it?") as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == "Fine in Rome."


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("source", SOURCES)
async def test_a_structured_answer_is_read(
    translating: tuple[GatewayProcess, ScriptedProvider], provider: ScriptedProvider, api: str, source: str
) -> None:
    async with agent(translating[0], api, source, output_type=Weather) as asked:
        provider.plays(call_of(source, "final_result", {"city": "Rome", "degrees": 20}, streams=False))
        result = await asked.run("How is it in Rome?")
    assert result.output == Weather(city="Rome", degrees=20)
