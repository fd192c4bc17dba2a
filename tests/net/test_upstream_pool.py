"""A dial that fails leaves nothing behind: what it was for is freed at once, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from kyma_proxy.config.snapshot import Provider
from kyma_proxy.net.sweeper import Sweeper
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.dialing import Addresses, Dialer
from kyma_proxy.net.upstream.pool import DialError, UpstreamPool
from tests.factories import snapshot
from tests.waiting import until

NewConnections = Callable[[], list[UpstreamConnection]]


class NoNames(AbstractResolver):
    """Knows no name."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        raise OSError("no such name")

    async def close(self) -> None:
        pass


class BrokenDialer(Dialer):
    """Fails as no dialer should."""

    async def dial(self, *_: Any) -> Any:
        raise RuntimeError("a bug")


class Request:
    """What a dial is for."""

    dialling: asyncio.Task[UpstreamConnection] | None = None


def connections() -> list[UpstreamConnection]:
    return [value for value in gc.get_objects() if isinstance(value, UpstreamConnection)]


@pytest.fixture
def new_connections() -> Iterator[NewConnections]:
    """The connections that live and that this test made, not an earlier one. The collector rests meanwhile."""
    gc.collect()
    before = connections()
    gc.disable()
    yield lambda: [connection for connection in connections() if not any(connection is old for old in before)]
    gc.enable()


def upstreams(dialer: type[Dialer] = Dialer) -> UpstreamPool:
    return UpstreamPool(dialer(Addresses(NoNames(), monotonic)), Sweeper(monotonic))


def provider_at(host: str, port: int) -> Provider:
    provider = f"{{name: one, base_url: 'http://{host}:{port}', dialect: openai}}"
    text = f"providers: [{provider}]\nmodels: [{{id: m, pool: [{{provider: one, model: m}}]}}]"
    return snapshot(text).models["m"].pool[0].provider


def dial_for_request(
    pool: UpstreamPool, provider: Provider, timeout_s: float = 5.0
) -> tuple[weakref.ref[Request], asyncio.Task[UpstreamConnection], list[str]]:
    """Dial with a callback that refers to a request and to the dial's task, as the relay's does."""
    request = Request()
    details: list[str] = []

    def dialled(result: UpstreamConnection | DialError) -> None:
        request.dialling = None
        details.append(result.detail if isinstance(result, DialError) else "open")

    task = request.dialling = pool.dial(provider, timeout_s, dialled)
    return weakref.ref(request), task, details


@pytest.mark.parametrize(
    ("host", "dialer", "detail"),
    [
        ("127.0.0.1", Dialer, "no connection: refused"),
        ("unknown.example", Dialer, "no connection: its name or address can't be reached"),
        ("127.0.0.1", BrokenDialer, "the gateway failed"),
    ],
)
async def test_a_failed_dial_frees_the_request_and_the_connection(
    host: str, dialer: type[Dialer], detail: str, unused_tcp_port: int, new_connections: NewConnections
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    request, task, details = dial_for_request(upstreams(dialer), provider_at(host, unused_tcp_port))
    await until(lambda: bool(details))
    assert details == [detail]
    dialling = weakref.ref(task)
    del task
    await until(lambda: request() is None)
    await until(lambda: dialling() is None)
    assert new_connections() == []


async def test_a_dial_that_times_out_frees_them_too(silent_port: int, new_connections: NewConnections) -> None:
    request, task, details = dial_for_request(upstreams(), provider_at("127.0.0.1", silent_port), 0.05)
    await until(lambda: bool(details))
    assert details == ["no connection within 0.05 s"]
    del task
    await until(lambda: request() is None)
    assert new_connections() == []


async def test_a_dial_that_is_cancelled_frees_them_too(silent_port: int, new_connections: NewConnections) -> None:
    request, task, details = dial_for_request(upstreams(), provider_at("127.0.0.1", silent_port))
    await asyncio.sleep(0)
    task.cancel()
    del task
    request_of_dial = request()
    assert request_of_dial is not None
    request_of_dial.dialling = None  # as an attempt that is over is released
    del request_of_dial
    await until(lambda: request() is None)
    await until(lambda: new_connections() == [])
    assert details == []


async def test_a_connection_is_freed_when_it_is_closed(new_connections: NewConnections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pool = upstreams()
        request, task, details = dial_for_request(pool, provider_at(*listening.getsockname()))
        await until(lambda: bool(details))
        assert details == ["open"]
        assert len(new_connections()) == 1
        await pool.close()
        del task
        await until(lambda: request() is None and new_connections() == [])
