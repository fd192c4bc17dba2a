"""Opens connections to providers: names to addresses, happy eyeballs, TLS with session reuse.

Addresses come from aiodns through aiohttp's resolver and are kept for a while; when a name can't be resolved again,
the old addresses serve on. All that can go wrong becomes an OSError with a short reason.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

from aiohttp.abc import AbstractResolver

from kyma_proxy.config.origin import Origin, Proxy, Way
from kyma_proxy.net.upstream.detours import ProxyError, connected_unix, open_tunnel
from kyma_proxy.net.upstream.happy_eyeballs import AddressInfo, connect_first

ADDRESS_TTL_S: Final = 60.0
_EYEBALLS_DELAY_S: Final = 0.25
_MAX_NAMES: Final = 1024
_MAX_CONTEXTS: Final = 64

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class Addresses:
    """Names and their addresses, each resolved once at a time and kept for ADDRESS_TTL_S."""

    def __init__(self, resolver: AbstractResolver, clock: Callable[[], float]) -> None:
        self._resolver = resolver
        self._clock = clock
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[list[AddressInfo]]] = {}

    async def of(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of a host, in the order in which they are to be tried. Raises OSError."""
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        key = (host, port)
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            return list(known[1])
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        try:
            # Shielded, as others may wait for the same answer.
            return list(await asyncio.shield(asking))
        except OSError:
            if known is not None:
                return list(known[1])
            raise

    async def close(self) -> None:
        """End what is still asking, and the resolver."""
        for asking in list(self._asking.values()):
            asking.cancel()
        await self._resolver.close()

    async def _ask(self, key: tuple[str, int]) -> list[AddressInfo]:
        host, port = key
        found = await self._resolver.resolve(host, port, family=socket.AF_UNSPEC)
        infos: list[AddressInfo] = []
        for one in found:
            address: Any = (one["host"], one["port"]) if one["family"] == socket.AF_INET else (one["host"], one["port"], 0, 0)
            infos.append((one["family"], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address))
        if not infos:
            raise OSError(f"{host} has no address")
        if len(self._known) >= _MAX_NAMES:
            self._known.clear()
        self._known[key] = (self._clock() + ADDRESS_TTL_S, infos)
        return infos


class SessionContext(ssl.SSLContext):
    """A client's TLS context that offers each host the session of its last connection (RFC 8446 §2.2)."""

    sessions: dict[str, ssl.SSLSession]

    @classmethod
    def create(cls, authorities: str | None) -> SessionContext:
        """A context that trusts the system's authorities, or these certificates in PEM alone. Raises OSError."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # a system may allow older ones
        context.sessions = {}
        context.set_alpn_protocols(["http/1.1"])
        if authorities is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=authorities)
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin TLS, with the host's last session. asyncio and uvloop call this."""
        if session is None and isinstance(server_hostname, str):
            session = self.sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, host: str, connection: ssl.SSLObject) -> None:
        """Keep the session of a connection that has received its ticket."""
        session = connection.session
        if session is not None and session.has_ticket:
            self.sessions[host] = session


class Dialer:
    """Opens connections. One TLS context per set of authorities, made when it is first needed."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._contexts: dict[str | None, SessionContext] = {}

    async def dial(self, origin: Origin, make: Callable[[], _Protocol]) -> _Protocol:
        """A connection to `origin`, TLS done. Raises OSError (ssl.SSLError among them); cancelling closes what is open."""
        loop = asyncio.get_running_loop()
        way = origin.way
        context = None
        if origin.scheme == "https":
            context = self._context(None if way is None else way.authorities)
        sock = await (self._connected(origin) if way is None else self._connected_by(way, origin))
        try:
            _, protocol = await loop.create_connection(
                make, sock=sock, ssl=context, server_hostname=origin.host if context is not None else None
            )
        except asyncio.CancelledError:
            sock.detach()  # uvloop closes what it has taken; to do so again could hit another file of that number
            raise
        except BaseException:
            sock.close()
            raise
        return protocol

    async def _connected(self, server: Origin | Proxy) -> socket.socket:
        infos = await self._addresses.of(server.host, server.port)
        return await connect_first(infos, _EYEBALLS_DELAY_S)

    async def _connected_by(self, way: Way, origin: Origin) -> socket.socket:
        """A socket that leads to the server, by a unix socket or through a proxy."""
        if way.socket is not None:
            return await connected_unix(way.socket)
        if way.proxy is None:
            return await self._connected(origin)
        try:
            sock = await self._connected(way.proxy)
        except OSError as error:
            raise ProxyError("could not be reached") from error
        if origin.scheme == "https":
            await open_tunnel(sock, way.proxy, origin.host, origin.port)
        return sock

    def _context(self, authorities: str | None) -> SessionContext:
        known = self._contexts.get(authorities)
        if known is None:
            if len(self._contexts) >= _MAX_CONTEXTS:  # authorities are renewed, and the old ones are of no use
                self._contexts.clear()
            known = self._contexts[authorities] = SessionContext.create(authorities)
        return known


def _literal(host: str, port: int) -> AddressInfo | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 6:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))
