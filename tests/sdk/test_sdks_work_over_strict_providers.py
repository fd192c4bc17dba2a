"""The official SDKs, with all that they may ask for, work over providers that refuse what the real ones refuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

from tests.accounts_harness import accounts_gateway
from tests.harness import providers
from tests.strict_sources import KINDS, Kind, entry, judged, model_entry, strict

CHAT = [name for name, kind in KINDS.items() if kind.dialect == "openai"]
CLAUDE = [name for name, kind in KINDS.items() if kind.dialect == "anthropic"]
LONG = "mcp__a_server_with_quite_a_long_name__a_tool_that_has_an_even_longer_name"


class Count(BaseModel):
    """An answer, with bounds that structured output of Anthropic refuses."""

    n: Annotated[int, Field(ge=1, le=9, description="how many")]
    names: Annotated[list[str], Field(max_length=3)] = []


@asynccontextmanager
async def base_url(kind: Kind, directory: Path, *, is_metered: bool = False) -> AsyncIterator[tuple[str, str]]:
    """The URL of a gateway in front of a strict provider, and a caller's key."""
    if not is_metered:
        async with strict(kind, directory) as (running, _):
            yield f"http://127.0.0.1:{running.port}", "none"
        return
    async with (
        providers(1) as (provider,),
        accounts_gateway(directory, entry(kind, provider.port), models=model_entry(kind), pool=0) as accounts,
    ):
        provider.judge = lambda received: judged(kind, received)
        caller = await accounts.caller()
        yield f"http://127.0.0.1:{accounts.running.port}", caller.secret


@pytest.mark.parametrize("is_metered", [False, True])
@pytest.mark.parametrize("name", CHAT)
async def test_anthropics_sdk_works_over_every_chat_provider(name: str, tmp_path: Path, *, is_metered: bool) -> None:
    tool: Any = {"name": LONG, "input_schema": Count.model_json_schema()}
    asked: Any = {
        "model": "m", "max_tokens": 900, "messages": [{"role": "user", "content": "hello"}], "stop_sequences": list("abcdefg"),
        "output_config": {"effort": "max"}, "extra_body": {"temperature": 0.5},
    }  # fmt: skip
    async with (
        base_url(KINDS[name], tmp_path, is_metered=is_metered) as (url, key),
        AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client,
    ):
        message = await client.messages.create(**asked, tools=[tool])
        assert [block.name for block in message.content if block.type == "tool_use"] == [LONG]
        async with client.messages.stream(**asked, tools=[tool]) as stream:
            message = await stream.get_final_message()
        assert [block.name for block in message.content if block.type == "tool_use"] == [LONG]
        schema = {"type": "json_schema", "schema": Count.model_json_schema()}
        asked["output_config"] = {"effort": "max", "format": schema}
        message = await client.messages.create(**asked)
        assert [json.loads(block.text) for block in message.content if block.type == "text"] == [{"n": 1}]


@pytest.mark.parametrize("is_metered", [False, True])
@pytest.mark.parametrize("name", CLAUDE)
async def test_openais_sdk_works_over_every_claude(name: str, tmp_path: Path, *, is_metered: bool) -> None:
    function = {"name": LONG, "parameters": Count.model_json_schema(), "strict": True}
    tool: Any = {"type": "function", "function": function}
    asked: Any = {
        "model": "m", "messages": [{"role": "developer", "content": "Brief."}, {"role": "user", "content": "hello"}],
        "temperature": 0.5, "top_p": 0.9, "reasoning_effort": "xhigh", "max_completion_tokens": 9000, "seed": 3,
    }  # fmt: skip
    async with (
        base_url(KINDS[name], tmp_path, is_metered=is_metered) as (url, key),
        AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
    ):
        called = await client.chat.completions.create(**asked, tools=[tool])
        assert [call.function.name for call in called.choices[0].message.tool_calls or ()] == [LONG]
        async with client.chat.completions.stream(**asked, tools=[tool]) as stream:
            final = await stream.get_final_completion()
        assert [call.function.name for call in final.choices[0].message.tool_calls or ()] == [LONG]
        parsed = await client.chat.completions.parse(**asked, response_format=Count)
        assert parsed.choices[0].message.content is not None


@pytest.mark.parametrize("name", CLAUDE)
async def test_json_without_a_schema_can_be_parsed_whole_and_streamed(name: str, tmp_path: Path) -> None:
    asked: Any = {
        "model": "m", "messages": [{"role": "user", "content": "hello"}], "response_format": {"type": "json_object"},
    }  # fmt: skip
    async with (
        base_url(KINDS[name], tmp_path) as (url, key),
        AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
    ):
        whole = await client.chat.completions.create(**asked)
        assert json.loads(whole.choices[0].message.content or "") == {"n": 1}
        pieces = [piece async for piece in await client.chat.completions.create(**asked, stream=True)]
        assert json.loads("".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)) == {"n": 1}


@pytest.mark.parametrize("name", KINDS)
async def test_responses_are_parsed_over_every_provider(name: str, tmp_path: Path) -> None:
    tool: Any = {"type": "function", "name": LONG, "parameters": Count.model_json_schema(), "strict": False}
    async with (
        base_url(KINDS[name], tmp_path) as (url, key),
        AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
    ):
        effort: Any = {"effort": "xhigh"}
        response = await client.responses.create(model="m", input="hello", tools=[tool], reasoning=effort, temperature=0.5)
        assert [item.name for item in response.output if item.type == "function_call"] == [LONG]
        asked: Any = {"type": "json_schema", "name": "count", "schema": Count.model_json_schema()}
        response = await client.responses.create(model="m", input="hello", text={"format": asked}, reasoning=effort)
        assert "1" in response.output_text
