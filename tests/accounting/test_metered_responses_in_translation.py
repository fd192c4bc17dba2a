"""A metered caller of Responses whose source speaks something else pays what the source reported, or what was delivered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.accounts_harness import AccountsGateway, accounts_gateway
from tests.behaviour.translation import STREAMS, WHOLE_ANSWERS
from tests.configurations import ProviderEntry
from tests.harness import CLOSE, LAST_CHUNK, Provider, chunk, head, providers, whole

COST = (7 * 1 + 3 * 2) / 1e6  # of 7 and 3 tokens, in US dollars, at 1 and 2 a million
REQUEST = {"model": "m", "input": "hello"}
PATHS = ["/v1/responses", "/v1/chat/completions"]
"""At the second the body is at the wrong endpoint, and metered as what it is."""


@asynccontextmanager
async def metered(directory: Path, speaks: str) -> AsyncIterator[tuple[AccountsGateway, Provider]]:
    """A gateway with accounts, and its one provider, which has no Responses."""
    more = "endpoints: [chat]" if speaks == "openai" else ""
    async with providers(1) as (provider,):
        entry = ProviderEntry(provider.port, dialect=speaks, more=more)
        async with accounts_gateway(directory, entry) as running:
            yield running, provider


async def settled(running: AccountsGateway, caller: Any) -> tuple[float, dict[str, Any]]:
    """What a caller has paid, in US dollars, and the record of its only request."""
    (record,) = [one for one in await running.running.records() if one["endpoint"] == "responses"]
    money = await caller.balance()
    assert money["held"] == 0
    return round(1 - money["balance"], 9), record


@pytest.mark.parametrize("speaks", STREAMS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("streams", [False, True])
async def test_a_translated_response_costs_what_its_source_reported(
    tmp_path: Path, speaks: str, path: str, streams: bool
) -> None:
    async with metered(tmp_path, speaks) as (running, provider):
        provider.plays(head() + b"".join(map(chunk, STREAMS[speaks])) + LAST_CHUNK if streams else WHOLE_ANSWERS[speaks])
        caller = await running.caller()
        answer = await caller.ask("POST", path, REQUEST | {"stream": streams})
        assert answer.status == 200
        usage = json.loads(answer.body.split(b"data: ")[-1])["response"]["usage"] if streams else answer.json["usage"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (7, 3)
        paid, record = await settled(running, caller)
        assert (paid, record["cost_usd"], record["usage_source"]) == (COST, COST, "reported")
        assert b"stream_options" in provider.received[0].body or not streams or speaks == "anthropic"


@pytest.mark.parametrize("speaks", STREAMS)
async def test_a_translated_response_that_breaks_off_costs_what_was_delivered(tmp_path: Path, speaks: str) -> None:
    async with metered(tmp_path, speaks) as (running, provider):
        provider.plays(head() + b"".join(map(chunk, STREAMS[speaks][: 4 if speaks == "anthropic" else 2])), CLOSE)
        caller = await running.caller()
        body = json.dumps(REQUEST | {"stream": True}).encode()
        caller.client.post(body, path=PATHS[0], more=f"authorization: Bearer {caller.secret}\r\n")
        await caller.client.head()
        await caller.client.read_to_end()
        caller.client = await running.running.client()
        paid, record = await settled(running, caller)
        assert (record["ending"], record["usage_source"]) == ("broken", "estimated")
        assert 0 < paid < 1e-3


@pytest.mark.parametrize("speaks", STREAMS)
async def test_a_response_that_no_source_gives_costs_nothing(tmp_path: Path, speaks: str) -> None:
    async with metered(tmp_path, speaks) as (running, provider):
        provider.plays(whole(b'{"error":{"message":"no"}}', status="400 Bad Request"))
        caller = await running.caller()
        assert (await caller.ask("POST", PATHS[0], REQUEST)).status == 400
        paid, record = await settled(running, caller)
        assert (paid, record["ending"]) == (0, "relayed_error")


async def test_a_limit_of_the_answers_tokens_bounds_what_is_held(tmp_path: Path) -> None:
    async with metered(tmp_path, "openai") as (running, provider):
        caller = await running.caller(nano=50_000)  # enough for the prompt and 10 tokens, but not for 4096
        assert (await caller.ask("POST", PATHS[0], REQUEST)).status == 402
        provider.plays(WHOLE_ANSWERS["openai"])
        assert (await caller.ask("POST", PATHS[0], REQUEST | {"max_output_tokens": 10})).status == 200
        assert json.loads(provider.received[0].body)["max_tokens"] == 10
