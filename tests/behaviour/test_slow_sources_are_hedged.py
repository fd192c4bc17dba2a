"""A source that is slow to answer is hedged with the next one: the first to answer wins, and the other attempt is cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import CLOSE, DONE, LAST_CHUNK, SILENCE, STREAM, both, chunk, event, gateway, head, providers, whole
from tests.waiting import passes, until

BUSY = whole(b"{}", status="503 Busy")


async def test_a_slow_source_is_overtaken_and_let_go_at_once(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="50ms") as (running, slow, fast):
        slow.plays(SILENCE)
        fast.plays(STREAM)
        client = await running.client()
        client.ask(stream=True)
        answer = await client.answer()
        assert answer.body.endswith(DONE)
        assert answer.headers["x-kyma-fallback-layer"] == "1"
        await until(lambda: slow.open == 0)
        record = (await running.records())[0]
        assert record["attempts"] == ["p0:overtaken", "p1:answered"]
        assert record["ending"] == "completed"


async def test_a_slow_connect_is_hedged_like_a_slow_answer(tmp_path: Path, silent_port: int) -> None:
    async with providers(1) as (fast,):
        text = configuration(silent_port, fast.port, timeouts="{connect: 30s}", hedge_after="50ms")
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            client.ask()
            assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"
            assert (await running.records())[0]["attempts"] == ["p0:overtaken", "p1:answered"]
            await running.is_at_rest()


async def test_an_answer_does_not_wait_for_the_connection_of_its_rival(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with providers(2) as (first, second):  # the second never answers the TLS handshake
        slow = ProviderEntry(f"https://127.0.0.1:{second.port}/v1")
        text = configuration(first.port, slow, timeouts="{connect: 30s}", hedge_after="20ms")
        async with gateway(text, tmp_path) as running:
            first.plays(go, STREAM)
            client = await running.client()
            client.ask(stream=True)
            await until(lambda: second.connections)
            go.set()
            assert (await client.answer()).body.endswith(DONE)
            assert (await running.records())[0]["attempts"] == ["p0:answered", "p1:abandoned"]
            await running.is_at_rest()


async def test_a_source_that_is_overtaken_again_and_again_is_skipped(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="20ms") as (running, hung, _fast):
        client = await running.client()
        for _ in range(4):
            hung.plays(SILENCE)
            client.ask()
            assert (await client.answer()).status == 200
        client.ask()
        await client.answer()
        assert (await running.records(5))[4]["attempts"] == ["p1:answered"]


async def test_a_source_that_begins_in_time_is_not_hedged(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with both(tmp_path, 2, hedge_after="50ms") as (running, first, second):
        first.plays(head() + chunk(event("one")), more, chunk(event("two")) + chunk(DONE) + LAST_CHUNK)
        client = await running.client()
        client.ask(stream=True)
        await client.head()
        assert await client.chunk() == event("one")
        await passes(0.1)  # the delay is over, and nothing has happened
        more.set()
        while await client.chunk():
            pass
        assert second.received == []


async def test_the_first_source_may_still_win_the_race(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with both(tmp_path, 2, hedge_after="50ms") as (running, first, second):
        first.plays(go, STREAM)
        second.plays(SILENCE)
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: second.received)
        go.set()
        answer = await client.answer()
        assert "x-kyma-fallback" not in answer.headers
        await until(lambda: second.open == 0)
        assert (await running.records())[0]["attempts"] == ["p0:answered", "p1:abandoned"]


@pytest.mark.parametrize("loser", [0, 1])
async def test_when_one_of_two_fails_the_other_is_waited_for(tmp_path: Path, loser: int) -> None:
    go, fail = asyncio.Event(), asyncio.Event()
    async with both(tmp_path, 2, hedge_after="50ms") as (running, *made):
        made[loser].plays(fail, BUSY)
        made[1 - loser].plays(go, STREAM)
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: made[1].received)
        fail.set()
        await until(lambda: running.source(loser)["attempts_24h"])
        go.set()
        assert (await client.answer()).body.endswith(DONE)
        results = ["503", "answered"] if loser == 0 else ["answered", "503"]
        assert (await running.records())[0]["attempts"] == [f"p{at}:{result}" for at, result in enumerate(results)]


@pytest.mark.parametrize("ends", ["leave", "drain"])
async def test_the_winner_of_a_race_ends_with_its_caller_or_the_drain_though_its_rival_has_failed(
    tmp_path: Path, ends: str
) -> None:
    go, fail = asyncio.Event(), asyncio.Event()
    async with both(tmp_path, 2, hedge_after="20ms") as (running, first, second):
        first.plays(go, head() + chunk(event("one")), SILENCE)
        second.plays(fail, BUSY)
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: second.received)
        fail.set()
        await until(lambda: running.source(1)["attempts_24h"])
        go.set()
        await client.head()
        assert await client.chunk() == event("one")
        if ends == "leave":
            client.leave()
        else:
            running.drain()
            assert b'"error"' in await client.read_to_end()
        await until(lambda: first.open == 0)
        record = (await running.records())[0]
        assert record["ending"] == {"leave": "client_gone", "drain": "drained"}[ends]
        assert record["attempts"] == ["p0:answered", "p1:503"]


async def test_a_drain_ends_both_attempts_and_the_caller_gets_a_503(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="20ms") as (running, first, second):
        first.plays(SILENCE)
        second.plays(SILENCE)
        client = await running.client()
        client.ask()
        await until(lambda: second.received)
        running.drain()
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (503, "draining")
        await until(lambda: first.open == second.open == 0)
        assert (await running.records())[0]["ending"] == "drained"


async def test_a_404_wins_no_race_and_hides_no_other_failure(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with both(tmp_path, 2, hedge_after="20ms") as (running, slow, wrong):
        slow.plays(go, STREAM)
        wrong.plays(whole(b"{}", status="404 No"))
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: running.source(1)["attempts_24h"])
        go.set()
        assert (await client.answer()).body.endswith(DONE)
        slow.plays(BUSY)
        wrong.plays(whole(b"{}", status="404 No"))
        client.ask()
        assert (await client.answer()).status == 502


async def test_when_both_fail_the_next_source_is_tried_and_then_the_caller_gets_a_502(tmp_path: Path) -> None:
    async with both(tmp_path, 3, hedge_after="50ms") as (running, *made):
        gate = asyncio.Event()
        for provider in made[:2]:
            provider.plays(gate, BUSY)
        made[2].plays(BUSY)
        client = await running.client()
        client.ask()
        await until(lambda: made[1].received)
        gate.set()
        assert (await client.answer()).status == 502
        assert (await running.records())[0]["attempts"] == ["p0:503", "p1:503", "p2:503"]


async def test_a_caller_who_disconnects_ends_both_attempts(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="50ms") as (running, first, second):
        first.plays(SILENCE)
        second.plays(SILENCE)
        client = await running.client()
        client.ask()
        await until(lambda: second.received)
        client.leave()
        await until(lambda: first.open == second.open == 0)
        record = (await running.records())[0]
        assert (record["ending"], record["attempts"]) == ("client_gone", ["p0:abandoned", "p1:abandoned"])


async def test_a_caller_who_disconnects_after_one_of_two_has_failed_ends_the_other(tmp_path: Path) -> None:
    fail = asyncio.Event()
    async with both(tmp_path, 2, hedge_after="50ms") as (running, first, second):
        first.plays(SILENCE)
        second.plays(fail, BUSY)
        client = await running.client()
        client.ask()
        await until(lambda: second.received)
        fail.set()
        await until(lambda: running.source(1)["attempts_24h"])
        client.leave()
        await until(lambda: first.open == 0)
        assert (await running.records())[0]["ending"] == "client_gone"


async def test_an_automatic_delay_is_used_once_enough_answers_are_known(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="auto") as (running, first, second):
        client = await running.client()
        for _ in range(20):
            client.ask()
            await client.answer()
        assert second.received == []
        first.plays(SILENCE)
        client.ask()
        assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"


async def test_a_source_that_was_only_slower_is_tried_when_the_faster_one_fails(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="100ms") as (running, slow, fast):
        client = await running.client()
        for _ in range(4):
            slow.plays(SILENCE)
            client.ask()
            assert (await client.answer()).status == 200
        fast.plays(CLOSE)
        fast.plays(CLOSE)
        client.ask()
        assert (await client.answer()).status == 200
        assert (await running.records(5))[4]["attempts"] == ["p1:broken", "p0:answered"]


async def test_an_error_for_the_caller_blames_no_source_that_was_asked_before(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="20ms") as (running, slow, second):
        slow.plays(SILENCE)
        second.plays(whole(b"{}", status="400 Bad Request"))
        client = await running.client()
        client.ask()
        assert (await client.answer()).status == 400
        assert (await running.records())[0]["attempts"] == ["p0:abandoned", "p1:answered"]
        await until(lambda: slow.open == 0)
        assert running.source(0)["attempts_24h"] == 0
