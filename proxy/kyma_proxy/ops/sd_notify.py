"""Tells systemd, or whatever started the gateway and listens at NOTIFY_SOCKET, how it fares. (sd_notify(3))"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Final

_MICROSECONDS: Final = 1_000_000


class SystemdNotifier:
    """Sends the states of this process; does nothing where nobody listens."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """The loop of the gateway runs. WATCHDOG_USEC in the environment is how often a sign of life is awaited."""
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self._watchdog: asyncio.TimerHandle | None = None
        self._interval_s = _watchdog_s(environment) / 2
        if self._socket is not None:
            self._socket.setblocking(False)

    def ready(self, status: str) -> None:
        """The gateway serves."""
        self._send(f"READY=1\nSTATUS={status}")
        if self._interval_s and self._socket is not None:
            self._live()

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is being read again, until the end of the block."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._send("READY=1")

    def replaced_by(self, pid: int) -> None:
        """Another process is the main one from now on. Only the present one may say so."""
        self._send(f"MAINPID={pid}")

    def stopping(self, status: str = "drains") -> None:
        """The gateway ends."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def close(self) -> None:
        """Say nothing more."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _live(self) -> None:
        """Send a sign of life, again and again: it stays away when the loop hangs."""
        self._send("WATCHDOG=1")
        self._watchdog = asyncio.get_running_loop().call_later(self._interval_s, self._live)

    def _send(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """The time in which systemd awaits a sign of life from this process; 0 if it awaits none."""
    pid = environment.get("WATCHDOG_PID")
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or (pid is not None and pid != str(os.getpid())):
        return 0.0
    return int(text) / _MICROSECONDS
