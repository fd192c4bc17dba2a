"""A large form is passed on while it comes, in bounded memory, to one source, which never gets all of a bad one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.accounts_harness import accounts_gateway
from tests.configurations import ProviderEntry, configuration
from tests.forms import end, field, file, form_type
from tests.harness import Client, Gateway, both, gateway, providers, whole
from tests.waiting import PATIENCE_S, until

TRANSCRIPT = b'{"text":"hello"}'
SIZE = 25 * 2**20
SOUND = hashlib.shake_256(b"sound").digest(2**20) * 25
PATH = "/v1/audio/transcriptions"
FIRST = field("model", b"m") + file(SOUND) + end()
LAST = file(SOUND) + field("model", b"m") + end()
HELD = 2 * 2**20
"""More than a gateway holds of a form beyond its beginning."""


class Taker:
    """A source that reads a request as far as it is let, and answers when it is told to."""

    def __init__(self) -> None:
        self.port = 0
        self.got = bytearray()
        self.may_read = asyncio.Event()
        self.answer: bytes | None = whole(TRANSCRIPT)
        self.requests = 0
        self.is_gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(self.got) < length:
                await self.may_read.wait()
                piece = await reader.read(65536)
                if not piece:
                    return
                self.got += piece
            if self.answer is not None:
                writer.write(self.answer)
            await reader.read(1)
        except ConnectionError:
            pass
        finally:
            self.is_gone.set()
            writer.close()


class Between(NamedTuple):
    gateway: Gateway
    taker: Taker
    client: Client


@contextlib.asynccontextmanager
async def taking() -> AsyncIterator[Taker]:
    taker = Taker()
    server = await asyncio.start_server(taker.serve, "127.0.0.1", 0, limit=65536)
    taker.port = server.sockets[0].getsockname()[1]
    try:
        yield taker
    finally:
        server.close()


@contextlib.asynccontextmanager
async def between(directory: Path, *, more: str = "", timeouts: str = "{first_byte: 10s, idle: 10s}") -> AsyncIterator[Between]:
    async with taking() as taker, gateway(configuration(taker.port, more=more, timeouts=timeouts), directory) as running:
        yield Between(running, taker, await running.client())


def begin(client: Client, body: bytes, *, size: int | None = None, more: str = "") -> None:
    length = len(body) if size is None else size
    client.send(f"POST {PATH} HTTP/1.1\r\nhost: a\r\n{form_type()}{more}content-length: {length}\r\n\r\n".encode() + body)


async def test_the_source_gets_the_beginning_before_the_caller_has_sent_the_end(tmp_path: Path) -> None:
    async with between(tmp_path) as (running, taker, client):
        taker.may_read.set()
        begin(client, FIRST[: 3 * 2**20], size=len(FIRST))
        await until(lambda: len(taker.got) > 2**21)
        assert len(running.uploads) == 1
        client.send(FIRST[3 * 2**20 :])
        answer = await client.answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, TRANSCRIPT, "close")
        assert bytes(taker.got) == FIRST.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nreal-0\r\n", 1)
        (record,) = await running.records()
        assert (record["ending"], record["bytes_in"]) == ("completed", len(FIRST))


async def test_a_source_that_takes_nothing_stops_the_caller_and_fills_no_memory(tmp_path: Path) -> None:
    async with between(tmp_path) as (running, taker, client):
        begin(client, FIRST)
        await until(lambda: bool(running.uploads) and running.uploads[0].is_full)
        (upload,) = running.uploads
        assert upload.form.size < SIZE
        assert upload.most_held < HELD
        taker.may_read.set()
        assert (await client.answer()).body == TRANSCRIPT
        assert hashlib.sha256(taker.got).digest() == hashlib.sha256(FIRST.replace(b"\nm\r", b"\nreal-0\r", 1)).digest()
        assert upload.most_held < HELD


async def test_a_form_that_names_its_model_behind_the_file_is_held_and_has_every_source(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (running, first, second):
        first.plays(whole(b"{}", status="500 Internal Server Error"))
        second.plays(whole(TRANSCRIPT))
        client = await running.client()
        begin(client, LAST)
        answer = await client.answer()
        assert (answer.body, answer.headers["x-kyma-fallback-layer"]) == (TRANSCRIPT, "1")
        assert second.received[0].body == LAST[:-200] + LAST[-200:].replace(b"\nm\r", b"\nreal-1\r")


async def test_a_source_that_can_not_be_reached_leads_to_the_next(tmp_path: Path) -> None:
    async with taking() as taker:
        taker.may_read.set()
        closed = ProviderEntry("http://127.0.0.1:1/v1")
        async with gateway(configuration(closed, taker.port), tmp_path) as running:
            client = await running.client()
            begin(client, FIRST)
            answer = await client.answer()
            assert (answer.body, answer.headers["x-kyma-fallback-layer"]) == (TRANSCRIPT, "1")


@pytest.mark.parametrize("answer", [
    whole(b"{}", status="503 Service Unavailable"), whole(b"{}", status="429 Too Many Requests"), whole(b"{}"),
])  # fmt: skip
async def test_a_source_that_fails_once_it_was_sent_the_form_is_the_only_one(tmp_path: Path, answer: bytes) -> None:
    async with taking() as taker, providers() as (other,):
        taker.may_read.set()
        taker.answer = answer
        async with gateway(configuration(taker.port, other.port), tmp_path) as running:
            client = await running.client()
            begin(client, FIRST)
            refused = await client.answer()
            assert refused.status in (429, 502)
            assert "no other source can be asked; send it again" in refused.json["error"]["message"]
            assert other.received == []
            assert (await running.records())[0]["ending"] == "failed"


async def test_an_error_that_comes_before_the_form_was_sent_reaches_the_caller(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        provider.plays(whole(b"{}"))
        client = await running.client()
        begin(client, FIRST.replace(b"\nm\r", b"\nunknown\r", 1))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        assert provider.received == []


BAD_ENDS = {
    "a second model": field("model", b"n") + end(),
    "no last boundary": b"x" * 100,
    "more behind the end": end() + b"more",
    "a broken part": b"--nonsense\r\n\r\n" + field("model*", b"x").replace(b'name="', b"name=") + end(),
}


@pytest.mark.parametrize("bad", BAD_ENDS.values(), ids=BAD_ENDS)
async def test_no_source_gets_all_of_a_form_that_turns_out_to_be_bad(tmp_path: Path, bad: bytes) -> None:
    async with between(tmp_path) as (running, taker, client):
        taker.may_read.set()
        body = FIRST[: -len(end())] + bad
        begin(client, body)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
        await asyncio.wait_for(taker.is_gone.wait(), PATIENCE_S)
        assert len(taker.got) < len(body)
        (record,) = await running.records()
        assert (record["ending"], record["attempts"]) == ("rejected", ["p0:abandoned"])
        assert running.source()["breaker"] == "closed"


async def test_a_caller_who_leaves_in_the_middle_leaves_the_source_with_a_part(tmp_path: Path) -> None:
    async with between(tmp_path) as (running, taker, client):
        taker.may_read.set()
        begin(client, FIRST[: 3 * 2**20], size=len(FIRST))
        await until(lambda: len(taker.got) > 2**21)
        client.leave()
        await asyncio.wait_for(taker.is_gone.wait(), PATIENCE_S)
        assert len(taker.got) < len(FIRST)
        assert (await running.records())[0]["ending"] == "client_gone"


async def test_a_form_is_passed_on_over_tls_as_well(tmp_path: Path) -> None:
    authority = trustme.CA()
    server, caller = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(caller)
    async with taking() as taker, gateway(configuration(taker.port), tmp_path, tls=server) as running:
        opened = await asyncio.open_connection("127.0.0.1", running.port, ssl=caller, server_hostname="localhost")
        client = running.adopt(Client(*opened))
        begin(client, FIRST)
        await until(lambda: bool(running.uploads) and running.uploads[0].is_full)
        (upload,) = running.uploads
        taker.may_read.set()
        assert (await client.answer()).body == TRANSCRIPT
        assert bytes(taker.got) == FIRST.replace(b"\nm\r", b"\nreal-0\r", 1)
        assert upload.most_held < HELD


async def test_a_caller_who_is_too_slow_is_told_so_and_the_source_is_not_blamed(tmp_path: Path) -> None:
    more = "limits: {body_timeout: 200ms}\n"
    async with between(tmp_path, more=more, timeouts="{first_byte: 50ms, idle: 50ms}") as (running, taker, client):
        taker.may_read.set()
        begin(client, FIRST[: 3 * 2**20], size=len(FIRST))
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (408, "request_timeout")
        await asyncio.wait_for(taker.is_gone.wait(), PATIENCE_S)
        (record,) = await running.records()
        assert (record["ending"], record["attempts"]) == ("rejected", ["p0:abandoned"])
        assert running.source()["breaker"] == "closed"


async def test_a_source_that_takes_nothing_for_too_long_is_blamed_and_not_the_caller(tmp_path: Path) -> None:
    more = "limits: {body_timeout: 100ms}\n"
    async with between(tmp_path, more=more, timeouts="{first_byte: 400ms}") as (running, _, client):
        begin(client, FIRST)
        answer = await client.answer()
        assert answer.status in (502, 504)
        assert (await running.records())[0]["attempts"] == ["p0:first_byte_timeout"]


async def test_a_metered_form_costs_what_was_transcribed_and_nothing_if_it_did_not_come(tmp_path: Path) -> None:
    models = "  - {id: w, price: {per_minute: 0.006}, pool: [{provider: p0, model: x}]}\n"
    body = FIRST.replace(b"\nm\r", b"\nw\r", 1)
    async with taking() as taker:
        taker.may_read.set()
        taker.answer = whole(b'{"text":"x","duration":600}')
        async with accounts_gateway(tmp_path, taker.port, models=models) as made:
            caller = await made.caller(nano=2 * 10**9)
            credential = f"authorization: Bearer {caller.secret}\r\n"
            begin(caller.client, body, more=credential)
            assert (await caller.client.answer()).status == 200
            other = await made.running.client()
            begin(other, body[: 3 * 2**20], size=len(body), more=credential)
            await until(lambda: taker.requests == 2)
            other.leave()
            records = await made.running.records(2)
            assert [record["cost_usd"] for record in records] == [0.06, 0]
            asking = await made.someone(caller.secret)
            money = await asking.balance()
            assert (money["balance"], money["available"]) == (pytest.approx(1.94), pytest.approx(1.94))
