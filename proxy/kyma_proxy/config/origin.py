"""Defines the servers of providers, and the ways to them."""

from __future__ import annotations

from typing import NamedTuple


class Proxy(NamedTuple):
    """An HTTP proxy on the way to a provider; `authorization` is the value of the header field with its user and password."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        """The address alone."""
        return f"Proxy({self.host!r}, {self.port})"


class Way(NamedTuple):
    """The way to a server, where that is not the usual one.

    `authorities` are the certificates, in PEM, that are trusted in place of the system's; `socket` is the path of a unix
    socket. Through a `proxy` https goes in a tunnel; a request in plain HTTP names the whole URL, and its head has the
    proxy's credential.
    """

    authorities: str | None = None
    socket: str | None = None
    proxy: Proxy | None = None


class Origin(NamedTuple):
    """The server to connect to, and the way there; None is the usual one. Connections are pooled by this alone."""

    scheme: str
    host: str
    port: int
    way: Way | None = None

    @property
    def authority(self) -> str:
        """The value of the `Host` header, with the port unless it is the scheme's default (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"
