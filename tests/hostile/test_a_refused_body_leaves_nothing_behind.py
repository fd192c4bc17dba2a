"""A large request that can't be translated, or is refused otherwise, is gone with its answer, without the garbage collector."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import both

TEXT = "x" * 1_500_000
ROUNDS = 6
REFUSED: dict[str, dict[str, Any]] = {
    "wrong type": {"messages": [{"role": "user", "content": 7, "x": TEXT}]},
    "two answers": {"n": 2, "messages": [{"role": "user", "content": TEXT}]},
    "audio": {
        "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": TEXT, "format": "wav"}}]}]
    },
    "wrong type, dense": {"messages": [{"role": "user", "content": 7}] * 20_000 + [{"role": "user", "content": TEXT}]},
    "unknown model": {"model": "nobody", "messages": [{"role": "user", "content": TEXT}]},
    "no model": {"model": 7, "messages": [{"role": "user", "content": TEXT}]},
    "too many members": {f"m{number}": TEXT[:1000] for number in range(1500)},
}  # fmt: skip


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The garbage collector is off: whatever hangs in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("speaks", ["anthropic", "openai"])
async def test_no_refused_body_is_kept(tmp_path: Path, kind: str, speaks: str) -> None:
    async with both(tmp_path, dialect=speaks) as (running, source):
        client = await running.client()
        body = json.dumps({"model": "m", **REFUSED[kind]}).encode()
        tracemalloc.start()
        try:
            kept = []
            for _ in range(ROUNDS):
                client.post(body)
                await client.answer()
                source.received.clear()
                if client.reader.at_eof():
                    client = await running.client()
                kept.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert kept[-1] - kept[1] < len(body)
