"""A simulated provider without a pace, and the official clients that speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import openai
import pytest

from kyma_proxy.simulated import server


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    runner = await server.serve("127.0.0.1", 0, 0.0)
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def openai_client(origin: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{origin}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_client(origin: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=origin, api_key="any", max_retries=0) as client:
        yield client
