"""Takes in new connections from listening sockets: a few in each turn of the loop, and no more than there are places for.

A server of the loop's own accepts whatever waits, at once: a flood of some hundred connections holds up everybody's events for
milliseconds. Here the others have their turns in between. A connection is made into an object of its own when its caller says
something. Until then it takes no place: where all are taken, the one that has been silent for longest makes room.
With TLS, handshakes under way take places as well.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any, Final, cast

from kyma_proxy.dialect.registry import error_answer
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.listener import HandOver, Listener
from kyma_proxy.net.downstream.request_reader import TLS_HANDSHAKE
from kyma_proxy.net.downstream.silent_connections import AT_ONCE, SilentConnections

_log: Final = logging.getLogger("kyma-proxy")
_RETRY_S: Final = 0.1
_WARNING_INTERVAL_S: Final = 60.0
_UNENCRYPTED_LINGER_S: Final = 2.0
_MAX_UNENCRYPTED_BYTES: Final = 256 * 1024
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts from listening sockets until `close`, which closes them."""

    def __init__(
        self, listening: Sequence[socket.socket], listener: Listener, protocol: Callable[[], asyncio.Protocol], *,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:  # fmt: skip
        """`protocol` makes that of a new connection; `tls` returns the context of the next handshake, without it there is none.

        A handshake has as long as a request's head.
        """
        self.sockets = tuple(listening)
        self._listener = listener
        self._protocol = protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._silent = SilentConnections()
        self._opening: set[asyncio.Task[None]] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._unencrypted: set[asyncio.Transport] = set()
        self._warned_at: float | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._is_accepting = False
        self.slot = 0
        listener.acceptors.add(self)

    def __len__(self) -> int:
        """The number of connections that it has accepted and nothing else knows of yet."""
        return len(self._silent) + len(self._handshakes) + len(self._unencrypted)

    def start(self) -> None:
        """Begin to accept."""
        self._is_accepting = True
        for listening in self.sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)

    def pause(self) -> None:
        """Accept no more; what connects from now on waits in the kernel's queue. Does nothing if that is so already."""
        if self._is_accepting:
            self._is_accepting = False
            if self._retry is not None:
                self._retry.cancel()
            self._stop_reading()

    def _stop_reading(self) -> None:
        for listening in self.sockets:
            self._loop.remove_reader(listening)

    def drain(self, hand_over: HandOver | None) -> None:
        """Leave the silent connections to the process that follows this one, or close them."""
        if hand_over is None:
            self._silent.close_all()
        else:
            self._silent.hand_over(hand_over, are_new=self._tls is not None)

    def close(self) -> None:
        """Close the listening sockets and the silent connections, and end the handshakes under way.

        Those go on if another process follows this one: what is asked afterwards is forwarded to it.
        """
        self.pause()
        for listening in self.sockets:
            listening.close()
        if self._listener.hand_over is not None:
            self._silent.close()
            return
        for task in self._handshakes:  # others have their connection at once, and its protocol knows that it must end
            task.cancel()
        for transport in self._unencrypted:
            transport.abort()
        self._silent.close()
        self._listener.acceptors.discard(self)
        self._listener.sweeper.forget(self)

    def look(self, now: float) -> float | None:
        """Close who has been silent for too long; returns when to look next. (For Sweeper.)"""
        return self._silent.close_late(now)

    # ---- accepting

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._wait(error)
                    return
                continue  # the caller left before it was accepted
            self._take(accepted)

    def adopt(self, descriptor: int, *, is_new: bool) -> None:
        """Take in a connection that another process had accepted: plain and between two requests, or as it was accepted."""
        listener, accepted = self._listener, socket.socket(fileno=descriptor)
        if listener.is_draining and listener.hand_over is not None:  # this process has been replaced as well
            listener.hand_over(accepted.detach(), is_new=is_new)
        elif is_new:
            self._take(accepted)
        else:
            self._hold(accepted, listener.current().limits.keep_alive, self._serve)

    def _take(self, accepted: socket.socket) -> None:
        heard = self._serve if self._tls is None else self._hear_first_byte
        self._hold(accepted, self._listener.current().limits.head_timeout, heard)

    def _hold(self, accepted: socket.socket, seconds: float, heard: Callable[[socket.socket], None]) -> None:
        listener = self._listener
        accepted.setblocking(False)
        if listener.is_draining or not (listener.has_room() or self._silent.close_oldest()):
            accepted.close()
            return
        due = monotonic() + seconds
        self._silent.add(accepted, due, heard)
        listener.sweeper.watch(self, due)

    def _serve(self, accepted: socket.socket) -> None:
        self._run(self._plain(accepted), self._opening)

    def _hear_first_byte(self, accepted: socket.socket) -> None:
        try:
            first = accepted.recv(1, socket.MSG_PEEK)
        except OSError:
            accepted.close()
            return
        if self._tls is not None and TLS_HANDSHAKE.startswith(first):
            self._run(self._encrypted(accepted, self._tls()), self._handshakes)
        else:
            self._run(self._unencrypted_answer(accepted), self._opening)

    def _wait(self, error: OSError) -> None:
        """No descriptor is left: those who wait stay in the kernel's queue until one may have become free."""
        self._stop_reading()
        self._retry = self._loop.call_later(_RETRY_S, self.start)
        now = monotonic()
        if self._warned_at is None or now - self._warned_at > _WARNING_INTERVAL_S:
            self._warned_at = now
            _log.error("no new connection can be accepted: %s; raise the limit of open files", (error.strerror or "").lower())

    def _run(self, opening: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = self._loop.create_task(opening)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _plain(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted)
        except OSError:
            accepted.close()

    async def _encrypted(self, accepted: socket.socket, tls: ssl.SSLContext) -> None:
        timeout = self._listener.current().limits.head_timeout
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted, ssl=tls, ssl_handshake_timeout=timeout)
        except OSError:  # a handshake that fails is the caller's affair
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise

    async def _unencrypted_answer(self, accepted: socket.socket) -> None:
        error = GatewayError(Kind.BAD_HTTP, "This port speaks TLS: use an address that begins with https.")
        answer = error_answer(error, self._listener.fresh_id())
        try:
            await self._loop.connect_accepted_socket(lambda: _Unencrypted(answer, self._unencrypted), accepted)
        except OSError:
            accepted.close()


class _Unencrypted(asyncio.Protocol):
    """Tells a caller that TLS is spoken here, and closes when it has been read. While it is open it is one of `others`."""

    def __init__(self, answer: bytes, others: set[asyncio.Transport]) -> None:
        self._answer = answer
        self._others = others
        self._received = 0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        self._others.add(transport)
        self._timer = asyncio.get_running_loop().call_later(_UNENCRYPTED_LINGER_S, transport.abort)
        transport.write(self._answer)
        transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > _MAX_UNENCRYPTED_BYTES and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None and self._transport is not None:
            self._timer.cancel()
            self._others.discard(self._transport)
