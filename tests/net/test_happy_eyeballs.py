"""A server with several addresses is reached at the first that answers, and nothing is left of the others."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from kyma_proxy.net.upstream.happy_eyeballs import AddressInfo, connect_first
from tests.processes import free_port
from tests.waiting import until

NEVER_S, AT_ONCE_S = 60.0, 0.001


def info(port: int, host: str = "127.0.0.1") -> AddressInfo:
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


def refusing() -> AddressInfo:
    return info(free_port())


@contextlib.contextmanager
def listening() -> Iterator[AddressInfo]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield info(server.getsockname()[1])


@contextlib.contextmanager
def silent() -> Iterator[AddressInfo]:
    """The address of a listener that takes nobody in."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(server.getsockname())
        yield info(server.getsockname()[1])


def open_tasks() -> int:
    return len(asyncio.all_tasks())


async def test_a_refused_address_is_followed_by_the_next_at_once() -> None:
    with listening() as there, await connect_first([refusing(), there], NEVER_S) as connected:
        assert connected.getpeername() == there[4]


async def test_a_silent_address_is_followed_by_the_next_and_its_socket_is_closed() -> None:
    before = open_tasks()
    with silent() as nobody, listening() as there:
        with await connect_first([nobody, there], AT_ONCE_S) as connected:
            assert connected.getpeername() == there[4]
        await until(lambda: open_tasks() == before)  # a socket that is not closed is a ResourceWarning, which is an error


async def test_families_take_turns(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    of_another_family = (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)
    with socket.socket(socket.AF_UNIX) as server, silent() as nobody:
        server.bind(path)
        server.listen()
        infos = cast("list[AddressInfo]", [refusing(), nobody, of_another_family])
        with await connect_first(infos, NEVER_S) as connected:
            assert connected.getpeername() == path


async def test_addresses_that_fail_alike_raise_what_each_would() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect_first([refusing(), refusing()], NEVER_S)


async def test_addresses_that_fail_differently_raise_no_single_reason() -> None:
    with pytest.raises(OSError, match="each for a reason of its own") as raised:
        await connect_first([refusing(), info(9, "255.255.255.255")], NEVER_S)
    assert raised.value.errno is None


async def test_a_single_address_raises_its_own_error() -> None:
    with pytest.raises(ConnectionRefusedError) as raised:
        await connect_first([refusing()], NEVER_S)
    assert raised.value.errno == errno.ECONNREFUSED


async def test_cancelling_closes_every_socket() -> None:
    before = open_tasks()
    with silent() as one, silent() as other:
        dialling = asyncio.create_task(connect_first([one, other], AT_ONCE_S))
        await until(lambda: open_tasks() == before + 3)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await until(lambda: open_tasks() == before)
