"""A caller who is slower than the limits allow is disconnected; one who is merely slow gets every byte, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from kyma_proxy.net.downstream.connection import DownstreamConnection
from tests.harness import ANSWER, LAST_CHUNK, OK, Client, Gateway, both, chunk, head, whole
from tests.waiting import passes, until

PIECE = b'{"choices":[],"usage":{}}      ' * 8192
PIECES = 200
HEAD = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\n"


async def narrow_client(gateway: Gateway) -> Client:
    """A caller whose socket buffers little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", gateway.port))
    return gateway.adopt(Client(*await asyncio.open_connection(sock=sock, limit=1024)))


async def is_steady(number: Callable[[], int]) -> None:
    """Wait until a number has been the same fifty times in a row."""
    numbers: list[int] = []

    def looks_steady() -> bool:
        numbers.append(number())
        return len(numbers) > 50 and len(set(numbers[-50:])) == 1

    await until(looks_steady)


async def trickle(client: Client, enough: asyncio.Event) -> None:
    """Send one byte after the other until the event is set."""
    while not enough.is_set():
        client.send(b" ")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await enough.wait()


@pytest.mark.parametrize("framing", [b"content-length: 1000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n100000\r\n"])
async def test_a_body_that_trickles_in_is_a_408(tmp_path: Path, framing: bytes) -> None:
    async with both(tmp_path, more="limits: {body_timeout: 200ms}\n") as (gateway, provider):
        client = await gateway.client()
        client.send(HEAD + framing)
        enough = asyncio.Event()
        trickling = asyncio.create_task(trickle(client, enough))
        answer = await client.answer()
        enough.set()
        await trickling
        assert answer.status == 408
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert "body" in answer.json["error"]["message"]
        assert answer.headers["connection"] == "close"
        assert await client.read_to_end() == b""
        (record,) = await gateway.records()
        assert (record["status"], record["ending"]) == (408, "rejected")
        assert not provider.received


async def test_the_body_timeout_does_not_run_while_the_caller_waits_for_the_gateway(tmp_path: Path) -> None:
    """The caller had to wait for the gateway, and that time does not count."""
    async with both(tmp_path, more="limits: {body_timeout: 300ms, head_timeout: 300ms}\n") as (gateway, provider):
        late, answer_late = asyncio.Event(), OK
        provider.plays(late, answer_late)
        body = b'{"model":"m","x":"' + b"y" * 300_000 + b'"}'
        client = await gateway.client()
        one = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b"
        client.send(one % (13, b'{"model":"m"}') + one % (len(body), body[:1000]))
        await until(lambda: provider.received)
        await passes(0.5)
        late.set()
        assert (await client.answer()).body == ANSWER
        client.send(body[1000:])
        assert (await client.answer()).status == 200
        assert provider.received[1].body == body.replace(b'"m"', b'"real-0"')


async def test_an_idle_caller_connection_is_closed(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {keep_alive: 200ms, head_timeout: 10s}\n") as (gateway, _):
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).status == 200
        assert await client.read_to_end() == b""
        await until(lambda: not gateway.connections)
        assert len(await gateway.records()) == 1


async def test_a_connection_without_a_request_is_closed(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {head_timeout: 200ms}\n") as (gateway, _):
        client = await gateway.client()
        assert await client.read_to_end() == b""


@pytest.mark.parametrize(
    "begins", [head(kind="application/json"), head(), whole(b"")[:-4].replace(b": 0", b": 52428800") + b"\r\n\r\n"]
)
async def test_a_caller_who_never_reads_is_disconnected(tmp_path: Path, begins: bytes) -> None:
    async with both(tmp_path, more="limits: {write_timeout: 300ms}\n") as (gateway, provider):
        piece = chunk(PIECE) if b"chunked" in begins else PIECE
        provider.plays(begins, *[piece] * PIECES)
        client = await narrow_client(gateway)
        client.ask()
        (record,) = await gateway.records()
        assert record["ending"] == "client_gone"
        assert record["provider"] == "p0"
        await until(lambda: provider.open == 0)
        await gateway.is_at_rest()


async def test_memory_is_bounded_while_a_caller_waits_and_every_byte_arrives_when_it_reads_on(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head(kind="application/json"), *[chunk(PIECE)] * PIECES, LAST_CHUNK)
        client = await narrow_client(gateway)
        client.ask()
        await until(lambda: gateway.unsent_bytes)
        await is_steady(lambda: provider.written)
        # what the kernel holds for three sockets, and what the gateway itself holds
        assert provider.written < 20 * 2**20
        assert sum(gateway.unsent_bytes) < 2**20
        assert (await client.answer()).body == PIECE * PIECES
        (record,) = await gateway.records()
        assert (record["ending"], record["bytes_out"]) == ("completed", len(PIECE) * PIECES)


async def test_a_caller_who_reads_slowly_is_not_disconnected(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {write_timeout: 300ms}\n") as (gateway, provider):
        provider.plays(head(kind="application/json"), *[chunk(PIECE)] * 40, LAST_CHUNK)
        client = await narrow_client(gateway)
        client.ask()
        assert (await client.head()).status == 200
        got = 0
        while piece := await client.chunk():
            got += len(piece)
            await passes(0.03)
        assert got == len(PIECE) * 40
        (record,) = await gateway.records()
        assert record["ending"] == "completed"


async def test_the_control_plane_waits_for_a_slow_caller_too(tmp_path: Path) -> None:
    """A page behind an answer that has not been read yet is written when there is room."""
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(b'{"x":"' + b"x" * 3_000_000 + b'"}'))
        client = await narrow_client(gateway)
        client.ask()
        client.send(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n" * 3)
        await until(lambda: provider.received)
        assert len((await client.answer()).body) == 3_000_008
        for _ in range(3):
            assert (await client.answer()).json["object"] == "list"


@pytest.mark.parametrize("behind", [b"", b"\r\n"], ids=["nothing", "a line end, as old clients send it"])
@pytest.mark.parametrize("more", ["", "connection: close\r\n"])
async def test_a_caller_who_takes_something_gets_the_rest_of_a_whole_answer(tmp_path: Path, more: str, behind: bytes) -> None:
    """A translated whole answer is written at once, and waits in the transport when the connection is closed behind it."""
    async with both(tmp_path, dialect="anthropic", more="limits: {write_timeout: 500ms}\n") as (gateway, provider):
        text = b'{"type":"text","text":"%b"}' % (b"x" * 3_500_000)
        usage = b'"usage":{"input_tokens":3,"output_tokens":5}'
        go_on = asyncio.Event()
        provider.plays(go_on, whole(b'{"type":"message","content":[%b],"stop_reason":"end_turn",%b}' % (text, usage)))
        client = await narrow_client(gateway)
        client.post(b'{"model":"m","messages":[{"role":"user","content":"x"}]}', more=more)
        await until(lambda: bool(provider.received))
        (connection,) = gateway.app.listener.connections
        assert isinstance(connection, DownstreamConnection)
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        client.send(behind)
        await client.is_read()
        go_on.set()
        size = int((await client.head()).headers["content-length"])
        got = 0
        while got < size:
            piece = await client.reader.read(min(60_000, size - got))
            assert piece
            got += len(piece)
            await passes(0.001)
