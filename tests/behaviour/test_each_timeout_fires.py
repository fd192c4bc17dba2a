"""Four timeouts: connect, first byte, idle, total. Each fires, and before the first byte each leads to the next source."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import CLOSE, DONE, LAST_CHUNK, SILENCE, both, chunk, event, gateway, head, providers
from tests.waiting import passes


async def test_the_connect_timeout_of_the_only_source_is_a_504(tmp_path: Path, silent_port: int) -> None:
    text = configuration(silent_port, timeouts="{connect: 200ms, first_byte: 10s, idle: 10s}")
    async with gateway(text, tmp_path) as running:
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (504, "provider_timeout")
        assert (await running.records())[0]["attempts"] == ["p0:connect_timeout"]


async def test_a_connect_timeout_leads_to_the_next_source(tmp_path: Path, silent_port: int) -> None:
    async with providers() as (second,):
        text = configuration(silent_port, second.port, timeouts="{connect: 200ms, first_byte: 10s, idle: 10s}")
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            client.ask()
            assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\n", head(), head() + chunk(b'data: {"a"')])
async def test_a_first_byte_timeout_leads_to_the_next_source(tmp_path: Path, begins: bytes) -> None:
    timeouts = "{connect: 2s, first_byte: 200ms, idle: 10s}"
    async with both(tmp_path, 2, timeouts=timeouts) as (running, first, _second):
        first.plays(begins, SILENCE)
        client = await running.client()
        client.ask(stream=True)
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "1")
        record = (await running.records())[0]
        assert record["attempts"] == ["p0:first_byte_timeout", "p1:answered"]
        assert record["ttft_ms"] >= 200


async def test_the_first_byte_timeout_of_the_only_source_is_a_504(tmp_path: Path) -> None:
    async with both(tmp_path, timeouts="{connect: 2s, first_byte: 200ms, idle: 10s}") as (running, provider):
        provider.plays(SILENCE)
        client = await running.client()
        client.ask()
        assert (await client.answer()).json["error"]["code"] == "provider_timeout"


async def test_the_idle_timeout_breaks_a_silent_stream(tmp_path: Path) -> None:
    async with both(tmp_path, timeouts="{connect: 2s, first_byte: 10s, idle: 200ms}") as (running, provider):
        provider.plays(head() + chunk(event("one")), SILENCE)
        client = await running.client()
        client.ask(stream=True)
        await client.head()
        assert await client.chunk() == event("one")
        assert b"silent for 0.2 s" in await client.chunk()
        assert await client.read_to_end() == b""
        assert (await running.records())[0]["ending"] == "broken"


async def test_the_idle_timeout_does_not_fire_while_events_come(tmp_path: Path) -> None:
    gates = [asyncio.Event() for _ in range(8)]
    async with both(tmp_path, timeouts="{connect: 2s, first_byte: 10s, idle: 400ms}") as (running, provider):
        steps: list[bytes | asyncio.Event] = [head()]
        for gate in gates:
            steps += [chunk(event("x")), gate]
        provider.plays(*steps, chunk(DONE) + LAST_CHUNK)
        client = await running.client()
        client.ask(stream=True)
        await client.head()
        for gate in gates:
            await client.chunk()
            asyncio.get_running_loop().call_later(0.1, gate.set)
        assert await client.chunk() == DONE
        assert await client.chunk() == b""


async def test_the_total_timeout_of_one_source_leads_to_the_next(tmp_path: Path) -> None:
    async with providers(2) as (silent, second):
        silent.plays(SILENCE)
        text = configuration(ProviderEntry(silent.port, source="timeouts: {total: 200ms}"), second.port)
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            client.ask()
            assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"
            assert (await running.records())[0]["attempts"] == ["p0:total_timeout", "p1:answered"]


async def test_the_total_timeout_ends_the_whole_request(tmp_path: Path) -> None:
    timeouts = "{connect: 2s, first_byte: 10s, idle: 10s, total: 300ms}"
    async with both(tmp_path, 2, timeouts=timeouts) as (running, first, second):
        first.plays(SILENCE)
        client = await running.client()
        client.ask()
        assert (await client.answer()).status == 504
        assert second.received == []  # no time is left for another
        first.plays(head() + chunk(event("one")), SILENCE)
        client.ask(stream=True)
        await client.head()
        await client.chunk()
        assert b"took too long" in await client.chunk()


async def test_no_timeout_of_a_finished_request_is_left_to_fire(tmp_path: Path) -> None:
    async with both(tmp_path, timeouts="{connect: 2s, first_byte: 150ms, idle: 150ms}") as (running, provider):
        client = await running.client()
        client.ask()
        await client.answer()
        provider.plays(head() + chunk(event("x")) + chunk(DONE) + LAST_CHUNK, CLOSE)
        await passes(0.3)
        assert provider.open == 1  # the idle connection has outlived both timers
        client.ask(stream=True)
        assert (await client.answer()).status == 200


async def test_a_connection_that_the_total_timeout_ends_is_no_failure_to_connect(tmp_path: Path, silent_port: int) -> None:
    text = configuration(silent_port, timeouts="{connect: 10s, first_byte: 10s, idle: 10s, total: 200ms}")
    async with gateway(text, tmp_path) as running:
        client = await running.client()
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (504, "provider_timeout")
        assert (await running.records())[0]["attempts"] == ["p0:total_timeout"]


async def test_an_idle_timeout_that_is_over_before_the_hold_fires_when_the_hold_ends(tmp_path: Path) -> None:
    timeouts = "{connect: 2s, first_byte: 10s, idle: 100ms}"
    async with both(tmp_path, timeouts=timeouts, hold="300ms") as (running, provider):
        provider.plays(head() + chunk(b": waiting\n\n"), SILENCE)
        client = await running.client()
        client.ask(stream=True)
        assert b"silent for 0.1 s" in await client.read_to_end()
        assert (await running.records())[0]["ending"] == "broken"
        await running.is_at_rest()
