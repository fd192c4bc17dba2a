"""Reads the target of a request, which has one of the forms that a server is sent. (RFC 9112 §3.2)

Characters that every browser and library encodes are refused, because two readers may understand them differently.
`[]{}|^` and the grave accent pass: browsers send them in a query as they are.
"""

from __future__ import annotations

import re
from typing import Final

from kyma_proxy.core.http.host import is_host_and_port
from kyma_proxy.errors import GatewayError, Kind

_NO_HTTP_METHODS: Final = frozenset({b"SOURCE", b"M-SEARCH", b"NOTIFY", b"SUBSCRIBE", b"UNSUBSCRIBE", b"PRI"})
"""Methods of other protocols that the parser knows as well."""
_ORIGIN: Final = re.compile(rb"/[!$-;=?-\[\]-~]*")  # visible ASCII but `"`, `#`, `<`, `>` and the backslash
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
_MAX_REMEMBERED: Final = 256
_MAX_REMEMBERED_BYTES: Final = 128
_good: Final[set[bytes]] = set()


def origin_form(method: bytes, target: bytes) -> bytes:
    """The path and query of a target; `*` for OPTIONS of the whole server. Raises GatewayError if it is no target."""
    if target in _good:
        return target
    if _ORIGIN.fullmatch(target):
        if len(_good) < _MAX_REMEMBERED and len(target) <= _MAX_REMEMBERED_BYTES:
            _good.add(target)
        return target
    if target == b"*":
        if method == b"OPTIONS":
            return target
        raise GatewayError(Kind.BAD_HTTP, "The target `*` is for OPTIONS only; send a path.")
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise _bad_target()
    authority, rest = match[1], match[2]
    if not is_host_and_port(authority):
        raise GatewayError(
            Kind.BAD_HTTP, "The request's target has no valid host; it must be a name or an address, and no more."
        )
    if not rest:
        return b"*" if method == b"OPTIONS" else b"/"  # RFC 9112 §3.2.4
    path = rest if rest.startswith(b"/") else b"/" + rest
    if not _ORIGIN.fullmatch(path):
        raise _bad_target()
    return path


def check_method(method: bytes) -> None:
    """Raises GatewayError for a method of another protocol, and for CONNECT, which is for proxies that open tunnels."""
    if method == b"CONNECT":
        raise GatewayError(Kind.METHOD_NOT_ALLOWED, "CONNECT is not served here; send requests to /v1/… directly.")
    if method in _NO_HTTP_METHODS:
        raise GatewayError(Kind.BAD_HTTP, f"{method.decode()} is no method of HTTP.")


def _bad_target() -> GatewayError:
    return GatewayError(
        Kind.BAD_HTTP,
        "The request's target must be a path like /v1/models, or an http URI; a fragment, and characters that have to be "
        "percent-encoded, are not allowed.",
    )
