"""When a caller disconnects, the connection to the provider is closed at once, and nothing is left over."""

from __future__ import annotations

from pathlib import Path

from tests.configurations import configuration
from tests.harness import SILENCE, both, chunk, event, gateway, head
from tests.waiting import until


async def test_a_caller_who_disconnects_before_the_answer_ends_the_upstream_request(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        provider.plays(SILENCE)
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: provider.received)
        client.leave()
        await until(lambda: provider.open == 0)
        record = (await running.records())[0]
        assert (record["ending"], record["status"]) == ("client_gone", 499)


async def test_a_caller_who_disconnects_in_mid_stream_ends_the_upstream_request(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        provider.plays(head() + chunk(event("one")), SILENCE)
        client = await running.client()
        client.ask(stream=True)
        await client.head()
        await client.chunk()
        client.leave()
        await until(lambda: provider.open == 0)
        record = (await running.records())[0]
        assert (record["ending"], record["status"]) == ("client_gone", 200)


async def test_a_caller_who_closes_its_sending_half_counts_as_disconnected(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        provider.plays(head() + chunk(event("one")), SILENCE)
        client = await running.client()
        client.ask(stream=True)
        await client.head()
        client.writer.write_eof()
        await until(lambda: provider.open == 0)
        assert (await running.records())[0]["ending"] == "client_gone"


async def test_a_caller_who_disconnects_during_the_dial_ends_the_dial(tmp_path: Path, silent_port: int) -> None:
    async with gateway(configuration(silent_port, timeouts="{connect: 30s}"), tmp_path) as running:
        client = await running.client()
        client.ask()
        await until(lambda: running.in_flight)
        client.leave()
        record = (await running.records())[0]
        assert (record["ending"], record["attempts"]) == ("client_gone", ["p0:abandoned"])
        await running.is_at_rest()


async def test_a_caller_who_disconnects_in_the_middle_of_its_request_leaves_nothing_behind(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        client = await running.client()
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        await until(lambda: running.connections)
        client.leave()
        await until(lambda: not running.connections)
        assert provider.received == []


async def test_a_hundred_callers_who_disconnect_at_once_leave_nothing_behind(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        clients = []
        for _ in range(100):
            provider.plays(head() + chunk(event("one")), SILENCE)
            client = await running.client()
            client.ask(stream=True)
            clients.append(client)
        for client in clients:
            await client.head()
        for client in clients:
            client.leave()
        await until(lambda: provider.open == 0)
        records = await running.records(100)
        assert {record["ending"] for record in records} == {"client_gone"}
