"""Real sockets for tests: a provider that plays a script, a client that sees bytes, and a gateway between them.

Nothing sleeps: `until` waits for a condition, and a script's steps wait for events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, overload

from aiohttp.test_utils import TestClient, TestServer

from kyma_proxy.config.snapshot import TcpAddress
from kyma_proxy.core.routing.status import status
from kyma_proxy.jobs.timing import DEFAULT_TIMING, Timing
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.net.downstream.connection import DownstreamConnection
from kyma_proxy.net.downstream.listener import Listener
from kyma_proxy.net.downstream.upload import Upload
from kyma_proxy.ops.accounts.opening import open_accounts
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.listening import open_sockets
from kyma_proxy.ops.reload import Configuration
from kyma_proxy.telemetry.access_log import AccessLog
from tests.configurations import configuration
from tests.waiting import PATIENCE_S, until

CLOSE = "close"
RESET = "reset"
SILENCE = "silence"
TURN = "turn"
Step = bytes | asyncio.Event | str
"""What a provider does next: send bytes, wait for an event, close the connection, reset it, be silent until it ends, or give
the gateway, which runs on the same loop, a turn, so that it reads what was sent so far as a piece of its own."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


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
MESSAGE = b'{"type":"message","content":[],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":5}}'
EMBEDDINGS = b'{"object":"list","data":[{"embedding":[1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
RESPONSE = b'{"object":"response","status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":5}}'
OK = whole(ANSWER)
_LISTING = re.compile(rb"GET \S*/models[? ]")
_USUAL_ANSWERS = {
    b"/messages ": MESSAGE, b"/count_tokens ": b'{"input_tokens":3}', b"/embeddings ": EMBEDDINGS, b"/responses ": RESPONSE,
}  # fmt: skip
STREAM = head() + chunk(event("one")) + chunk(event("two")) + chunk(DONE) + LAST_CHUNK


def _usual_answer(head: bytes) -> bytes:
    """The whole answer at the endpoint of a request."""
    return next((whole(answer) for path, answer in _USUAL_ANSWERS.items() if path in head), OK)


class Received:
    """A request that a provider received."""

    def __init__(self, head: bytes, body: bytes, connection: int) -> None:
        self.connection = connection
        self.line, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
        self.body = body


class Provider:
    """A provider that plays one script for each request, in the order of their coming, and then the usual answer."""

    def __init__(self) -> None:
        self.scripts: deque[tuple[Step, ...]] = deque()
        self.received: list[Received] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self.written = 0
        self.tls: list[ssl.SSLObject] = []
        self.listing = whole(b"{}", status="404 Not Found")
        """The answer to whoever asks for the list of models, which needs no script."""
        self.listings: list[Received] = []
        self.judge: Callable[[Received], bytes | None] = lambda _: None
        """Returns the refusal of a request that has no script; None for the usual answer."""
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
        if _LISTING.match(head):
            self.listings.append(Received(head, b"", number))
            writer.write(self.listing)
            return True
        length = _LENGTH.search(head)
        self.received.append(Received(head, await reader.readexactly(int(length[1]) if length else 0), number))
        script = self.scripts.popleft() if self.scripts else (self.judge(self.received[-1]) or _usual_answer(head),)
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
                elif step == TURN:
                    await asyncio.sleep(0)
                elif step == SILENCE:
                    await asyncio.wait((gone,))
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

    def get(self, path: str, *, more: str = "") -> None:
        """Send a request for a page; `more` holds further lines of its head."""
        self.send(f"GET {path} HTTP/1.1\r\nhost: gateway\r\n{more}\r\n".encode())

    def ask(self, model: str = "m", *, stream: bool = False, **more: Any) -> None:
        """Send a chat request."""
        self.post(json.dumps({"model": model, "messages": [], **({"stream": True} if stream else {}), **more}).encode())

    async def head(self) -> Head:
        """The next answer's head."""
        async with asyncio.timeout(PATIENCE_S):
            return Head(await self.reader.readuntil(b"\r\n\r\n"))

    async def answer(self) -> Answer:
        """The next answer, whole. Raises IncompleteReadError or ConnectionError if it is truncated."""
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
        """The chunks that are left of a chunked answer, in one piece."""
        return b"".join([piece async for piece in self._chunks()])

    async def read_to_end(self) -> bytes:
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
    """A gateway that runs in this process, in front of scripted providers.

    What a test can't see from outside it asks here, so that this is the one place that knows the program's parts.
    """

    def __init__(self, app: App, port: int, path: Path, log: AccessLog, configuration: Configuration) -> None:
        self.app = app
        self.port = port
        self.configuration = configuration
        self._path = path
        self.log = log
        self._clients: list[Client] = []

    @property
    def file(self) -> Path:
        """The file of its configuration."""
        return self._path.with_name("gateway.yaml")

    # ---- callers

    async def client(self) -> Client:
        """A new caller."""
        return self.adopt(Client(*await asyncio.open_connection("127.0.0.1", self.port)))

    def adopt(self, client: Client) -> Client:
        """Take in a caller that was made elsewhere, so that it leaves with the others."""
        self._clients.append(client)
        return client

    # ---- what can be seen

    async def records(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines of the access log, once there are `count` of them."""

        def has_enough() -> bool:
            self.log.flush()  # as it does by itself 20 times a second
            return self._path.read_bytes().count(b"\n") >= count

        await until(has_enough)
        whole_lines = self._path.read_bytes().rpartition(b"\n")[0]  # another may be being written
        return [json.loads(line) for line in whole_lines.splitlines()]

    def source(self, at: int = 0) -> dict[str, Any]:
        """What `/v1/status` says of a source of the first model; that page itself may be a second old."""
        found: dict[str, Any] = self._models()[0]["sources"][at]
        return found

    def model(self, ident: str) -> dict[str, Any]:
        """What `/v1/status` on the admin listener says of a model."""
        return next(one for one in self._models() if one["id"] == ident)

    def _models(self) -> list[dict[str, Any]]:
        document: Any = status(self.configuration.snapshot, self.app.breakers, time.monotonic())
        return list(document["models"])

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples, as `/metrics` shows them."""
        async with TestClient(TestServer(self.app.admin_application)) as admin, admin.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    @property
    def in_flight(self) -> int:
        """The number of relayed requests that are being served."""
        return self.app.gateway.in_flight

    @property
    def connections(self) -> int:
        """The number of callers who are connected."""
        return len(self.app.listener.connections)

    @property
    def unsent_bytes(self) -> list[int]:
        """The bytes that wait for each caller who does not read."""
        callers = [one for one in self.app.listener.connections if isinstance(one, DownstreamConnection)]
        return [one.transport.get_write_buffer_size() for one in callers if not one.is_writable]

    @property
    def uploads(self) -> list[Upload]:
        """The forms that are being served while they come."""
        callers = [one for one in self.app.listener.connections if isinstance(one, DownstreamConnection)]
        return [one.buffered.upload for one in callers if one.buffered.upload is not None]

    @property
    def upstreams(self) -> dict[str, int]:
        """The number of connections to providers that are open, and of those that are idle."""
        return self.app.upstreams.statistics()

    # ---- what can be done to it

    def forget_failures(self) -> None:
        """Close every circuit breaker."""
        self.app.breakers.retain((), ())

    def drain(self) -> None:
        """End every request that is being served, as at the end of the drain."""
        self.app.gateway.drain()

    # ---- its end

    async def is_at_rest(self) -> None:
        """Wait until nothing is being served and no connection is in use; fails if something leaks."""
        await until(lambda: self.in_flight == 0)
        await until(lambda: self.upstreams["open"] == self.upstreams["idle"])

    async def close(self) -> None:
        """Disconnect every caller; then nothing may be left over."""
        for client in self._clients:
            client.leave()
        await until(lambda: not self.connections)
        await self.app.jobs.close()
        await self.is_at_rest()
        await self.app.close()
        await until(lambda: not self.app.sweeper.watched())

    async def abort(self) -> None:
        """End at once, whatever is left over; after a failure the test's loop would not end otherwise."""
        for client in self._clients:
            client.leave()
        await self.app.close()


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
    text: str,
    directory: Path,
    *,
    tls: ssl.SSLContext | None = None,
    timing: Timing = DEFAULT_TIMING,
    log_type: type[AccessLog] = AccessLog,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Gateway]:
    """A gateway with this configuration, on a port of the kernel's choice; `timing` is that of its image jobs."""
    path = directory / "gateway.yaml"
    path.write_text(text)
    in_force = Configuration(path, environment)
    log = log_type(str(directory / "access.log"))
    app = App(in_force, log, open_accounts(in_force.snapshot), jobs_timing=timing)
    await app.open()
    acceptor, port = accepting(app.listener, app.downstream, tls=tls)
    running = Gateway(app, port, directory / "access.log", log, in_force)
    try:
        yield running
        acceptor.close()
        await running.close()
    except BaseException:
        acceptor.close()
        await running.abort()
        raise


def accepting(
    listener: Listener, protocol: Callable[[], asyncio.Protocol], *, tls: ssl.SSLContext | None = None
) -> tuple[Acceptor, int]:
    """An acceptor on a port of the kernel's choice, and the port."""
    (listening,) = open_sockets("listen", TcpAddress("127.0.0.1", 0))
    acceptor = Acceptor([listening], listener, protocol, tls=None if tls is None else lambda: tls)
    acceptor.start()
    return acceptor, int(listening.getsockname()[1])


@contextlib.contextmanager
def admin_port(running: Gateway) -> Iterator[int]:
    """The port of the gateway's admin listener, until the end of the block."""
    acceptor, port = accepting(running.app.admin_listener, running.app.admin_downstream)
    try:
        yield port
    finally:
        acceptor.close()


@overload
def both(
    directory: Path, count: Literal[1] = 1, **how: Any
) -> contextlib.AbstractAsyncContextManager[tuple[Gateway, Provider]]: ...
@overload
def both(
    directory: Path, count: Literal[2], **how: Any
) -> contextlib.AbstractAsyncContextManager[tuple[Gateway, Provider, Provider]]: ...
@overload
def both(
    directory: Path, count: Literal[3], **how: Any
) -> contextlib.AbstractAsyncContextManager[tuple[Gateway, Provider, Provider, Provider]]: ...


def both(directory: Path, count: int = 1, **how: Any) -> contextlib.AbstractAsyncContextManager[Any]:
    """A gateway in front of `count` scripted providers: (gateway, provider, …). `how` is as for `configuration`."""
    return _both(directory, count, **how)


@contextlib.asynccontextmanager
async def _both(directory: Path, count: int, **how: Any) -> AsyncIterator[tuple[Any, ...]]:
    async with providers(count) as made, gateway(configuration(*(one.port for one in made), **how), directory) as running:
        yield (running, *made)
