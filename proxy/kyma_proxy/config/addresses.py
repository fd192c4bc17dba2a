"""Parses the addresses of listeners, and validates host names."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from kyma_proxy.config.snapshot import Address, TcpAddress, UnixAddress

_TCP: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?")

_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]*")
"""The characters of an IPv6 zone in a URL (RFC 6874 §2); Python takes any."""


def parse_address(text: str) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `:8080` or `unix:/path.sock`; raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(path.encode()) > 107:
            raise ValueError("a unix socket is written unix:/absolute/path.sock, of at most 107 bytes")
        return UnixAddress(path)
    match = _TCP.fullmatch(text)
    if match is None or int(match["port"]) > 65535 or not (match["v6"] is None or is_host(match["v6"])):
        raise ValueError("an address is written host:port, [ipv6]:port or unix:/path.sock")
    return TcpAddress(match["v6"] or match["host"] or "0.0.0.0", int(match["port"]))  # noqa: S104  (`:8080` asks for it)


def is_host(host: str) -> bool:
    """True if this is a valid host name or IP address."""
    if _HOST.fullmatch(host):
        return len(host) <= 253
    try:
        address = ipaddress.ip_address(host)
        return isinstance(address, ipaddress.IPv6Address) and _ZONE.fullmatch(address.scope_id or "") is not None
    except ValueError:
        return False
