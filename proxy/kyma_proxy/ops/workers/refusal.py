"""Tells a process that would take the place of a supervisor why it can't. (`control_socket` has the messages.)"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from typing import Final

from kyma_proxy.config.snapshot import Address
from kyma_proxy.ops import control_socket

_log: Final = logging.getLogger("kyma-proxy")
_WHY: Final = (
    "a gateway with several workers can't be replaced yet, and goes on serving; stop it, and start this one without it"
)


class RefusingSocket:
    """Waits where a process that replaces this one would look for it."""

    def __init__(self, address: Address, environment: Mapping[str, str]) -> None:
        self._path = control_socket.path_of(address, environment)
        self._socket: socket.socket | None = None
        if self._path is None:
            return
        try:
            self._socket = control_socket.listen(self._path)
        except OSError as error:
            _log.info("no control socket at %s: %s", self._path, (error.strerror or str(error)).lower())
        else:
            asyncio.get_running_loop().add_reader(self._socket, self._refuse, self._socket)

    @staticmethod
    def _refuse(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.setblocking(False)
                control_socket.send(connection, {"refused": _WHY})

    def close(self) -> None:
        """Wait no longer."""
        made, self._socket = self._socket, None
        if made is not None:
            asyncio.get_running_loop().remove_reader(made)
            made.close()
            if self._path is not None:
                with contextlib.suppress(OSError):
                    self._path.unlink()
