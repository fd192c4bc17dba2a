"""Opens the sockets on which the gateway listens; where that fails, one line says what to do."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import ssl
import stat
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from kyma_proxy.config.snapshot import Address, TcpAddress, Tls, UnixAddress
from kyma_proxy.errors import StartError
from kyma_proxy.loading.outside_values import Unavailable
from kyma_proxy.ops.outside_values import Reading, load_certificate

_BACKLOG: Final = 4096
_ALIVE_TIMEOUT_S: Final = 1.0
_OPTIONS: Final = MappingProxyType({
    "listen": "--listen; `serve --replace` takes the place of a running gateway", "admin.listen": "--admin",
})  # fmt: skip


def open_sockets(setting: str, address: Address) -> list[socket.socket]:
    """Listen on an address: on each one that a name stands for. `setting` is named in the StartError if that fails."""
    try:
        if isinstance(address, TcpAddress):
            return _open_tcp(address)
        _remove_stale_socket(address.path)
        return [_open_unix(setting, address)]
    except OSError as error:
        raise StartError(_cannot_listen(setting, address, error)) from None


def open_sockets_for(workers: int, address: Address) -> list[list[socket.socket]]:
    """Listen on the address of the public listener, for each of several workers: on TCP each has sockets of its own.

    The system then spreads connections over them. Raises StartError.
    """
    if not isinstance(address, TcpAddress):
        (only,) = open_sockets("listen", address)
        return [[only], *([duplicate(only)] for _ in range(workers - 1))]
    opened: list[list[socket.socket]] = []
    try:
        _check_is_free(address)
        for _ in range(workers):
            opened.append(_open_tcp(address, shares_port=True))
            if not address.port:
                address = TcpAddress(address.host, opened[0][0].getsockname()[1])
    except OSError as error:
        for made in [one for some in opened for one in some]:
            made.close()
        raise StartError(_cannot_listen("listen", address, error)) from None
    return opened


def duplicate(listening: socket.socket) -> socket.socket:
    """Another descriptor of a listening socket. `socket.dup` would let it block, for all who have it."""
    return socket.socket(fileno=os.dup(listening.fileno()))


def _check_is_free(address: TcpAddress) -> None:
    """Raises OSError if somebody else listens there: whoever shares a port would get a part of the connections unasked."""
    for family, kind, protocol, _, where in dict.fromkeys(_found(address)):
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trial.bind(where)


def remove_socket(address: Address) -> None:
    """Remove the file of a Unix socket that is listened on no longer."""
    if not isinstance(address, TcpAddress):
        with contextlib.suppress(OSError):
            os.unlink(address.path)


def tls_context(tls: Tls, reading: Reading) -> ssl.SSLContext:
    """The context of the public listener's handshakes; `reading` notes what its files held. Raises StartError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # a system may allow older ones
    context.set_alpn_protocols(["http/1.1"])
    for path in (tls.certificate, tls.key):
        try:
            reading.bytes_of(path)
        except Unavailable:
            raise StartError(f"tls: {path} can't be read") from None
    try:
        load_certificate(context, tls.certificate, tls.key)
    except (ssl.SSLError, OSError):
        raise StartError(f"tls: {tls.certificate} and {tls.key} are not a PEM certificate chain and its key") from None
    return context


def _found(address: TcpAddress) -> list[Any]:
    return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def _open_tcp(address: TcpAddress, *, shares_port: bool = False) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in dict.fromkeys(_found(address)):
            made = socket.socket(family, kind, protocol)
            opened.append(made)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _listen(made, where)
    except OSError:
        for made in opened:
            made.close()
        raise
    return opened


def _open_unix(setting: str, address: UnixAddress) -> socket.socket:
    """Listen when the file has its mode and group: before, nobody can connect."""

    def permit() -> None:
        try:
            _permit(setting, address, address.mode, address.group)
        except StartError:
            os.unlink(address.path)
            raise

    return _listen(socket.socket(socket.AF_UNIX), address.path, permit)


def _permit(setting: str, address: UnixAddress, mode: int | None, group: str | None) -> None:
    """Give the file of a Unix socket its mode and group. Raises StartError."""
    try:
        if group is not None:
            os.chown(address.path, -1, _group_id(group))
        if mode is not None:
            os.chmod(address.path, mode)
    except (KeyError, OSError) as error:
        reason = "is not there" if isinstance(error, KeyError) else f"can't have it: {(error.strerror or '').lower()}"
        raise StartError(f"{setting} {address}: the group {group} {reason}") from None


def adopt_sockets(setting: str, address: Address, sockets: list[socket.socket]) -> list[socket.socket]:
    """Listen on sockets that another process has opened: a Unix socket's file gets its mode and group as if made here.

    If the file is gone nobody could connect, so a new socket is opened. Raises StartError.
    """
    if isinstance(address, TcpAddress):
        return sockets
    try:
        directory = os.stat(os.path.dirname(address.path) or ".")
        found = os.stat(address.path)
    except OSError:
        for one in sockets:
            one.close()
        return open_sockets(setting, address)
    mode, group = address.mode, address.group
    if group is None and not directory.st_mode & stat.S_ISGID:
        group = str(os.getegid())
    if mode is None:
        umask = os.umask(0o077)
        os.umask(umask)
        mode = 0o777 & ~umask
    if group is not None and group.isdecimal() and found.st_gid == int(group):
        group = None
    _permit(setting, address, None if stat.S_IMODE(found.st_mode) == mode else mode, group)
    return sockets


def _group_id(group: str) -> int:
    return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid


def _listen(made: socket.socket, where: object, before: Callable[[], None] = lambda: None) -> socket.socket:
    """Bind, call `before`, and listen. Raises OSError or StartError."""
    try:
        made.bind(where)  # type: ignore[arg-type]
        before()
        made.listen(_BACKLOG)
    except (OSError, StartError):
        made.close()
        raise
    return made


def _cannot_listen(setting: str, address: Address, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"{setting} {address}: the name has no address"
    if error.errno == errno.EADDRINUSE:
        option = f" with {_OPTIONS[setting]}" if setting in _OPTIONS else ""
        return f"{setting} {address}: the address is in use; stop what listens there, or choose another{option}"
    if error.errno == errno.EACCES:
        return f"{setting} {address}: permission denied; ports below 1024 are for root"
    return f"{setting} {address}: {(error.strerror or str(error)).lower()}"


def _remove_stale_socket(path: str) -> None:
    """Remove the socket of a process that has died. Raises OSError if it is alive."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ALIVE_TIMEOUT_S)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "the address is in use")
