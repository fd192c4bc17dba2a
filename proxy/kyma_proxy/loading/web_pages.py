"""Compiles what a configuration says about web pages: `cors.origins` and `hosts`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from kyma_proxy.config.addresses import is_host
from kyma_proxy.config.snapshot import DEFAULT_ORIGINS

_WEB_ORIGIN: Final = re.compile(r"https?://(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:/]+))(?::(?P<port>[0-9]{1,5}|\*))?")
_OTHER_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[\x21-\x29\x2b\x2d-\x7e]*\*?")
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
    if not origin.startswith(("http://", "https://")):
        return None if _OTHER_ORIGIN.fullmatch(origin) else _ORIGIN
    match = _WEB_ORIGIN.fullmatch(origin)
    if match is not None and is_host(match["v6"] or match["host"]):
        return None
    return _STAR if origin.endswith("*") else _ORIGIN


def find_host_problem(host: str) -> str | None:
    """Return what is wrong with an entry of `hosts`; None if nothing is."""
    if is_host(host):
        return None
    return "is not a host's name or address; write it without a scheme and a port, such as gateway.internal"
