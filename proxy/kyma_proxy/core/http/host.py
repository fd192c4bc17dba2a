"""Recognises the host and port of an http URI, in `Host` and in a target of absolute form. (RFC 9112 §3.2, RFC 3986 §3.2)

A name is what DNS and container networks have: labels of letters, digits, `-`, `_` and `~`. The other characters that RFC 3986
allows in a name, and percent-encoding, mean different things to different readers, so they are refused.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final

_HOST: Final = re.compile(rb"(?:[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*\.?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_MAX_BYTES: Final = 255 + len(":65535")
_MAX_REMEMBERED: Final = 1024
_good: Final[set[bytes]] = set()


def is_host_and_port(value: bytes) -> bool:
    """True if the value is a name, an IPv4 address or an IPv6 address in brackets, with or without a port."""
    if value in _good:
        return True
    if not _is_host_and_port(value):
        return False
    if len(_good) < _MAX_REMEMBERED:
        _good.add(value)
    return True


def _is_host_and_port(value: bytes) -> bool:
    match = _HOST.fullmatch(value)
    if match is None or len(value) > _MAX_BYTES:
        return False
    address, port = match[1], match[2]
    if address is not None:
        try:
            IPv6Address(address.decode())
        except ValueError:
            return False
    return not port or int(port) < 65536
