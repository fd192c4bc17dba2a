"""Parses the addresses of listeners, and validates host names."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from kyma_proxy.config.snapshot import Address, TcpAddress, UnixAddress

_TCP: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")
_MODE: Final = re.compile(r"0?[0-7]{3}")
_GROUP: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?")

_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]*")
"""The characters of an IPv6 zone in a URL (RFC 6874 §2); Python takes any."""


def parse_address(text: str) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `:8080` or `unix:/path.sock?mode=0660&group=app`; raises ValueError."""
    if text.startswith("unix:"):
        return _unix_address(text.removeprefix("unix:"))
    match = _TCP.fullmatch(text)
    if match is None or int(match["port"]) > 65535 or not (match["v6"] is None or is_host(match["v6"])):
        raise ValueError(f"an address is written host:port, [ipv6]:port or unix:/path.sock{_hint(text)}")
    return TcpAddress(match["v6"] or match["host"] or "0.0.0.0", int(match["port"]))  # noqa: S104  (`:8080` asks for it)


def _hint(text: str) -> str:
    """The nearest address, for the mistakes that are made most."""
    scheme, separator, _ = text.partition("://")
    if separator:
        return f"; leave {scheme}:// and a path out" if scheme in ("http", "https", "tcp") else ""
    if text.isascii() and text.isdecimal() and int(text) <= 65535:
        return f"; write 127.0.0.1:{text}, or :{text} for all addresses"
    _, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdecimal() and int(port) > 65535:
        return "; the highest port is 65535"
    return "; the port is missing" if ":" not in text and is_host(text) else ""


def _unix_address(text: str) -> UnixAddress:
    path, mark, query = text.partition("?")
    if not path.startswith("/") or "\0" in path or len(path.encode()) > 107:
        raise ValueError("a unix socket is written unix:/absolute/path.sock, of at most 107 bytes")
    options = dict(one.partition("=")[::2] for one in query.split("&")) if mark else {}
    mode, group = options.pop("mode", None), options.pop("group", None)
    if options or (mode is not None and not _MODE.fullmatch(mode)) or (group is not None and not _GROUP.fullmatch(group)):
        raise ValueError("a unix socket's file gets its mode and group as in unix:/path.sock?mode=0660&group=app")
    return UnixAddress(path, None if mode is None else int(mode, 8), group)


def is_host(host: str) -> bool:
    """True if this is a valid host name or IP address."""
    if _HOST.fullmatch(host):
        return len(host) <= 253
    try:
        address = ipaddress.ip_address(host)
        return isinstance(address, ipaddress.IPv6Address) and _ZONE.fullmatch(address.scope_id or "") is not None
    except ValueError:
        return False
