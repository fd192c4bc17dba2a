"""However many connect, the gateway has as many as it may, says so to some of the others, and a place that is left is free."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kyma_proxy.net.downstream.listener import MAX_REFUSED
from tests.harness import Gateway, both
from tests.waiting import until

MANY = 500
FEWER = 150
DESCRIPTORS = 2048
MAX_BYTES_IDLE = 12 * 1024
"""Of the heap that Python sees; some 4 KiB are taken."""


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """As many as both ends of the connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def flood(gateway: Gateway, count: int, says: bytes = b"G") -> AsyncIterator[list[socket.socket]]:
    """So many connections that begin a request and read nothing, as bare sockets: they take no memory of this process."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", gateway.port))
            one.sendall(says)
            made.append(one)
        yield made


async def test_over_the_bound_connections_are_refused_and_a_place_is_free_again(tmp_path: Path) -> None:
    async with both(tmp_path, more=f"limits: {{max_connections: {MANY + 1}}}\n") as (gateway, provider):
        good = await gateway.client()
        good.ask()
        assert (await good.answer()).status == 200
        async with flood(gateway, MANY) as begun:
            await until(lambda: gateway.connections == MANY + 1)
            late = await gateway.client()
            late.ask()
            answer = await late.answer()
            assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
            assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
            assert await late.read_to_end() == b""
            late.leave()
            good.ask()  # who has a place is served as ever
            assert (await good.answer()).status == 200
            assert gateway.connections == MANY + 1
            begun[0].close()
            await until(lambda: gateway.connections == MANY)
            again = await gateway.client()
            again.ask()
            assert (await again.answer()).status == 200
        await until(lambda: gateway.connections == 2)
        await until(lambda: not gateway.app.listener.refused)
        assert len(provider.received) == 3


async def test_those_that_are_refused_are_bounded_too_whether_or_not_they_read_why(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {max_connections: 1}\n") as (gateway, _):
        good, listener = await gateway.client(), gateway.app.listener
        good.send(b"\r\n")
        await until(lambda: gateway.connections == 1)
        async with flood(gateway, MAX_REFUSED + 100) as refused:
            await until(lambda: sum(is_closed(one) for one in refused) == 100)
            assert len(listener.refused) == MAX_REFUSED
            assert [has_answer(one) for one in refused if not is_closed(one)] == [True] * MAX_REFUSED
            good.ask()
            assert (await good.answer()).status == 200
        await until(lambda: not listener.refused)
        assert gateway.connections == 1


async def test_callers_who_say_nothing_take_no_place(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {max_connections: 1}\n") as (gateway, _):
        async with flood(gateway, MANY, b"") as silent:
            await until(lambda: sum(is_closed(one) for one in silent) == MANY - MAX_REFUSED - 1)
            assert gateway.connections == 0
            good = await gateway.client()
            good.ask()
            assert (await good.answer()).status == 200
        await until(lambda: not gateway.app.listener.waiting)


def is_closed(one: socket.socket) -> bool:
    """True if the gateway has closed or reset the connection without a word."""
    try:
        return one.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def has_answer(one: socket.socket) -> bool:
    """True if an answer has come that says that the gateway is full."""
    return one.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 503"


async def test_an_idle_connection_takes_little_memory_and_leaves_none_behind(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        async with flood(gateway, 50):  # whatever is made once is made now
            await until(lambda: gateway.connections == 50)
        await until(lambda: gateway.connections == 0)
        tracemalloc.start()
        try:
            before = heap()
            async with flood(gateway, FEWER):
                await until(lambda: gateway.connections == FEWER)
                assert heap() - before < FEWER * MAX_BYTES_IDLE
            # What is left are tables that grew; the loop lets go of a transport in a turn of its own.
            await until(lambda: heap() - before < FEWER * 512)
        finally:
            tracemalloc.stop()


def heap() -> int:
    """The bytes that are taken, without what only waits for the collector."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


SLOW = {
    "a slow head": b"POST /v1/messages HTTP/1.1\r\nhost: a\r\n",
    "a stalled body": b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n{",
    "a refused request": b"POST /v1/messages HTTP/1.1\r\nhost: a b\r\n\r\n",
}


@pytest.mark.parametrize("kind", SLOW)
async def test_who_was_refused_takes_no_place_while_it_stays_to_read_why(tmp_path: Path, kind: str) -> None:
    limits = "limits: {max_connections: 2, head_timeout: 200ms, body_timeout: 200ms}\n"
    async with both(tmp_path, more=limits) as (gateway, _):
        slow = [await gateway.client() for _ in range(2)]
        for one in slow:
            one.send(SLOW[kind])
        await until(lambda: len(gateway.app.listener.refused) == 2)  # they have their answer, and have not closed
        assert not gateway.connections
        good = await gateway.client()
        good.ask()
        assert (await good.answer()).status == 200
        assert [(await one.answer()).status for one in slow] == [400 if "refused" in kind else 408] * 2
        for one in slow:
            one.leave()
        await until(lambda: not gateway.app.listener.refused)


async def test_only_so_many_stay_to_read_why_they_were_refused(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        late = [await gateway.client() for _ in range(MAX_REFUSED + 20)]
        for one in late:
            one.send(SLOW["a refused request"])
        await until(lambda: not gateway.connections)
        assert len(gateway.app.listener.refused) <= MAX_REFUSED
        good = await gateway.client()
        good.ask()
        assert (await good.answer()).status == 200
