"""Fixtures of all tests: the event loop of the program, and ports that do not answer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import settings

from tests.processes import free_port

settings.register_profile("untimed", deadline=None)  # other tests run at the same time: how long a law takes says nothing
settings.load_profile("untimed")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], uvloop.Loop]]:
    """The loops that pytest-asyncio makes."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that may take longest: otherwise one worker still has them when the others are done."""

    def allowed_s(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker is not None else 0.0

    items.sort(key=allowed_s, reverse=True)


@pytest.fixture
def unused_tcp_port() -> int:
    """A port on which nothing listens. That of pytest-asyncio may be taken by another process's connection meanwhile."""
    return free_port()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port at which a connection is neither accepted nor refused: its queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
            fillers.append(filler)
        yield listening.getsockname()[1]
        for filler in fillers:
            filler.close()
