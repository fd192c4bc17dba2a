"""A request that fails frees all that it held when it ends, not when the garbage collector runs, which is rare and a pause.

The gateway runs in a process of its own without the collector, so that the cycles that it finds are the gateway's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trustme

from tests.configurations import ProviderEntry, configuration
from tests.harness import (
    CLOSE,
    LAST_CHUNK,
    OK,
    RESET,
    SILENCE,
    STREAM,
    Client,
    Provider,
    Step,
    chunk,
    event,
    head,
    providers,
    whole,
)
from tests.processes import ROOT, free_port
from tests.waiting import PATIENCE_S, until

BEGUN = head() + chunk(event("one"))
ERROR_EVENT = chunk(b'data: {"error":{"message":"no"}}\n\n')
SHORT = "timeouts: {connect: 50ms, first_byte: 50ms, idle: 50ms}"
ANSWERS: dict[str, tuple[tuple[Step, ...], str]] = {
    "closed before a byte": ((CLOSE,), ""),
    "reset before a byte": ((RESET,), ""),
    "silent": ((SILENCE,), SHORT),
    "reset within the head": ((b"HTTP/1.1 200 OK\r\ncontent-", RESET), ""),
    "not HTTP": ((b"\x00\xff garbage \r\n\r\n", CLOSE), ""),
    "an interim answer with a body": ((b"HTTP/1.1 110 No\r\ncontent-length: 5\r\n\r\nhello", CLOSE), ""),
    "an odd transfer coding": ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", CLOSE), ""),
    "an error": ((whole(b"{}", status="500 No"),), ""),
    "a rejected key": ((whole(b"{}", status="401 No"),), ""),
    "a relayed error": ((whole(b'{"error":"yours"}', status="400 Bad"),), ""),
    "not JSON": ((whole(b"<html>", kind="text/html"),), ""),
    "no answer's shape": ((whole(b'{"choices":null}'),), ""),
    "an empty answer": ((whole(b""),), ""),
    "an empty stream": ((head() + LAST_CHUNK,), ""),
    "an error event first": ((head() + ERROR_EVENT + LAST_CHUNK,), ""),
    "compressed, but not": ((whole(b"no gzip", more="content-encoding: gzip\r\n"),), ""),
    "an unknown coding": ((whole(b"?", more="content-encoding: odd\r\n"),), ""),
    "reset in the middle": ((BEGUN, RESET), ""),
    "closed in the middle": ((BEGUN, CLOSE), ""),
    "silent in the middle": ((BEGUN, SILENCE), SHORT),
    "too long in the middle": ((BEGUN, SILENCE), "timeouts: {total: 100ms}"),
    "garbage in the middle": ((BEGUN, b"no chunk\r\n", CLOSE), ""),
    "an error event in the middle": ((BEGUN + ERROR_EVENT + LAST_CHUNK,), ""),
    "whole": ((OK,), ""),
    "a whole stream": ((STREAM,), ""),
}
"""What the provider sends, and the members of the source."""


class Uncollected:
    """A gateway in another process, which tells what it has left in cycles."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._port = port

    async def client(self) -> Client:
        """A new caller."""
        return Client(*await asyncio.open_connection("127.0.0.1", self._port))

    async def ask(self, model: str, *, stream: bool = False) -> bytes:
        """All that a caller gets for one request, until the connection ends."""
        client = await self.client()
        client.post(request(model, stream=stream), more="connection: close\r\n")
        got = await client.read_to_end()
        client.leave()
        return got

    async def cycles_of(self, once: Callable[[], Awaitable[object]]) -> dict[str, int]:
        """The objects that are left in cycles when something happens a second time, by type; the first leaves what lasts."""
        await once()
        await self._cycles()
        await once()
        return await self._cycles()

    async def _cycles(self) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        async with asyncio.timeout(PATIENCE_S):
            return msgspec.json.decode(await self._process.stdout.readline(), type=dict[str, int])


@contextlib.asynccontextmanager
async def uncollected(text: str, directory: Path) -> AsyncIterator[Uncollected]:
    """A gateway with this configuration."""
    (directory / "gateway.yaml").write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.uncollected_gateway", str(directory), cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(ROOT)])},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Uncollected(process, int(await process.stdout.readline()))
        process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def request(model: str, *, stream: bool = False) -> bytes:
    messages = [{"role": "user", "content": "hello"}]
    return json.dumps({"model": model, "max_tokens": 5, "messages": messages, "stream": stream}).encode()


def models_of(*sources: tuple[str, str]) -> str:
    """A model `m0`, `m1`, … for each pair of a provider's name and further members of its source."""
    pools = [f"[{{provider: {name}, model: real-{at}, {more}}}]" for at, (name, more) in enumerate(sources)]
    return "".join(f"  - {{id: m{at}, pool: {pool}}}\n" for at, pool in enumerate(pools))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"], ids=["passed", "translated"])
async def test_an_answer_that_fails_leaves_no_cycles(tmp_path: Path, dialect: str, stream: bool) -> None:
    left = {}
    async with providers() as (provider,):
        models = models_of(*(("p0", source) for _, source in ANSWERS.values()))
        text = configuration(ProviderEntry(provider.port, dialect), models=models)
        async with uncollected(text, tmp_path) as running:
            for at, (name, (steps, _)) in enumerate(ANSWERS.items()):

                async def once(at: int = at, steps: tuple[Step, ...] = steps) -> None:
                    provider.plays(*steps)
                    await running.ask(f"m{at}", stream=stream)
                    provider.scripts.clear()

                if found := await running.cycles_of(once):
                    left[name] = found
    assert left == {}
    assert len(provider.received) >= 2 * len(ANSWERS)


@contextlib.contextmanager
def full_listener() -> Iterator[int]:
    """The port of a listener that takes nobody in, so that a dial hears nothing."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listening.getsockname())
        yield listening.getsockname()[1]


@contextlib.asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[int]:
    """The port of a server that answers the first bytes with these, and closes; with a reset if it is None."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if answer is None:
            writer.transport.abort()
        else:
            writer.write(answer)
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


async def test_a_dial_that_fails_leaves_no_cycles(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    closed = free_port()
    left, told = {}, {}
    async with contextlib.AsyncExitStack() as stack:
        (secret,) = await stack.enter_async_context(providers(tls=context))
        plain = await stack.enter_async_context(server(b"HTTP/1.1 400 No TLS\r\ncontent-length: 0\r\n\r\n"))
        resetting = await stack.enter_async_context(server(None))
        refusing = await stack.enter_async_context(server(b"HTTP/1.1 403 No\r\n\r\n"))
        full = stack.enter_context(full_listener())
        kinds = {
            "refused": ProviderEntry(f"http://127.0.0.1:{closed}/v1"),
            "two addresses refused": ProviderEntry(f"http://localhost:{closed}/v1"),
            "no such name": ProviderEntry("http://no-such-name.invalid/v1"),
            "refused with TLS": ProviderEntry(f"https://127.0.0.1:{closed}/v1"),
            "not in time": ProviderEntry(f"http://127.0.0.1:{full}/v1", source=SHORT),
            "TLS not in time": ProviderEntry(f"https://127.0.0.1:{full}/v1", source=SHORT),
            "an unknown authority": ProviderEntry(f"https://127.0.0.1:{secret.port}/v1"),
            "no TLS": ProviderEntry(f"https://127.0.0.1:{plain}/v1"),
            "reset during TLS": ProviderEntry(f"https://127.0.0.1:{resetting}/v1"),
            "its proxy refuses": ProviderEntry("https://127.0.0.1:9/v1", more=f"proxy: 'http://127.0.0.1:{refusing}'"),
            "its proxy resets": ProviderEntry("https://127.0.0.1:9/v1", more=f"proxy: 'http://127.0.0.1:{resetting}'"),
            "no proxy": ProviderEntry("https://127.0.0.1:9/v1", more=f"proxy: 'http://127.0.0.1:{closed}'"),
            "no unix socket": ProviderEntry(f"unix:{tmp_path}/none:/v1"),
        }
        models = models_of(*((f"p{at}", one.source) for at, one in enumerate(kinds.values())))
        text = configuration(*(one._replace(source="") for one in kinds.values()), models=models, pool=0)
        running = await stack.enter_async_context(uncollected(text, tmp_path))
        for at, name in enumerate(kinds):

            async def once(at: int = at, name: str = name) -> None:
                told[name] = await running.ask(f"m{at}")

            if found := await running.cycles_of(once):
                left[name] = found
    assert left == {}
    assert all(b"could answer" in got or b"in time" in got for got in told.values()), told


async def _leave_within_the_head(running: Uncollected, _: Provider) -> Client:
    client = await running.client()
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: ga")
    return client


async def _leave_within_the_body(running: Uncollected, _: Provider) -> Client:
    client = await running.client()
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-length: 9999\r\n\r\n{")
    return client


async def _leave_during_the_dial(running: Uncollected, _: Provider) -> Client:
    client = await running.client()
    client.post(request("m1"))
    return client


async def _leave_before_the_first_byte(running: Uncollected, provider: Provider) -> Client:
    provider.plays(SILENCE)
    client = await running.client()
    before = len(provider.received)
    client.post(request("m0"))
    await until(lambda: len(provider.received) > before)
    return client


async def _leave_in_the_middle(running: Uncollected, provider: Provider) -> Client:
    provider.plays(BEGUN, SILENCE)
    client = await running.client()
    client.post(request("m0", stream=True))
    await client.head()
    await client.chunk()
    return client


async def _leave_between_requests(running: Uncollected, _: Provider) -> Client:
    client = await running.client()
    client.post(request("m0"))
    await client.answer()
    return client


async def test_a_caller_who_leaves_leaves_no_cycles(tmp_path: Path) -> None:
    left = {}
    phases = (
        _leave_within_the_head, _leave_within_the_body, _leave_during_the_dial, _leave_before_the_first_byte,
        _leave_in_the_middle, _leave_between_requests,
    )  # fmt: skip
    with full_listener() as full:
        async with providers() as (provider,):
            text = configuration(provider.port, full, models=models_of(("p0", ""), ("p1", "")))
            async with uncollected(text, tmp_path) as running:
                for phase in phases:

                    async def once(phase: Callable[[Uncollected, Provider], Awaitable[Client]] = phase) -> None:
                        client = await phase(running, provider)
                        await client.is_read()
                        client.leave()

                    if found := await running.cycles_of(once):
                        left[phase.__name__] = found
    assert left == {}


class Vanishing:
    """A provider that takes one connection in, answers its first request, and resets it at the second."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening: asyncio.Server | None = None

    async def appear(self) -> None:
        """Listen, for one connection."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._listening is not None
        self._listening.close()
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}")
            writer.write(OK)
            await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()


async def test_a_provider_that_vanishes_leaves_no_cycles(tmp_path: Path) -> None:
    port = free_port()
    provider = Vanishing(port)
    told = []

    async def once() -> None:
        await provider.appear()
        told.append(await running.ask("m"))
        told.append(await running.ask("m"))

    async with uncollected(configuration(port), tmp_path) as running:
        assert await running.cycles_of(once) == {}
    assert [b" 200 OK" in got for got in told] == [True, False, True, False]
    assert b"refused" in told[-1]
