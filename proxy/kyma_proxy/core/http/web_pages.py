"""Decides which requests of web browsers are served. (Contract §1.)

Any page that a browser shows can send requests to this machine: a form, a picture or a `fetch` needs no permission for that. So
where no key tells callers apart, the headers do that a browser sets and no page can change. `Origin` names the page that sends
the request, `Sec-Fetch-Site` says that it is another site's, and `Host` is the name under which the browser found the gateway:
after DNS rebinding, a name of the attacker's. A program that is no browser sends neither of the first two, and passes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from kyma_proxy.config.snapshot import DEFAULT_ORIGINS, LOOPBACK_ORIGINS, Address, Snapshot, TcpAddress
from kyma_proxy.core.http.answers import cors_lines
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.errors import GatewayError, Kind

_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]*:[^\[\]@/]*)\]|([^\[\]:@/]+))(?::[0-9]*)?")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_PORT: Final = re.compile(r":[0-9]{1,5}$", re.ASCII)
_ORIGIN: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_MAX_AUTHORITIES_REMEMBERED: Final = 256
_MAX_BYTES_SHOWN: Final = 200


class WebPagePolicy:
    """The rules of one listener under one configuration.

    `origins` and `hosts` are as in the snapshot. `protects`: no key tells callers apart, so pages are refused unless their
    origin is allowed. `is_local`: `Host` must be a loopback name or address, or the listener's own; `takes_addresses`: any IP
    address is its own.
    """

    __slots__ = (
        "_any_port", "_exact", "_is_local", "_names", "_own_scheme", "_prefixes", "_protects", "_remembered",
        "_takes_addresses",
    )  # fmt: skip

    def __init__(
        self, origins: frozenset[str], hosts: Iterable[str] = (), *, own_scheme: str = "http", protects: bool = True,
        is_local: bool = False, takes_addresses: bool = False,
    ) -> None:  # fmt: skip
        if origins == DEFAULT_ORIGINS and not protects:
            origins = frozenset()  # callers with keys come from nowhere unless the operator says so
        self._exact = frozenset({one for one in origins if not one.endswith("*")})
        # A star stands for all, for all of a scheme, or for a port: after a part of a name it would allow other people's names.
        self._any_port = frozenset({one[:-2] for one in origins if one.endswith(":*")})
        self._prefixes = tuple(sorted({one[:-1] for one in origins if one == "*" or one.endswith("://*")}))
        self._own_scheme = own_scheme
        self._protects = protects
        self._is_local = is_local
        self._takes_addresses = takes_addresses
        self._names = frozenset({_normal(host) for host in hosts})
        self._remembered: set[bytes] = set()

    def admit(self, target: bytes, headers: Headers) -> bytes:
        """The lines that let the page that sends this request read the answer; b"" for any other caller.

        Raises GatewayError if the request must not be served.
        """
        authority: bytes | None = None
        origin: bytes | None = None
        site: bytes | None = None
        for name, value in headers:
            size = len(name)
            if size == 4:
                if name.lower() == b"host":
                    authority = _joined(authority, value)
            elif size == 6:
                if name.lower() == b"origin":
                    origin = _joined(origin, value)
            elif size == 14 and name.lower() == b"sec-fetch-site":
                site = _joined(site, value)
        if self._is_local:
            self._check_host(target, authority)
        if origin is None:
            if site is not None and self._protects and b"cross-site" in site.lower():
                raise _refused(
                    "A web page of another site sent this request, and does not say which: a browser names it in `Origin` "
                    "for a `fetch` with CORS. Add its origin to `cors.origins` in the gateway's configuration."
                )
            return b""
        text = origin.decode("latin-1")
        if self._is_allowed(text):
            return cors_lines(origin)
        if self._protects and not self._is_own(text, target, authority):
            raise _refused(_why_refused(text))
        return b""

    def readable(self, headers: Headers) -> bytes:
        """The lines that let the page that sends these fields read an error about a request that can't be served; else b""."""
        origin: bytes | None = None
        for name, value in headers:
            if len(name) == 6 and name.lower() == b"origin":
                origin = _joined(origin, value)
        return cors_lines(origin) if origin is not None and self._is_allowed(origin.decode("latin-1")) else b""

    def _is_allowed(self, origin: str) -> bool:
        if origin == "null" and self._protects:
            return False  # any page can get it, with a sandboxed frame
        if not _ORIGIN.fullmatch(origin):
            return False
        return (
            origin in self._exact
            or origin.startswith(self._prefixes)
            or (bool(self._any_port) and _without_port(origin) in self._any_port)
            or (LOOPBACK_ORIGINS in self._exact and _is_loopback_origin(origin))
        )

    def _is_own(self, origin: str, target: bytes, authority: bytes | None) -> bool:
        """True if the gateway itself serves the page."""
        authority = authority_of(target) or authority
        return authority is not None and origin.lower() == f"{self._own_scheme}://{authority.decode('latin-1').lower()}"

    def _check_host(self, target: bytes, authority: bytes | None) -> None:
        if not target.startswith(b"/"):
            authority = authority_of(target) or authority
        if authority is None or authority in self._remembered:
            return
        host = _host_of(authority.decode("latin-1"))
        if not (is_loopback(host) or host in self._names or (self._takes_addresses and _is_address(host))):
            raise _refused(
                f"{_shown(host) or 'The name in `Host`'} is no name of this gateway; if it should be, add it to `hosts` in the "
                "configuration."
            )
        if len(authority) <= _MAX_BYTES_SHOWN and len(self._remembered) < _MAX_AUTHORITIES_REMEMBERED:
            self._remembered.add(authority)


def public_policy(snapshot: Snapshot) -> WebPagePolicy:
    """The policy of the public listener."""
    protects = not snapshot.accounts.required
    listen = snapshot.listen
    return WebPagePolicy(
        snapshot.cors_origins, _names(snapshot, listen), own_scheme="http" if snapshot.tls is None else "https",
        protects=protects, is_local=protects and isinstance(listen, TcpAddress) and is_loopback(_normal(listen.host)),
    )  # fmt: skip


def admin_policy(snapshot: Snapshot) -> WebPagePolicy:
    """The policy of the admin listener, which is private whatever the accounts.

    Where it can be reached from elsewhere, an IP address in `Host` is its own: probes and scrapers send one, and a name that
    was rebound is none.
    """
    listen = None if snapshot.admin is None else snapshot.admin.listen
    is_tcp = isinstance(listen, TcpAddress)
    return WebPagePolicy(
        snapshot.cors_origins, _names(snapshot, listen), is_local=is_tcp,
        takes_addresses=isinstance(listen, TcpAddress) and not is_loopback(_normal(listen.host)),
    )  # fmt: skip


def authority_of(target: bytes) -> bytes | None:
    """The authority of a request target in absolute form, which takes the place of `Host` (RFC 9112 §3.2.2); else None."""
    match = _ABSOLUTE.match(target)
    return None if match is None else match[1]


def is_loopback(host: str) -> bool:
    """True if this name or address, in lower case, is always this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address.is_loopback if mapped is None else mapped.is_loopback


def _names(snapshot: Snapshot, listen: Address | None) -> list[str]:
    return [*snapshot.hosts, *([listen.host] if isinstance(listen, TcpAddress) else ())]


def _without_port(origin: str) -> str:
    """An origin that names a port, without it; "" of another."""
    match = _PORT.search(origin)
    return "" if match is None else origin[: match.start()]


def _is_loopback_origin(origin: str) -> bool:
    scheme, separator, authority = origin.partition("://")
    return bool(separator) and scheme.lower() in ("http", "https") and is_loopback(_host_of(authority))


def _host_of(authority: str) -> str:
    """The host without its port, in its normal form; "" if this is no host and port."""
    match = _AUTHORITY.fullmatch(authority)
    return "" if match is None else _normal(match[1] or match[2])


def _normal(host: str) -> str:
    """A host as it is compared: in lower case, without the dot of a whole name, an address in its usual spelling."""
    host = host.lower().removesuffix(".")
    return str(ipaddress.ip_address(host)) if _is_address(host) else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _joined(former: bytes | None, value: bytes) -> bytes:
    """A field's value; of a field that is there twice one that nothing allows."""
    return value if former is None else former + b", " + value


def _shown(text: str) -> str:
    """The text of a caller's header as an error may repeat it."""
    return f"`{text}`" if _ORIGIN.fullmatch(text) and len(text) <= _MAX_BYTES_SHOWN and "`" not in text else ""


def _why_refused(origin: str) -> str:
    if origin == "null":
        return (
            "A page without an origin of its own (`Origin: null`) can't use this gateway; serve it from an address, and add "
            "that to `cors.origins` in the gateway's configuration."
        )
    shown = _shown(origin)
    if not shown:
        return "The page that sent this request may not use this gateway: its `Origin` is none that `cors.origins` could name."
    return (
        f"Pages of {shown} may not use this gateway; if they should, add their origin to `cors.origins` in its configuration."
    )


def _refused(message: str) -> GatewayError:
    return GatewayError(Kind.FORBIDDEN, message)
