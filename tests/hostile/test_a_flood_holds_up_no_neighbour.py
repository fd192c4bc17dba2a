"""While a provider floods the gateway with what nobody receives, every other caller's events are passed on as they come."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from tests.behaviour.translation import ask
from tests.configurations import ProviderEntry, configuration
from tests.harness import TURN, Step, chunk, event, gateway, head, providers

BLOCK = 64 * 1024
FLOODS = {
    "comments": (b":\n" * (BLOCK // 2), "openai"),
    "empty events": (b"data:{}\n\n" * (BLOCK // 9), "openai"),
    "blank lines": (b"\n" * BLOCK, "anthropic"),
    "halves of characters": (b'data:{"id":"\\ud800"}\n\n' * (BLOCK // 22), "anthropic"),
}
FIRST = {
    "openai": event("one"),
    "anthropic": b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n',
}
NEIGHBOURS = 8
LENGTH = 80
"""In blocks: at some milliseconds each, far more than the neighbour's events take."""


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("kind", FLOODS)
async def test_a_neighbour_gets_each_event_after_a_few_blocks_of_the_flood(tmp_path: Path, kind: str, compressed: bool) -> None:
    block, dialect = FLOODS[kind]
    other = {"openai": "anthropic", "anthropic": "openai"}[dialect]
    acknowledged = [asyncio.Event() for _ in range(NEIGHBOURS)]
    async with providers(2) as (flooding, calm):
        models = "  - {id: calm, pool: [{provider: p1, model: c}]}\n"
        text = configuration(ProviderEntry(flooding.port, dialect), calm.port, pool=1, models=models)
        async with gateway(text, tmp_path) as running:
            flood: list[Step] = []
            for _ in range(LENGTH):
                flood += [chunk(gzip.compress(block * 4) if compressed else block), TURN]
            first = gzip.compress(FIRST[dialect]) if compressed else FIRST[dialect]
            flooding.plays(head(more="content-encoding: gzip\r\n" if compressed else ""), chunk(first), *flood)
            steps: list[Step] = [head(), chunk(event("0"))]
            for at, one in enumerate(acknowledged):
                steps += [one, chunk(event(str(at + 1)))]
            calm.plays(*steps)
            flooded, neighbour = await running.client(), await running.client()
            neighbour.ask("calm", stream=True)
            await neighbour.head()
            assert await neighbour.chunk() == event("0")
            ask(flooded, other, stream=True)
            await flooded.head()
            drained = asyncio.ensure_future(flooded.read_to_end())
            for at, one in enumerate(acknowledged):
                one.set()
                assert await neighbour.chunk() == event(str(at + 1))
            assert not drained.done()
            assert flooding.written < sum(len(step) for step in flood if isinstance(step, bytes))
            flooded.leave()
            neighbour.leave()
            await drained
