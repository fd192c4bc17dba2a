"""Tokens are estimated where no provider can count them, and the answer says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import both, whole


async def test_tokens_are_estimated_where_no_source_speaks_anthropic(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, source):
        client = await running.client()
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 400}]}).encode()
        client.post(body, path="/v1/messages/count_tokens")
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-estimated"]) == (200, "true")
        assert 450 <= answer.json["input_tokens"] <= 550
        assert source.received == []
        record = (await running.records())[0]
        assert (record["ending"], record["attempts"], record["cost_usd"]) == ("completed", [], None)


@pytest.mark.parametrize("status", ["404 Not Found", "400 Bad Request", "503 Busy"])
async def test_tokens_are_estimated_only_where_every_source_says_that_it_does_not_count(tmp_path: Path, status: str) -> None:
    async with both(tmp_path, 2, dialect="anthropic") as (running, first, second):
        for source in (first, second):
            source.plays(whole(b"{}", status=status))
        client = await running.client()
        client.post(b'{"model":"m","messages":[{"role":"user","content":"one two three"}]}', path="/v1/messages/count_tokens")
        answer = await client.answer()
        (record,) = await running.records()
        if status == "404 Not Found":
            assert (answer.status, answer.headers["x-kyma-estimated"]) == (200, "true")
            assert (record["ending"], len(record["attempts"])) == ("completed", 2)
        else:
            assert answer.status == (400 if status == "400 Bad Request" else 502)
            assert "x-kyma-estimated" not in answer.headers
