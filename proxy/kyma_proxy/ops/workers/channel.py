"""Carries messages and descriptors between the supervisor and one worker: a pair of sockets that keep messages apart.

A message is msgpack. One that is too large for a packet is in a file in memory, whose descriptor comes first. What the other
side does not take at once waits here, up to MAX_WAITING_BYTES.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from kyma_proxy.ops.control_socket import MAX_DESCRIPTORS
from kyma_proxy.ops.workers.messages import Message

MAX_WAITING_BYTES: Final = 32 * 2**20
_MAX_PACKET_BYTES: Final = 48 * 1024
_INLINE: Final = b"i"
_IN_FILE: Final = b"f"
_AT_ONCE: Final = 16
_FLUSH_S: Final = 0.005
_encode: Final = msgspec.msgpack.Encoder().encode
_T = TypeVar("_T")


def file_with(content: bytes) -> int:
    """The descriptor of a file in memory with this content."""
    descriptor = os.memfd_create("kyma-proxy", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor


def content_of(descriptor: int) -> bytes:
    """The content of a file in memory, which is closed."""
    try:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def receive(connection: socket.socket, decoder: msgspec.msgpack.Decoder[_T]) -> tuple[_T, list[int]] | None:
    """The next message, and its descriptors, which are the caller's; None at the end. Raises OSError, BlockingIOError."""
    packet, descriptors, _, _ = socket.recv_fds(connection, _MAX_PACKET_BYTES + 1, MAX_DESCRIPTORS)
    if not packet:
        return None
    body = packet[1:]
    if packet[:1] == _IN_FILE:
        body = content_of(descriptors.pop(0))
    return decoder.decode(body), list(descriptors)


def packet_of(message: Message) -> bytes:
    """A small message, for who sends it without a loop."""
    return _INLINE + _encode(message)


class Channel(Generic[_T]):
    """One end, in a running loop. `on_message` gets descriptors, which are its own; `on_end` is called once."""

    def __init__(
        self, connection: socket.socket, kind: Any, on_message: Callable[[_T, list[int]], None], on_end: Callable[[], None]
    ) -> None:
        """`kind` is the type of the messages that come."""
        self._connection = connection
        self._decoder: msgspec.msgpack.Decoder[_T] = msgspec.msgpack.Decoder(kind)
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._waiting_bytes = 0
        self._is_writing = False
        self._is_open = True
        connection.setblocking(False)
        self._loop.add_reader(connection, self._read)

    @property
    def is_clear(self) -> bool:
        """True if the other side has taken all that was sent, or is gone."""
        return not self._waiting

    @property
    def is_open(self) -> bool:
        """True until one of both sides has closed it."""
        return self._is_open

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send a message, and descriptors, which are the channel's from now on. Returns False if it is lost."""
        if not self._is_open or self._waiting_bytes > MAX_WAITING_BYTES:
            for descriptor in descriptors:
                os.close(descriptor)
            return False
        body = _encode(message)
        self._waiting_bytes += len(body)
        if len(body) < _MAX_PACKET_BYTES:
            self._waiting.append((_INLINE + body, tuple(descriptors)))
        else:
            self._waiting.append((_IN_FILE + len(body).to_bytes(8), (file_with(body), *descriptors)))
        if not self._is_writing:
            self._write()
        return True

    def _write(self) -> None:
        while self._waiting:
            packet, descriptors = self._waiting[0]
            try:
                socket.send_fds(self._connection, [packet], descriptors)
            except BlockingIOError:
                if not self._is_writing:
                    self._is_writing = True
                    self._loop.add_writer(self._connection, self._write)
                return
            except OSError:
                self.close()
                self._loop.call_soon(self._on_end)
                return
            self._waiting.popleft()
            in_file = packet[:1] == _IN_FILE
            self._waiting_bytes -= int.from_bytes(packet[1:]) if in_file else len(packet) - 1
            for descriptor in descriptors:
                os.close(descriptor)
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._connection)

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._is_open:
                return
            try:
                received = receive(self._connection, self._decoder)
            except BlockingIOError:
                return
            except (OSError, msgspec.MsgspecError):
                received = None
            if received is None:
                self.close()
                self._on_end()
                return
            self._on_message(*received)

    async def flushed(self, seconds: float) -> None:
        """Wait until the other side has taken all that was sent, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._waiting:  # noqa: ASYNC110  (it is seldom waited for)
                    await asyncio.sleep(_FLUSH_S)

    def close(self) -> None:
        """Close this end. A second call does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._connection)
        if self._is_writing:
            self._loop.remove_writer(self._connection)
        self._connection.close()
        for _, descriptors in self._waiting:
            for descriptor in descriptors:
                os.close(descriptor)
        self._waiting.clear()
