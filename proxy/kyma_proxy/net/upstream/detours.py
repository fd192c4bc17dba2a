"""Connects where the way to a provider is not a plain connection: a unix socket, or a tunnel through an HTTP proxy."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Final

from kyma_proxy.config.origin import Proxy

_MAX_HEAD_BYTES: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |\r\n)")
_SENTENCES: Final = {
    b"407": "asks for a user and a password, or refuses those in its URL (407)",
    b"403": "does not allow this host (403)",
    b"502": "could not reach the provider (502)", b"503": "could not reach the provider (503)",
    b"504": "could not reach the provider in time (504)",
}  # fmt: skip


class ProxyError(OSError):
    """The proxy on the way gave no connection; `why` not, in words that hold no address and no credential."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


async def connected_unix(path: str) -> socket.socket:
    """A socket that is connected to a unix socket. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, path)
    except BaseException:
        made.close()
        raise
    return made


async def open_tunnel(made: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Ask a proxy, to which this socket is connected, for a tunnel to a server (RFC 9110 §9.3.6).

    Raises OSError, and closes the socket; so does cancelling.
    """
    loop = asyncio.get_running_loop()
    server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    credential = "" if proxy.authorization is None else f"proxy-authorization: {proxy.authorization}\r\n"
    try:
        await loop.sock_sendall(made, f"CONNECT {server} HTTP/1.1\r\nhost: {server}\r\n{credential}\r\n".encode("ascii"))
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await loop.sock_recv(made, _MAX_HEAD_BYTES)
            head += piece
            if not piece or len(head) > _MAX_HEAD_BYTES:
                raise ProxyError("closed the connection" if not piece else "does not speak HTTP")
        status = _STATUS.match(head)
        if status is None:
            raise ProxyError("does not speak HTTP")
        if not status[1].startswith(b"2"):
            raise ProxyError(_SENTENCES.get(status[1], f"answered {status[1].decode()}"))
        if not head.endswith(b"\r\n\r\n"):  # the server waits for the first bytes of TLS, so these are nobody's
            raise ProxyError("sent more than the tunnel's head")
    except BaseException:
        made.close()
        raise
