"""Sound, judgements and sorted documents are held for and charged by the minute, the character, the request or the token."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.accounts_harness import AccountsGateway, accounts_gateway
from tests.configurations import configuration
from tests.harness import CLOSE, Gateway, Provider, chunk, gateway, head, providers, whole
from tests.waiting import until

SOUND = b"\xff\xfb" + b"\x00" * 100
JUDGED = {"results": [{"flagged": False}]}
PRICES = {
    "spoken": "{per_million_characters: 15}",
    "minutes": "{per_minute: 0.015}",
    "tokens": "{input: 0.6, output: 12}",
    "request": "{per_request: 0.002}",
    "judged": "{input: 0.1, output: 0}",
    "free": "{input: 0, output: 0}",
}


def models() -> str:
    return "".join(
        f"  - {{id: {name}, price: {price}, pool: [{{provider: p0, model: x}}]}}\n" for name, price in PRICES.items()
    )


@contextlib.asynccontextmanager
async def metered(directory: Path) -> AsyncIterator[tuple[AccountsGateway, Provider]]:
    async with providers() as (provider,), accounts_gateway(directory, provider.port, models=models()) as made:
        yield made, provider


@contextlib.asynccontextmanager
async def unmetered(directory: Path) -> AsyncIterator[tuple[Gateway, Provider]]:
    async with providers() as (provider,), gateway(configuration(provider.port, models=models()), directory) as running:
        yield running, provider


def speech(model: str, characters: int = 1000) -> tuple[str, dict[str, Any]]:
    return "/v1/audio/speech", {"model": model, "voice": "alloy", "input": "é" * characters}


def rerank(model: str, documents: int) -> tuple[str, dict[str, Any]]:
    return "/v1/rerank", {"model": model, "query": "q", "documents": ["d"] * documents}


def json_answer(document: dict[str, Any]) -> bytes:
    return whole(json.dumps(document).encode())


def spoken_events(**usage: int) -> bytes:
    done = {"type": "speech.audio.done"} | ({"usage": usage} if usage else {})
    events = b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n', b"data: %b\n\n" % json.dumps(done).encode()
    return whole(b"".join(events), kind="text/event-stream")


CASES = [
    # exact: what the request has
    (speech("spoken"), whole(SOUND, kind="audio/mpeg"), 1000 * 15e-6, "reported"),
    (speech("request"), whole(SOUND, kind="audio/mpeg"), 0.002, "reported"),
    (("/v1/moderations", {"model": "request", "input": "x"}), json_answer(JUDGED), 0.002, "reported"),
    # reported by the provider
    (speech("tokens"), spoken_events(input_tokens=1000, output_tokens=2000, total_tokens=3000), 0.0006 + 0.024, "reported"),
    (rerank("request", 250), json_answer({"results": [], "meta": {"billed_units": {"search_units": 7}}}), 0.014, "reported"),
    (rerank("judged", 2), json_answer({"results": [], "usage": {"total_tokens": 5000}}), 0.0005, "reported"),
    (("/v1/moderations", {"model": "judged", "input": "x"}), json_answer(JUDGED | {"usage": {"prompt_tokens": 10_000}}),
     0.001, "reported"),
    # estimated
    (speech("minutes"), whole(SOUND, kind="audio/mpeg"), 66_667 / 60_000 * 0.015, "estimated"),
    (speech("tokens"), spoken_events(), None, "estimated"),
    (rerank("request", 250), json_answer({"results": []}), 0.006, "estimated"),
    # a free model
    (speech("free"), whole(SOUND, kind="audio/mpeg"), 0, "reported"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "answer", "usd", "source"), CASES)
async def test_a_metered_caller_is_charged_what_the_price_says(
    tmp_path: Path, asked: tuple[str, dict[str, Any]], answer: bytes, usd: float | None, source: str
) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(answer)
        caller = await made.caller()
        assert (await caller.ask("POST", *asked)).status == 200
        (record,) = await made.running.records()
        assert record["usage_source"] == source
        if usd is not None:
            assert record["cost_usd"] == pytest.approx(usd, abs=2e-9)
        money = await caller.balance()
        assert money["balance"] == pytest.approx(1 - record["cost_usd"], abs=1e-9)
        assert money["balance"] == money["available"]


@pytest.mark.parametrize(("asked", "answer", "usd", "source"), CASES[:8])
async def test_the_log_of_a_gateway_without_accounts_has_the_same_cost(
    tmp_path: Path, asked: tuple[str, dict[str, Any]], answer: bytes, usd: float, source: str
) -> None:
    async with unmetered(tmp_path) as (running, provider):
        provider.plays(answer)
        client = await running.client()
        client.post(json.dumps(asked[1]).encode(), path=asked[0])
        assert (await client.answer()).status == 200
        (record,) = await running.records()
        assert (record["usage_source"], record["cost_usd"]) == (source, pytest.approx(usd, abs=2e-9))


@pytest.mark.parametrize("asked", [
    speech("spoken", 100_000), speech("minutes", 100_000), speech("tokens", 100_000), rerank("request", 60_000),
])  # fmt: skip
async def test_a_request_that_may_cost_more_than_there_is_reaches_no_source(
    tmp_path: Path, asked: tuple[str, dict[str, Any]]
) -> None:
    async with metered(tmp_path) as (made, provider):
        caller = await made.caller(nano=10**9)
        answer = await caller.ask("POST", *asked)
        assert (answer.status, answer.json["error"]["code"]) == (402, "insufficient_credits")
        assert "max_tokens" not in answer.json["error"]["message"]
        assert provider.received == []
        assert (await caller.balance())["available"] == 1


async def test_an_account_without_money_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    async with providers() as (provider,):
        text = models().replace("  - {id: free, price: {input: 0, output: 0}, pool: [{provider: p0, model: x}]}\n", "")
        async with accounts_gateway(tmp_path, provider.port, models=text) as made:
            caller = await made.caller(nano=0)
            assert (await caller.ask("POST", *speech("spoken", 1))).status == 402


@pytest.mark.parametrize(("answer", "status"), [
    (whole(b'{"error":{"message":"no such voice"}}', status="400 Bad Request"), 400),
    (whole(b"{}", status="500 Internal Server Error"), 502),
    (whole(b'{"detail":"queued"}'), 502),
])  # fmt: skip
async def test_what_is_no_answer_costs_nothing(tmp_path: Path, answer: bytes, status: int) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(answer)
        caller = await made.caller()
        assert (await caller.ask("POST", *speech("spoken"))).status == status
        assert (await caller.balance())["available"] == 1


async def test_sound_that_its_source_broke_off_costs_nothing(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(head(kind="audio/mpeg") + chunk(SOUND), CLOSE)
        caller, other = await made.caller(), await made.running.client()
        path, document = speech("spoken")
        other.post(json.dumps(document).encode(), path=path, more=f"authorization: Bearer {caller.secret}\r\n")
        await other.read_to_end()
        (record,) = await made.running.records()
        assert (record["ending"], record["cost_usd"]) == ("broken", 0)
        assert (await caller.balance())["available"] == 1


async def test_a_caller_who_leaves_pays_for_what_was_asked_for(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays("silence")
        caller, other = await made.caller(), await made.running.client()
        path, document = speech("spoken")
        other.post(json.dumps(document).encode(), path=path, more=f"authorization: Bearer {caller.secret}\r\n")
        await until(lambda: bool(provider.received))
        other.leave()
        (record,) = await made.running.records()
        assert (record["ending"], record["usage_source"]) == ("client_gone", "reported")
        assert (await caller.balance())["available"] == pytest.approx(1 - 1000 * 15e-6)
