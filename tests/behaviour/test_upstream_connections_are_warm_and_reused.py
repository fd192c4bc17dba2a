"""Connections to providers are opened ahead, reused newest first, and closed before the provider would close them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.configurations import ProviderEntry, configuration
from tests.harness import CLOSE, OK, SILENCE, Client, Gateway, Provider, gateway, providers
from tests.waiting import until


@contextlib.asynccontextmanager
async def warmed(directory: Path, count: int, keep_alive: str = "30s") -> AsyncIterator[tuple[Gateway, Provider]]:
    async with providers() as (provider,):
        text = configuration(ProviderEntry(provider.port, warm_connections=count, more=f"keep_alive: {keep_alive}"))
        async with gateway(text, directory) as running:
            yield running, provider


async def held(running: Gateway, provider: Provider) -> tuple[Client, asyncio.Event]:
    """A caller whose request is at the provider, which answers once the event is set."""
    go_on, before = asyncio.Event(), len(provider.received)
    provider.plays(go_on, OK)
    client = await running.client()
    client.ask()
    await until(lambda: len(provider.received) > before)
    return client, go_on


async def test_warm_connections_are_open_before_the_first_request(tmp_path: Path) -> None:
    async with warmed(tmp_path, 2) as (running, provider):
        await until(lambda: running.upstreams == {"open": 2, "idle": 2})
        assert provider.received == []
        for _ in range(3):
            client = await running.client()
            client.ask()
            assert (await client.answer()).status == 200
        assert provider.connections == 2


async def test_the_connection_that_was_used_last_is_reused_first(tmp_path: Path) -> None:
    async with warmed(tmp_path, 2) as (running, provider):
        await until(lambda: running.upstreams["idle"] == 2)
        for last in (0, 1):
            pair = [await held(running, provider) for _ in range(2)]
            used = [received.connection for received in provider.received[-2:]]
            assert sorted(used) == [1, 2]
            for client, go_on in (pair[1 - last], pair[last]):
                go_on.set()
                assert (await client.answer()).status == 200
            client.ask()
            assert (await client.answer()).status == 200
            assert provider.received[-1].connection == used[last]


async def test_an_idle_upstream_connection_is_closed_in_time(tmp_path: Path) -> None:
    async with warmed(tmp_path, 0, "200ms") as (running, provider):
        client = await running.client()
        client.ask()
        assert (await client.answer()).status == 200
        assert provider.open == 1
        await until(lambda: provider.open == 0)
        client.ask()
        assert (await client.answer()).status == 200
        assert provider.connections == 2


async def test_warm_connections_are_replaced_one_for_one(tmp_path: Path) -> None:
    async with warmed(tmp_path, 3, "100ms") as (running, provider):
        most = 0

        def have_aged() -> bool:
            nonlocal most
            most = max(most, running.upstreams["open"])
            return provider.connections >= 12

        await until(have_aged)
        assert most <= 3


async def test_a_connection_that_the_provider_closed_is_not_reused(tmp_path: Path) -> None:
    async with warmed(tmp_path, 0) as (running, provider):
        provider.plays(OK, CLOSE)
        client = await running.client()
        client.ask()
        assert (await client.answer()).status == 200
        await until(lambda: running.upstreams["open"] == 0)
        client.ask()
        assert (await client.answer()).status == 200
        assert [received.connection for received in provider.received] == [1, 2]


async def test_a_caller_may_disconnect_at_any_moment_of_a_dial(tmp_path: Path) -> None:
    async with warmed(tmp_path, 0) as (running, provider):
        for turns in range(60):
            provider.plays(SILENCE)
            client = await running.client()
            client.ask()
            for _ in range(turns % 30):
                await asyncio.sleep(0)
            client.leave()
            await until(lambda: not running.connections)
            await running.is_at_rest()
            await until(lambda: provider.open == running.upstreams["open"])
        assert 0 < len(provider.received) < 60  # some left before their request was sent, some after
