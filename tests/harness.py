"""Real sockets for tests: a provider that plays a script, a client that sees bytes, and a gateway between them.

Nothing sleeps: `until` waits for a condition, and a script's steps wait for events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from kyma_proxy.jobs.timing import DEFAULT_TIMING, Timing
from kyma_proxy.ops.accounts.opening import open_accounts
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.reload import Configuration
from kyma_proxy.telemetry.access_log import AccessLog

CLOSE = "close"
RESET = "reset"
Step = bytes | asyncio.Event | str
"""What a provider does next: send bytes, wait for an event, close the connection, or reset it."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
PATIENCE_S = 10.0


async def until(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds; fails after ten seconds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.002)


def whole(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    """An answer with a length."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body


def head(*, status: str = "200 OK", kind: str = "text/event-stream", more: str = "") -> bytes:
    """The head of an answer in chunks."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}transfer-encoding: chunked\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def event(text: str) -> bytes:
    """An event of OpenAI's chat stream."""
    return b'data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":%b}}]}\n\n' % json.dumps(text).encode()


DONE = b"data: [DONE]\n\n"
ANSWER = b'{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}'
OK = whole(ANSWER)
STREAM = head() + chunk(event("one")) + chunk(event("two")) + chunk(DONE) + LAST_CHUNK


class Received:
    """A request that a provider got."""

    def __init__(self, head: bytes, body: bytes, connection: int) -> None:
        self.connection = connection
        self.line, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
        self.body = body


class Provider:
    """A provider: plays one script a request, in the order in which they were given, then `OK` for ever."""

    def __init__(self) -> None:
        self.scripts: deque[tuple[Step, ...]] = deque()
        self.received: list[Received] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self.written = 0
        self.tls: list[ssl.SSLObject] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def plays(self, *steps: Step) -> None:
        """Play these steps for the next request that has no script yet."""
        self.scripts.append(steps)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        number = self.connections
        self.open += 1
        if (tls := writer.get_extra_info("ssl_object")) is not None:
            self.tls.append(tls)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer, number):
                    pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        self.received.append(Received(head, await reader.readexactly(int(length[1]) if length else 0), number))
        script = self.scripts.popleft() if self.scripts else (OK,)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            for step in script:
                if isinstance(step, bytes):
                    writer.write(step)
                    self.written += len(step)
                    await writer.drain()
                elif isinstance(step, asyncio.Event):
                    waiting = asyncio.ensure_future(step.wait())
                    await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                    if gone.done():
                        return False
                elif step == RESET:
                    writer.transport.abort()
                    return False
                else:
                    return False
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await gone
        return True

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Client:
    """A caller that speaks bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def is_read(self) -> None:
        """Give the gateway, which runs on the same loop, the turns that it needs to read what was sent so far."""
        await self.writer.drain()
        for _ in range(4):
            await asyncio.sleep(0)

    def post(self, body: bytes, *, path: str = "/v1/chat/completions", more: str = "") -> None:
        """Send a request with a body; `more` holds further lines of its head."""
        self.send(f"POST {path} HTTP/1.1\r\nhost: gateway\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body)

    def ask(self, model: str = "m", *, stream: bool = False, **more: Any) -> None:
        """Send a chat request."""
        self.post(json.dumps({"model": model, "messages": [], **({"stream": True} if stream else {}), **more}).encode())

    async def head(self) -> Head:
        """The next answer's head."""
        async with asyncio.timeout(PATIENCE_S):
            return Head(await self.reader.readuntil(b"\r\n\r\n"))

    async def answer(self) -> Answer:
        """The next answer, whole. Raises IncompleteReadError (or ConnectionError) where it is cut."""
        head = await self.head()
        async with asyncio.timeout(PATIENCE_S):
            if head.headers.get("transfer-encoding") == "chunked":
                return Answer(head, b"".join([piece async for piece in self._chunks()]))
            if "content-length" in head.headers:
                return Answer(head, await self.reader.readexactly(int(head.headers["content-length"])))
            return Answer(head, b"" if head.status in (204, 304) else await self.reader.read())

    async def chunk(self) -> bytes:
        """The next chunk of a chunked answer, b"" for the last."""
        async with asyncio.timeout(PATIENCE_S):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def _chunks(self) -> AsyncIterator[bytes]:
        while piece := await self.chunk():
            yield piece

    async def rest(self) -> bytes:
        """Everything until the connection ends, however it ends."""
        got = b""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    got += piece
        return got

    def leave(self) -> None:
        """Close the connection at once."""
        self.writer.transport.abort()


class Head:
    """An answer's head; names in lower case."""

    def __init__(self, data: bytes) -> None:
        self.raw = data
        line, *lines = data.decode("latin-1").split("\r\n")
        self.status = int(line.split(" ")[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}


class Answer:
    """An answer."""

    def __init__(self, head: Head, body: bytes) -> None:
        self.status = head.status
        self.headers = head.headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Gateway:
    """A gateway that runs in this process, in front of scripted providers."""

    def __init__(self, app: App, port: int, log: Path, configuration: Configuration) -> None:
        self.app = app
        self.port = port
        self.configuration = configuration
        self._log = log
        self._clients: list[Client] = []

    async def client(self) -> Client:
        """A new caller."""
        return self.adopt(Client(*await asyncio.open_connection("127.0.0.1", self.port)))

    def adopt(self, client: Client) -> Client:
        """A caller that was made elsewhere, so that it leaves with the others."""
        self._clients.append(client)
        return client

    async def records(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines of the access log, once there are `count` of them."""
        await until(lambda: len(self._log.read_bytes().splitlines()) >= count)
        return [json.loads(line) for line in self._log.read_bytes().splitlines()]

    async def is_at_rest(self) -> None:
        """Wait until nothing is being served and no connection is at work; fails when something leaks."""
        app = self.app
        await until(lambda: app.gateway.in_flight == 0)
        await until(lambda: app.upstreams.statistics()["open"] == app.upstreams.statistics()["idle"])

    async def close(self) -> None:
        """Let every caller leave; then nothing may be left over."""
        for client in self._clients:
            client.leave()
        await until(lambda: not self.app.listener.connections)
        await self.app.jobs.close()
        await self.is_at_rest()
        await self.app.close()
        await until(lambda: not self.app.sweeper.watched())

    async def give_up(self) -> None:
        """Let go of everything after a failure, without which the test's loop would not end."""
        for client in self._clients:
            client.leave()
        await self.app.close()


TIMEOUTS = "{connect: 2s, first_byte: 10s, idle: 10s}"


def configuration(
    *ports: int, more: str = "", timeouts: str = TIMEOUTS, source: str = "", dialect: str = "openai", hedge_after: str = "null"
) -> str:
    """A model `m` whose pool has one source a port, tried in this order; `more` holds further sections."""
    providers = "".join(
        f"  - {{name: p{at}, base_url: 'http://127.0.0.1:{port}/v1', dialect: {dialect}, "
        f"api_key: provider-key-{at}, warm_connections: 0}}\n"
        for at, port in enumerate(ports)
    )
    pool = ", ".join(f"{{provider: p{at}, model: real-{at}, weight: {0 if at else 1}{source}}}" for at in range(len(ports)))
    return (
        f"defaults: {{max_tokens: null, hedge_after: {hedge_after}, timeouts: {timeouts}}}\nproviders:\n{providers}"
        f"models:\n  - {{id: m, price: {{input: 1, output: 2}}, pool: [{pool}]}}\n{more}"
    )


@contextlib.asynccontextmanager
async def providers(
    count: int = 1, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[list[Provider]]:
    """Providers on ports of the kernel's choice."""
    made: list[Provider] = []
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            provider = Provider()
            server = await asyncio.start_server(provider.serve, host, 0, limit=2**20, ssl=tls)
            provider.port = server.sockets[0].getsockname()[1]
            stack.callback(server.close)
            stack.push_async_callback(provider.close)
            made.append(provider)
        yield made


@contextlib.asynccontextmanager
async def gateway(
    text: str, directory: Path, *, tls: ssl.SSLContext | None = None, timing: Timing = DEFAULT_TIMING
) -> AsyncIterator[Gateway]:
    """A gateway with this configuration, on a port of the kernel's choice; `timing` is that of its image jobs."""
    log = directory / "access.log"
    path = directory / "gateway.yaml"
    path.write_text(text)
    in_force = Configuration(path, {})
    app = App(in_force, AccessLog(str(log)), open_accounts(in_force.snapshot), jobs_timing=timing)
    await app.open()
    server = await asyncio.get_running_loop().create_server(app.downstream, "127.0.0.1", 0, ssl=tls)
    running = Gateway(app, server.sockets[0].getsockname()[1], log, in_force)
    try:
        yield running
        await running.close()
    except BaseException:
        await running.give_up()
        raise
    finally:
        server.close()


@contextlib.asynccontextmanager
async def both(directory: Path, count: int = 1, **how: Any) -> AsyncIterator[tuple[Any, ...]]:
    """A gateway in front of `count` scripted providers: (gateway, provider, …)."""
    async with providers(count) as made, gateway(configuration(*(one.port for one in made), **how), directory) as running:
        yield (running, *made)
