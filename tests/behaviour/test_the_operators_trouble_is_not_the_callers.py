"""An error about the operator's account leads to the next source, and no caller reads the provider's words about it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from kyma_proxy.net.relay.pump import MAX_ERROR_BYTES
from tests.configurations import ProviderEntry, configuration
from tests.harness import ANSWER, CLOSE, LAST_CHUNK, TURN, both, chunk, gateway, head, providers, whole

OURS = [
    pytest.param("provider", {"status": 422, "code": "team_limit"}, id="a provider's rule"),
    pytest.param("source", {"status": 422, "code": "team_limit"}, id="a source's rule"),
    pytest.param("source", {"message": "The TEAM has spent"}, id="by the beginning of its message"),
    pytest.param("source", {"status": 422}, id="by its status alone"),
]
ERROR = whole(b'{"error":{"message":"the team has spent its quota","code":"team_limit"}}', status="422 No")


def rules(level: str, rule: dict[str, object]) -> dict[str, str]:
    return {level: f"move_on: [{json.dumps(rule)}]"}


@pytest.mark.parametrize(("level", "rule"), OURS)
async def test_what_an_operator_names_leads_to_the_next_source(tmp_path: Path, level: str, rule: dict[str, object]) -> None:
    async with providers(2) as (first, second):
        text = configuration(ProviderEntry(first.port, more=rules("source", rule)["source"], source=""), second.port)
        if level == "source":
            text = configuration(ProviderEntry(first.port, source=rules(level, rule)[level]), second.port)
        async with gateway(text, tmp_path) as running:
            first.plays(ERROR)
            client = await running.client()
            client.ask()
            answer = await client.answer()
            assert (answer.status, answer.body, answer.headers["x-kyma-fallback-layer"]) == (200, ANSWER, "1")
            assert (await running.records())[0]["attempts"] == ["p0:422", "p1:answered"]


async def test_without_a_rule_it_is_the_callers(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (running, first, second):
        first.plays(ERROR)
        client = await running.client()
        client.ask()
        assert (await client.answer()).status == 422
        assert second.received == []


@pytest.mark.parametrize("framing", ["length", "chunks", "closed"])
async def test_a_key_that_an_error_quotes_is_starred_out(tmp_path: Path, framing: str) -> None:
    body = b'{"error":{"message":"The parameter authorization: Bearer provider-key-0 is not known"}}'
    async with both(tmp_path) as (running, provider):
        line = b"HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\n"
        if framing == "length":
            provider.plays(whole(body, status="400 Bad"))
        elif framing == "chunks":
            pieces = b"".join(chunk(body[at : at + 7]) for at in range(0, len(body), 7))
            provider.plays(head(status="400 Bad", kind="application/json") + pieces + LAST_CHUNK)
        else:
            provider.plays(line + b"\r\n" + body, CLOSE)
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert answer.status == 400
        assert answer.body == body.replace(b"provider-key-0", b"*" * len(b"provider-key-0"))


@pytest.mark.parametrize("cut", [0, 3, 13])
@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("before", [10, MAX_ERROR_BYTES - 14, MAX_ERROR_BYTES, 3 * MAX_ERROR_BYTES])
async def test_a_key_in_an_error_that_is_too_long_to_be_held_is_starred_out(
    tmp_path: Path, before: int, coding: str, cut: int
) -> None:
    body = b"x" * before + b"provider-key-0" + b"y" * MAX_ERROR_BYTES + b"provider-key-0 provider-key"
    at = before + cut
    pieces = [body[:at], body[at:-12], body[-12:]]
    if coding:
        compressor = zlib.compressobj(wbits=31)
        pieces = [compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH) for piece in pieces] + [compressor.flush()]
    more = f"content-encoding: {coding}\r\n" if coding else ""
    async with both(tmp_path) as (running, provider):
        steps: list[bytes | str] = [head(status="400 Bad", kind="text/plain", more=more)]
        for piece in pieces:
            steps += [chunk(piece), TURN, TURN]
        provider.plays(*steps, LAST_CHUNK)
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert answer.status == 400
        assert answer.body == body.replace(b"provider-key-0", b"*" * len(b"provider-key-0"))


async def test_an_error_that_is_too_long_to_be_read_passes(tmp_path: Path) -> None:
    body = b'{"error":{"message":"' + b"x" * 100_000 + b'"}}'
    async with both(tmp_path) as (running, provider):
        provider.plays(whole(body, status="400 Bad"))
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.body) == (400, body)
