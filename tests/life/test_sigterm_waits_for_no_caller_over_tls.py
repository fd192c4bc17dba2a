"""SIGTERM ends connections with TLS at once where no answer is under way, whether the caller answers the end of TLS or not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest

from tests.life.certificates import trusting, written_certificate
from tests.processes import GatewayProcess
from tests.serving_place import Place, ended, place
from tests.waiting import PATIENCE_S, until

AT_ONCE_S = 1.5
"""Less than a caller has for its end of TLS (2 s), and much less than `drain`."""


@contextlib.asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[tuple[Place, GatewayProcess]]:
    """A gateway behind TLS that would wait long for running answers."""
    async with place(directory, more=written_certificate(directory) + "drain: 60s\n") as here:
        here.tls = trusting()
        async with here.serving() as running:
            yield here, running


class SilentCaller:
    """A caller whose program does nothing from itself: it does not even answer the end of TLS."""

    def __init__(self, here: Place) -> None:
        self._address = here.listen.rsplit(":", 1)
        self._tls = trusting()

    def connect(self, begins_with: bytes) -> socket.socket:
        """Connect, and send these bytes without any encryption."""
        connection = socket.create_connection((self._address[0], int(self._address[1])), PATIENCE_S)
        connection.sendall(begins_with)
        return connection

    def handshake(self, request: bytes) -> ssl.SSLSocket:
        """Connect, shake hands, send these bytes, and read the answer if it is a whole request."""
        connection = self._tls.wrap_socket(self.connect(b""), server_hostname="localhost", suppress_ragged_eofs=False)
        connection.sendall(request)
        if request.endswith(b"\r\n\r\n"):
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        return connection


HEALTH = b"GET /v1/health HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize("request_", [HEALTH, b""])
async def test_an_idle_connection_ends_cleanly_and_at_once(tmp_path: Path, request_: bytes) -> None:
    async with serving(tmp_path) as (here, running):
        caller = await asyncio.to_thread(SilentCaller(here).handshake, request_)
        with caller:
            began = monotonic()
            running.signal(signal.SIGTERM)
            assert await ended(running) == 0
            assert monotonic() - began < AT_ONCE_S
            assert await asyncio.to_thread(caller.recv, 1) == b""  # with TLS's own end, or it would raise


@pytest.mark.parametrize("first", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n"])
async def test_a_connection_in_its_handshake_ends_at_once(tmp_path: Path, first: bytes) -> None:
    async with serving(tmp_path) as (here, running):
        with await asyncio.to_thread(SilentCaller(here).connect, first) as caller:
            other = await here.client()  # it was accepted after that one
            other.get("/v1/health")
            assert (await other.answer()).status == 200
            began = monotonic()
            running.signal(signal.SIGTERM)
            assert await ended(running) == 0
            assert monotonic() - began < AT_ONCE_S
            with contextlib.suppress(ConnectionResetError):
                while await asyncio.to_thread(caller.recv, 65536):
                    pass


@pytest.mark.parametrize("part", [b"G", HEALTH[:-2]])
async def test_a_request_whose_head_does_not_arrive_holds_it_up_for_a_moment_only(tmp_path: Path, part: bytes) -> None:
    async with serving(tmp_path) as (here, running):
        caller = await here.client()
        caller.get("/v1/health")
        assert (await caller.answer()).status == 200
        caller.send(part)
        other = await here.client()
        other.get("/v1/health")
        assert (await other.answer()).status == 200
        running.signal(signal.SIGTERM)
        await until(lambda: running.has_ended)  # in less than `drain`
        answer = await caller.answer()
        assert (answer.status, answer.json["error"]["code"]) == (408, "request_timeout")
