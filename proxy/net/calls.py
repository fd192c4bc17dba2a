"""This file makes whole HTTP exchanges with providers: one question, one answer in memory. (Contract §10.)

It is for what is not relayed. Redirects are not followed and the environment's proxies not used: a provider's address comes
from the configuration alone.
"""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from proxy.config.snapshot import Provider
from proxy.core.outcome import Failure
from proxy.dialect.images import Call

MOST_BYTES: Final = 32 * 2**20
_KEEP_ALIVE_S: Final = 10.0  # less than providers wait, as a call over a connection that they closed would fail
_MOST_CONNECTIONS: Final = 2000


class Reply(NamedTuple):
    """A provider's answer; names of `fields` in lower case."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes


class CallFailed(Exception):
    """There is no answer. `is_undone` says that the provider surely did nothing."""

    def __init__(self, failure: Failure, detail: str, *, is_undone: bool = False) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.is_undone = is_undone


class Calls:
    """Connections to providers for such exchanges. Made inside the loop; `close` ends them."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def make(self, provider: Provider, call: Call, *, connect_s: float | None, total_s: float) -> Reply:
        """Ask, and wait for the whole answer. Raises CallFailed."""
        origin = provider.origin
        url = URL(f"{origin.scheme}://{origin.authority}{provider.base_path.decode()}{call.path}", encoded=True)
        headers = _headers(provider)
        if call.body is not None:
            headers["content-type"] = "application/json"
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s)
        try:
            async with self._opened().request(
                call.method, url, data=call.body, headers=headers, timeout=timeout, allow_redirects=False,
                ssl=self._context(origin.ca_file),
            ) as response:  # fmt: skip
                body = await _whole(response)
                fields = {name.lower(): value for name, value in response.raw_headers}
                return Reply(response.status, fields, body)
        except aiohttp.ConnectionTimeoutError:
            raise CallFailed(Failure.CONNECT_TIMEOUT, "did not accept a connection in time", is_undone=True) from None
        except TimeoutError:
            raise CallFailed(Failure.FIRST_BYTE_TIMEOUT, "did not answer in time") from None
        except aiohttp.ClientConnectorError:
            raise CallFailed(Failure.CONNECT, "could not be reached", is_undone=True) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise CallFailed(Failure.BROKEN, "broke off, or did not answer in HTTP") from None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver, limit=_MOST_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=60
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept"),
            )  # fmt: skip
        return self._session

    def _context(self, ca_file: str | None) -> ssl.SSLContext | bool:
        if ca_file is None:
            return True
        context = self._contexts.get(ca_file)
        if context is None:
            context = self._contexts[ca_file] = ssl.create_default_context(cafile=ca_file)
        return context


def _headers(provider: Provider) -> dict[str, str]:
    """The provider's own lines; aiohttp writes the `Host` itself."""
    lines = (line.partition(": ") for line in provider.head.decode("ascii").splitlines())
    return {name: value for name, _, value in lines if name != "host"}


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body, as far as it may be. Raises CallFailed where there is more."""
    pieces: list[bytes] = []
    size = 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > MOST_BYTES:
            raise CallFailed(Failure.BROKEN, f"its answer is larger than {MOST_BYTES // 2**20} MiB")
        pieces.append(piece)
    return b"".join(pieces)
