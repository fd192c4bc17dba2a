"""Compiles what a configuration says about web pages: `cors.origins` and `hosts`.

An origin is compared with the text that a browser sends, so an entry must be written as browsers write it (WHATWG URL, "ASCII
serialization of an origin"); any other would never match.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from kyma_proxy.config.addresses import is_host
from kyma_proxy.config.snapshot import DEFAULT_ORIGINS

_WEB: Final = ("http", "https")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_WEB_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[^\[\]:/]+))(?::(?P<port>[1-9][0-9]{0,4}|\*))?"
)
_OTHER_ORIGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:\*|[\x21-\x29\x2b\x2d-\x7e]*)")
_WITHOUT_ORIGIN: Final = frozenset({
    "about", "blob", "data", "filesystem", "ftp", "javascript", "mailto", "tel", "urn", "vbscript", "view-source", "ws", "wss",
})  # fmt: skip
"""Schemes whose documents have no origin of their own, or that load none: a browser sends `null` or another scheme."""
_ORIGIN: Final = 'an origin is "*" or a scheme and a host, such as https://app.example.com'
_STAR: Final = (
    "a `*` stands for a port (https://app.example.com:*) or for all that follows the scheme (app://*); after a part of a "
    "host's name, it would also allow other people's names"
)


def compile_origins(origins: Iterable[str] | None) -> frozenset[str]:
    """The origins that may call; the default ones if the file has no list."""
    return DEFAULT_ORIGINS if origins is None else frozenset(origins)


def find_origin_problem(origin: str) -> str | None:
    """Return what is wrong with an entry of `cors.origins`; None if nothing is."""
    if origin in ("*", "http://*", "https://*"):
        return None
    scheme = origin.partition(":")[0].lower()
    if scheme in _WITHOUT_ORIGIN:
        return f"no page has an origin that begins with {scheme}:"
    written = _as_browsers_write(origin)
    if written is not None and written != origin:
        return f"a browser never writes an origin so, but {written}"
    if scheme not in _WEB:
        if _OTHER_ORIGIN.fullmatch(origin):
            return None
        return _STAR if origin.endswith("*") and "://" in origin else _ORIGIN
    match = _WEB_ORIGIN.fullmatch(origin)
    if match is not None and is_host(match["v6"] or match["host"]) and _is_port(match["port"]):
        return None
    return _STAR if "*" in origin else _ORIGIN


def find_host_problem(host: str) -> str | None:
    """Return what is wrong with an entry of `hosts`; None if nothing is."""
    if is_host(host):
        return None
    return "is not a host's name or address; write it without a scheme and a port, such as gateway.internal"


def _as_browsers_write(origin: str) -> str | None:
    """The origin of a page at this address: small letters, no path, no usual port. None if there is no such address."""
    star = origin.endswith(":*")
    try:
        url = urlsplit(origin.removesuffix(":*"))
        host, port = url.hostname or "", url.port
    except ValueError:
        return None
    if "*" in origin.removesuffix(":*") or url.username is not None:
        return None
    if url.scheme not in _WEB:
        return f"{url.scheme}://{url.netloc}" if url.scheme and url.netloc and url.path == "/" else None
    host = _ascii_host(host)
    if not host:
        return None
    authority = f"[{host}]" if ":" in host else host
    if star:
        return f"{url.scheme}://{authority}:*"
    is_usual = port is None or str(port) == _DEFAULT_PORTS[url.scheme]
    return f"{url.scheme}://{authority}" if is_usual else f"{url.scheme}://{authority}:{port}"


def _ascii_host(host: str) -> str:
    """A host as browsers write it, or "" if it is none."""
    try:
        text = host if host.isascii() else host.encode("idna").decode("ascii")
        if ":" in text:
            return str(ipaddress.IPv6Address(text))
    except ValueError:
        return ""
    return text if is_host(text) else ""


def _is_port(port: str | None) -> bool:
    return port is None or port == "*" or int(port) <= 65535
