"""Keeps the connections to providers: at work, idle, and being dialled.

Idle connections are reused newest first, kept warm while a provider is in use, and closed before the provider does so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Final

from kyma_proxy.config.origin import Origin
from kyma_proxy.config.snapshot import Provider
from kyma_proxy.core.http.answer_repeat import AnswerHeads
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.sweeper import Sweeper
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.connection_owner import ConnectionOwner
from kyma_proxy.net.upstream.detours import ProxyError
from kyma_proxy.net.upstream.dialing import Dialer, SessionContext
from kyma_proxy.net.upstream.outflow import Outflow
from kyma_proxy.net.upstream.tls_failures import tls_sentence

monotonic: Final = time.monotonic  # compiled, a constant is read without a look-up
_WARM_WHILE_USED_S: Final = 300.0


class DialError(Exception):
    """No connection could be opened; `detail` says why, in words that hold no address or credential."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class _Server:
    """One origin: its idle connections, the one that was used last at the end, and when one was last asked for."""

    __slots__ = ("heads", "idle", "used_at")

    def __init__(self, now: float) -> None:
        self.idle: list[UpstreamConnection] = []
        self.used_at = now
        self.heads = AnswerHeads()


class UpstreamPool(ConnectionOwner):
    """The process's connections to every origin."""

    def __init__(self, dialer: Dialer, sweeper: Sweeper) -> None:
        self.sweeper = sweeper
        self.outflow = Outflow()
        self._dialer = dialer
        self._servers: dict[Origin, _Server] = {}
        self._open: set[UpstreamConnection] = set()
        self._wanted: dict[Origin, Provider] = {}
        self._warming: dict[asyncio.Task[None], Origin] = {}

    def take(self, origin: Origin) -> UpstreamConnection | None:
        """The idle connection that was used last, or None."""
        server = self._server(origin)
        server.used_at = monotonic()
        idle = server.idle
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def dial(
        self, provider: Provider, timeout_s: float | None, on_done: Callable[[UpstreamConnection | DialError], None]
    ) -> asyncio.Task[UpstreamConnection]:
        """Open a fresh connection; `on_done` gets it, or why there is none. It is not called once the task is cancelled."""
        task = asyncio.get_running_loop().create_task(self._dial(provider, timeout_s))
        task.add_done_callback(lambda ended: None if ended.cancelled() else on_done(_dialled(ended)))
        return task

    async def _dial(self, provider: Provider, timeout_s: float | None) -> UpstreamConnection:
        made = [UpstreamConnection(self, provider.origin, provider.keep_alive)]  # a list, as frames may outlive a failure
        made[0].heads = self._server(provider.origin).heads
        try:
            async with asyncio.timeout(timeout_s):
                return await self._dialer.dial(provider.origin, lambda: made[0])
        except asyncio.CancelledError:
            self._give_up(made.pop())
            raise
        except TimeoutError:
            self._give_up(made.pop())
            within = "in time" if timeout_s is None else f"within {timeout_s:g} s"
            raise DialError(FailureKind.CONNECT_TIMEOUT, f"no connection {within}") from None
        except ProxyError as error:
            raise DialError(FailureKind.CONNECT, f"no connection: its proxy {error.why}") from None
        except ssl.SSLError as error:
            raise DialError(FailureKind.CONNECT, f"TLS failed: {tls_sentence(error)}") from None
        except OSError as error:
            if provider.origin.scheme == "https" and isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
                raise DialError(FailureKind.CONNECT, f"TLS failed: {tls_sentence(error)}") from None
            raise DialError(FailureKind.CONNECT, f"no connection: {_reason(error)}") from None

    def _give_up(self, connection: UpstreamConnection) -> None:
        """Forget a connection whose dial has ended: uvloop tells nobody that it has closed one opened in that moment."""
        self.lost(connection)
        connection.break_cycle()

    def opened(self, connection: UpstreamConnection) -> None:
        """A connection is open; it is counted until it is lost."""
        self._open.add(connection)

    def warm(self, providers: Iterable[Provider]) -> None:
        """Open connections ahead to these providers, and keep them while they are used; forget all others."""
        self._wanted = {provider.origin: provider for provider in providers if provider.warm_connections}
        for origin in self._wanted:
            self._server(origin)
            self._refill(origin)

    def put_back(self, connection: UpstreamConnection) -> None:
        """A connection's answer is over and it can serve again."""
        if connection.transport.is_closing():
            return
        self._server(connection.origin).idle.append(connection)
        self.sweeper.watch(connection, connection.timers.read_at + connection.keep_alive_s)

    def remember_session(self, connection: UpstreamConnection) -> None:
        """Keep a connection's TLS session for the next one to its host."""
        tls = connection.transport.get_extra_info("ssl_object")
        if tls is not None and isinstance(tls.context, SessionContext):
            tls.context.remember(connection.origin.host, tls)

    def expired(self, connection: UpstreamConnection) -> None:
        """A connection has been idle long enough; the provider would soon close it. Replace it while in use."""
        connection.abort()
        self._drop_idle(connection)
        self._refill(connection.origin)

    def spoiled(self, connection: UpstreamConnection) -> None:
        """A connection spoke without being asked; nothing that it says later can be trusted."""
        connection.abort()
        self._drop_idle(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        self._drop_idle(connection)

    def statistics(self) -> dict[str, int]:
        """The number of open connections, and of the idle ones among them."""
        return {"open": len(self._open), "idle": sum(len(server.idle) for server in self._servers.values())}

    async def close(self) -> None:
        """Close every connection, and end every dial."""
        self._wanted = {}
        for task in list(self._warming):
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()

    def _drop_idle(self, connection: UpstreamConnection) -> None:
        with contextlib.suppress(ValueError):
            self._server(connection.origin).idle.remove(connection)

    def _server(self, origin: Origin) -> _Server:
        server = self._servers.get(origin)
        if server is None:
            server = self._servers[origin] = _Server(monotonic())
        return server

    def _refill(self, origin: Origin) -> None:
        provider = self._wanted.get(origin)
        if provider is None or monotonic() - self._server(origin).used_at > _WARM_WHILE_USED_S:
            return
        dialling_now = list(self._warming.values()).count(origin)
        for _ in range(provider.warm_connections - len(self._server(origin).idle) - dialling_now):
            task = asyncio.get_running_loop().create_task(self._dial_ahead(provider))
            self._warming[task] = origin
            task.add_done_callback(self._warming.pop)

    async def _dial_ahead(self, provider: Provider) -> None:
        # A request that needs the provider will meet the same failure and report it.
        with contextlib.suppress(DialError):
            self.put_back(await self._dial(provider, 10.0))


def _dialled(task: asyncio.Task[UpstreamConnection]) -> UpstreamConnection | DialError:
    """The result of a dial.

    The task holds its exception, and with it the frames through which that came. So it is not raised here, where a frame holds
    the task and the callback's the request, and is stripped of its frames: the garbage collector runs rarely.
    """
    error = task.exception()
    if error is not None:
        if not isinstance(error, DialError):
            task.get_loop().call_exception_handler({"message": "a dial failed inside the gateway", "exception": error})
        _drop_frames(error)
        return error if isinstance(error, DialError) else DialError(FailureKind.CONNECT, "the gateway failed")
    connection = task.result()
    if connection.transport.is_closing():
        return DialError(FailureKind.BROKEN, "the connection was closed")
    return connection


def _drop_frames(error: BaseException | None) -> None:
    """Remove the frames of an error, and of those that led to it."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def _reason(error: OSError) -> str:
    """Short words for a failed connect. The library's own may hold addresses, so only the system's are used."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "its name or address can't be reached"
