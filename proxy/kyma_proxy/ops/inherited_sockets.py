"""Takes the listening sockets that systemd, or another supervisor, has opened for this process. (sd_listen_fds(3))"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from kyma_proxy.errors import StartError

_FIRST_DESCRIPTOR: Final = 3
_ADMIN_NAMES: Final = ("admin", "admin.listen")
_MAX_DESCRIPTORS: Final = 64


def inherited_sockets(environment: Mapping[str, str], *, first: int = _FIRST_DESCRIPTOR) -> dict[str, list[socket.socket]]:
    """The sockets by setting: `admin.listen` for those that are named `admin` in LISTEN_FDNAMES, `listen` for all others.

    Empty if LISTEN_PID is not this process. Raises StartError for what is no listening stream socket.
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or not int(count):
        return {}
    if int(count) > _MAX_DESCRIPTORS:
        raise StartError(f"LISTEN_FDS: {count} sockets are more than {_MAX_DESCRIPTORS}")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    for number in range(int(count)):
        name = names[number] if number < len(names) else ""
        found.setdefault("admin.listen" if name in _ADMIN_NAMES else "listen", []).append(_socket_at(first + number))
    return found


def _socket_at(descriptor: int) -> socket.socket:
    try:
        made = socket.socket(fileno=descriptor)
    except OSError as error:
        raise StartError(f"LISTEN_FDS: descriptor {descriptor} is no socket: {(error.strerror or '').lower()}") from None
    is_stream = made.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) and made.type == socket.SOCK_STREAM
    if not is_stream or not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        made.detach()
        raise StartError(f"LISTEN_FDS: descriptor {descriptor} is not a stream socket that listens")
    os.set_inheritable(descriptor, False)
    return made
