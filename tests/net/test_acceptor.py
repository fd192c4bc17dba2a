"""New connections: a few at a time, no more than there are places for, and plain HTTP where TLS is spoken."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import cast

import pytest
import trustme

from kyma_proxy.net.downstream import acceptor as acceptor_module
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.net.downstream.listener import MAX_REFUSED, Listener
from kyma_proxy.net.downstream.silent_connections import AT_ONCE, SilentConnections
from kyma_proxy.net.sweeper import Sweeper
from tests.configurations import configuration
from tests.factories import default_snapshot
from tests.harness import Client, Gateway, accepting, admin_port, gateway
from tests.waiting import PATIENCE_S, until

GET = b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


class Taken(asyncio.Protocol):
    """The connections that were taken in."""

    def __init__(self) -> None:
        self.transports: list[asyncio.Transport] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transports.append(cast("asyncio.Transport", transport))

    @property
    def count(self) -> int:
        """The number of connections."""
        return len(self.transports)


@pytest.fixture
async def taken() -> AsyncIterator[Taken]:
    """Takes all connections, and closes them after the test."""
    made = Taken()
    yield made
    for transport in made.transports:
        transport.abort()
    await turn()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as made:
        yield made


def connected(listening: socket.socket, count: int, says: bytes = b"G") -> list[socket.socket]:
    """So many callers, who wait in the kernel's queue and have said something."""
    made = [socket.create_connection(listening.getsockname()) for _ in range(count)]
    for caller in made:
        caller.sendall(says)
    return made


def listener(max_connections: int | None = None) -> Listener:
    """A listener's shared state."""
    return Listener(default_snapshot, Sweeper(lambda: 0.0), 2**30, max_connections=max_connections)


def reset(caller: socket.socket) -> None:
    """Leave with a reset."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()


def half_close(caller: socket.socket) -> None:
    """Leave, as it looks, and wait for the other side."""
    caller.shutdown(socket.SHUT_WR)


async def turn() -> None:
    """Let the loop look at its sockets once."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_flood_is_taken_in_a_few_at_a_time(listening: socket.socket, taken: Taken) -> None:
    callers = connected(listening, 5 * AT_ONCE)
    acceptor = Acceptor([listening], listener(), lambda: taken)
    acceptor.start()
    steps = []
    while taken.count < len(callers):
        before = taken.count
        await turn()
        steps.append(taken.count - before)
    assert max(steps) <= 2 * AT_ONCE
    assert sum(steps) == len(callers)
    acceptor.close()
    for caller in callers:
        caller.close()


@pytest.mark.parametrize("leaves", [socket.socket.close, reset, half_close])
async def test_those_who_leave_without_a_word_are_let_go_a_few_at_a_time(
    listening: socket.socket, taken: Taken, leaves: Callable[[socket.socket], None]
) -> None:
    callers = connected(listening, 5 * AT_ONCE, b"")
    acceptor = Acceptor([listening], listener(), lambda: taken)
    acceptor.start()
    await until(lambda: len(acceptor) == len(callers))
    for caller in callers:
        leaves(caller)
    steps = []
    while len(acceptor):
        before = len(acceptor)
        await turn()
        steps.append(before - len(acceptor))
    assert max(steps) <= 2 * AT_ONCE
    assert taken.count == 0
    acceptor.close()
    for caller in callers:
        caller.close()


@pytest.mark.parametrize("in_turns", [True, False])
async def test_a_silent_caller_is_held_until_it_speaks_or_leaves_or_is_late(
    listening: socket.socket, *, in_turns: bool
) -> None:
    heard: list[socket.socket] = []
    silent = SilentConnections(in_turns=in_turns)
    callers = connected(listening, 5, b"")
    for due, _ in enumerate(callers):
        silent.add(listening.accept()[0], due, heard.append)
    callers[4].sendall(b"G")
    await until(lambda: len(silent) == 4)
    assert [one.recv(2) for one in heard] == [b"G"]
    callers[3].close()
    await until(lambda: len(silent) == 3)
    assert silent.close_late(0.5) == 1.0
    assert callers[0].recv(1) == b""
    assert silent.close_oldest()
    assert callers[1].recv(1) == b""
    handed_over: list[tuple[int, bool]] = []
    silent.hand_over(lambda descriptor, is_new=False: handed_over.append((descriptor, is_new)), are_new=True)
    ((descriptor, is_new),) = handed_over
    assert is_new
    with socket.socket(fileno=descriptor) as other:
        other.sendall(b"still here")
        assert callers[2].recv(20) == b"still here"
        callers[2].sendall(b"G")
        await turn()
    assert len(heard) == 1
    assert silent.close_late(9.0) is None
    assert not silent.close_oldest()
    silent.close()
    for one in [*callers, *heard]:
        one.close()


@pytest.mark.parametrize("in_turns", [True, False])
async def test_what_a_caller_says_before_it_closes_its_half_is_heard(listening: socket.socket, *, in_turns: bool) -> None:
    heard: list[socket.socket] = []
    silent = SilentConnections(in_turns=in_turns)
    (caller,) = connected(listening, 1)
    caller.shutdown(socket.SHUT_WR)
    silent.add(listening.accept()[0], 0.0, heard.append)
    await until(lambda: heard)
    assert heard[0].recv(2) == b"G"
    silent.close()
    heard[0].close()
    caller.close()


async def test_silent_callers_are_closed_in_time(listening: socket.socket, taken: Taken) -> None:
    now = monotonic()
    sweeper = Sweeper(lambda: now)
    acceptor = Acceptor([listening], Listener(default_snapshot, sweeper, 2**30), lambda: taken)
    acceptor.start()
    (caller,) = connected(listening, 1, b"")
    await until(lambda: len(acceptor))
    limit = default_snapshot().limits.head_timeout
    sweeper.sweep(now + limit - 0.1)
    assert len(acceptor) == 1
    sweeper.sweep(now + limit + 1.0)
    assert len(acceptor) == 0
    assert caller.recv(1) == b""
    acceptor.close()
    caller.close()


async def test_where_every_place_is_taken_the_oldest_silent_caller_makes_room(listening: socket.socket, taken: Taken) -> None:
    bounded = listener(max_connections=1)
    acceptor = Acceptor([listening], bounded, lambda: taken)
    acceptor.start()
    callers = connected(listening, 1 + MAX_REFUSED, b"")
    await until(lambda: len(acceptor) == len(callers))
    callers += connected(listening, 1)
    await until(lambda: taken.count == 1)
    assert callers[0].recv(1) == b""
    assert len(acceptor) == MAX_REFUSED
    acceptor.close()
    for caller in callers:
        caller.close()


async def test_whoever_finds_no_place_is_closed_before_anything_is_made_for_it(listening: socket.socket, taken: Taken) -> None:
    full = listener(max_connections=0)
    full.refused.update(_Refused() for _ in range(MAX_REFUSED))
    acceptor = Acceptor([listening], full, lambda: taken)
    acceptor.start()
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    assert taken.count == 0
    writer.close()
    acceptor.close()


class _Refused:
    def close_when_idle(self) -> None:
        """Never called."""

    def abort(self) -> None:
        """Never called."""

    def forget_head(self) -> None:
        """Never called."""


class NoDescriptors:
    """A listening socket that can't accept for a while."""

    def __init__(self, listening: socket.socket, number: int) -> None:
        self._listening = listening
        self._number = number
        self.failures = 3

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(self._number, "too many open files")
        return self._listening.accept()

    def fileno(self) -> int:
        return self._listening.fileno()

    def setblocking(self, flag: bool) -> None:
        self._listening.setblocking(flag)

    def close(self) -> None:
        self._listening.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_descriptors_callers_wait_and_the_log_says_so_once(
    listening: socket.socket, taken: Taken, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor_module, "_RETRY_S", 0.001)
    (caller,) = connected(listening, 1)
    exhausted = NoDescriptors(listening, number)
    acceptor = Acceptor([exhausted], listener(), lambda: taken)  # type: ignore[list-item]
    acceptor.start()
    await until(lambda: taken.count == 1)
    assert exhausted.failures == 0
    assert [record.getMessage() for record in caplog.records] == [
        "no new connection can be accepted: too many open files; raise the limit of open files"
    ]
    acceptor.close()
    caller.close()


async def test_a_caller_who_left_before_it_was_accepted_delays_nobody(listening: socket.socket, taken: Taken) -> None:
    (caller,) = connected(listening, 1)
    exhausted = NoDescriptors(listening, errno.ECONNABORTED)
    acceptor = Acceptor([exhausted], listener(), lambda: taken)  # type: ignore[list-item]
    acceptor.start()
    await until(lambda: taken.count == 1)
    acceptor.close()
    caller.close()


# ---- TLS


@contextlib.asynccontextmanager
async def over_tls(directory: Path, **limits: str) -> AsyncIterator[tuple[Gateway, int, ssl.SSLContext]]:
    """A gateway with a TLS listener, its port, and what a caller needs to trust it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    more = "".join(f"{name}: {value}, " for name, value in limits.items())
    async with gateway(configuration(1, more=f"limits: {{{more}}}\n" if more else ""), directory) as running:
        acceptor, port = accepting(running.app.listener, running.app.downstream, tls=server)
        try:
            yield running, port, trust
        finally:
            acceptor.close()


@pytest.mark.parametrize("sent", [GET, b"G", b"\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: 99999\r\n\r\n" + b"x" * 99_999])
async def test_plain_http_on_the_tls_port_is_told_to_use_https(tmp_path: Path, sent: bytes) -> None:
    async with over_tls(tmp_path) as (running, port, _):
        client = running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port)))
        client.writer.write(sent)
        answer = await client.answer()
        assert answer.status == 400
        assert answer.json["error"]["message"] == "This port speaks TLS: use an address that begins with https."
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-request-id"]
        assert await client.read_to_end() == b""


async def test_a_tls_caller_is_served_beside_silent_and_plain_ones(tmp_path: Path) -> None:
    async with over_tls(tmp_path) as (running, port, trust):
        silent = running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port)))
        plain = running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port)))
        plain.writer.write(GET)
        client = running.adopt(
            Client(*await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost"))
        )
        client.writer.write(GET)
        assert (await client.answer()).status == 200
        assert (await plain.answer()).status == 400
        silent.leave()


async def test_a_handshake_under_way_takes_a_place(tmp_path: Path) -> None:
    async with over_tls(tmp_path, max_connections="1") as (running, port, trust):
        stuck = [running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port))) for _ in range(MAX_REFUSED + 1)]
        for one in stuck:
            one.writer.write(b"\x16")
        await until(lambda: len(asyncio.all_tasks()) > MAX_REFUSED)  # each has begun: a handshake is a task
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
        for one in stuck:
            one.leave()
        await until(running.app.listener.has_room)


async def test_who_sends_nothing_to_a_tls_port_is_closed_in_time(tmp_path: Path) -> None:
    async with over_tls(tmp_path, head_timeout="50ms") as (running, port, _):
        for sent in (b"", b"\x16\x03"):
            client = running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port)))
            client.writer.write(sent)
            assert await client.read_to_end() == b""


# ---- the admin listener


async def test_the_admin_listener_bounds_its_connections_and_its_slow_heads(tmp_path: Path) -> None:
    text = configuration(1, more="limits: {head_timeout: 50ms}\n")
    async with gateway(text, tmp_path) as running:
        with admin_port(running) as port:
            slow = running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port)))
            slow.writer.write(b"GET /livez HTTP/1.1\r\nhost: loc")
            assert (await slow.answer()).status == 408
            running.app.admin_listener.connections.update(_Refused() for _ in range(128))
            client = running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port)))
            client.writer.write(GET)
            assert (await client.answer()).status == 503
            running.app.admin_listener.connections.clear()


async def test_the_admin_listener_relays_nothing(tmp_path: Path) -> None:
    async with gateway(configuration(1), tmp_path) as running:
        with admin_port(running) as port:
            client = running.adopt(Client(*await asyncio.open_connection("127.0.0.1", port)))
            client.ask("m", messages=[])
            assert (await client.answer()).status == 404
