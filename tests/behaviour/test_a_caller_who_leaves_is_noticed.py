"""A caller who leaves: the provider's connection is closed at once, and nothing stays behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.laboratory import OK, both, chunk, event, head, until


async def test_before_the_answer_begins(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(asyncio.Event())
        client = await gateway.client()
        client.ask(stream=True)
        await until(lambda: provider.received)
        client.leave()
        await until(lambda: provider.open == 0)
        record = (await gateway.records())[0]
        assert (record["ending"], record["status"]) == ("client_gone", 499)


async def test_in_mid_stream(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(event("one")), asyncio.Event())
        client = await gateway.client()
        client.ask(stream=True)
        await client.head()
        await client.chunk()
        client.leave()
        await until(lambda: provider.open == 0)
        record = (await gateway.records())[0]
        assert (record["ending"], record["status"]) == ("client_gone", 200)


async def test_by_closing_its_sending_half(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(event("one")), asyncio.Event())
        client = await gateway.client()
        client.ask(stream=True)
        await client.head()
        client.writer.write_eof()
        await until(lambda: provider.open == 0)
        assert (await gateway.records())[0]["ending"] == "client_gone"


async def test_while_a_connection_is_being_opened(tmp_path: Path) -> None:
    listening = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, backlog=1)
    listening.close()  # the port is known and nobody answers there; 10.255.255.1 would leave this machine
    async with both(tmp_path) as (gateway, provider):
        provider.plays(OK)
        client = await gateway.client()
        client.ask()
        client.leave()
        await until(lambda: not gateway.house.door.edges)
        await gateway.is_at_rest()


async def test_in_the_middle_of_its_request(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        await until(lambda: gateway.house.door.edges)
        client.leave()
        await until(lambda: not gateway.house.door.edges)
        assert provider.received == []


async def test_a_hundred_at_once_leave_nothing_behind(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        never = asyncio.Event()
        clients = []
        for _ in range(100):
            provider.plays(head() + chunk(event("one")), never)
            client = await gateway.client()
            client.ask(stream=True)
            clients.append(client)
        for client in clients:
            await client.head()
        for client in clients:
            client.leave()
        await until(lambda: provider.open == 0)
        records = await gateway.records(100)
        assert {record["ending"] for record in records} == {"client_gone"}
