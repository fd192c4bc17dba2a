"""The usage event that a caller has not asked for is withheld, so the answer's length is not the source's."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.accounts_harness import metered
from tests.harness import DONE, event, whole
from tests.waiting import PATIENCE_S

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'


async def test_a_stream_with_a_length_ends_although_its_usage_is_withheld(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        caller = await made.caller()
        for _ in range(2):  # the connection serves on
            provider.plays(whole(event("one") + USAGE + DONE, kind="text/event-stream"))
            async with asyncio.timeout(PATIENCE_S):
                answer = await caller.chat(stream=True)
            assert answer.body == event("one") + DONE
            assert "content-length" not in answer.headers
