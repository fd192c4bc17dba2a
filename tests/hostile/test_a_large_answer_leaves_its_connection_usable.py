"""A connection over which much came in one read is used for the next request, and its answer is whole."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.harness import DONE, LAST_CHUNK, both, chunk, event, head, whole

TEXT = "All is well. " * 15_000
COMPLETION = {"object": "chat.completion", "choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}
ANSWERS = {
    "whole": whole(json.dumps(COMPLETION).encode()),
    "a stream": head() + chunk(event(TEXT) + DONE) + LAST_CHUNK,
    "a stream with trailers": head() + chunk(event("x") + DONE) + b"0\r\n" + b"x: y\r\n" * 12_000 + b"\r\n",
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_the_next_request_goes_over_the_same_connection(tmp_path: Path, kind: str) -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for _ in range(3):
            provider.plays(ANSWERS[kind])
            client.ask(stream=kind != "whole")
            answer = await client.answer()
            assert answer.status == 200
            assert kind == "a stream with trailers" or TEXT.encode() in answer.body
        assert provider.connections == 1
        assert failures == []
