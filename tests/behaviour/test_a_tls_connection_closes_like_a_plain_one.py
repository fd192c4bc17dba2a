"""TLS has no half-closed connections; the last answer is sent whole all the same, though more requests have come behind it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.configurations import configuration
from tests.harness import ANSWER, OK, Client, Gateway, Provider, gateway, providers
from tests.waiting import until

AUTHORITY = trustme.CA()
ASK = b'POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n%bcontent-length: 13\r\n\r\n{"model":"m"}'


@asynccontextmanager
async def over_tls(directory: Path) -> AsyncIterator[tuple[Gateway, Provider, Client]]:
    """A gateway behind TLS, and a caller of it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(server)
    caller = ssl.create_default_context()
    AUTHORITY.configure_trust(caller)
    async with providers() as (provider,), gateway(configuration(provider.port), directory, tls=server) as running:
        opened = await asyncio.open_connection("127.0.0.1", running.port, ssl=caller, server_hostname="localhost")
        yield running, provider, running.adopt(Client(*opened))


@pytest.mark.parametrize("behind", [ASK % b"", b"GET /v1/health HTTP/1.1\r\nhost: a\r\n\r\n", b"\0"])
async def test_the_last_answer_on_a_tls_connection_arrives_whole_though_more_requests_were_sent(
    tmp_path: Path, behind: bytes
) -> None:
    async with over_tls(tmp_path) as (running, provider, client):
        answer_now = asyncio.Event()
        provider.plays(answer_now, OK)
        client.send(ASK % b"connection: close\r\n")
        await until(lambda: provider.received)
        client.send(behind * 3)
        await client.is_read()
        answer_now.set()
        assert (await client.answer()).body == ANSWER
        assert await client.read_to_end() == b""
        (record,) = await running.records()
        assert record["ending"] == "completed"


@pytest.mark.parametrize("bad", [b"garbage\r\n\r\n", b"POST /v1/messages HTTP/1.1\r\n\r\n"])
async def test_a_malformed_request_over_tls_gets_its_400_before_the_close(tmp_path: Path, bad: bytes) -> None:
    async with over_tls(tmp_path) as (running, _, client):
        client.send(bad)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await client.read_to_end() == b""
        (record,) = await running.records()
        assert record["ending"] == "rejected"
