"""An address at which gateways serve, one after the other, in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from tests.configurations import ProviderEntry, configuration, listeners
from tests.harness import Client, Provider, providers
from tests.processes import GatewayProcess, free_port, serving
from tests.waiting import until

_TIMEOUTS = "{connect: 10s, first_byte: 100s, idle: 100s}"
"""A stream goes on while other processes start, which takes long on a busy machine."""


class Place:
    """An address, the provider behind whatever serves it, and the text of the configuration."""

    def __init__(self, directory: Path, provider: Provider, listen: str, *others: ProviderEntry, **how: str) -> None:
        self.directory = directory
        self.provider = provider
        self.listen = listen
        self.admin = free_port()
        self.tls: ssl.SSLContext | None = None
        admin = f"{{listen: '127.0.0.1:{self.admin}'}}"
        more = listeners(listen, access_log=directory / "access.log", admin=admin) + how.pop("more", "")
        how = {"timeouts": _TIMEOUTS, **how}
        self.text = configuration(provider.port, *others, pool=1, more=more, **how)
        self._clients: list[Client] = []
        self._count = 0

    @contextlib.asynccontextmanager
    async def serving(self, *arguments: str) -> AsyncIterator[GatewayProcess]:
        """A gateway of its own directory, once it says that it serves."""
        self._count += 1
        directory = self.directory / str(self._count)
        directory.mkdir()
        with contextlib.ExitStack() as stack:
            process = serving(self.text, directory, "", *arguments)
            yield await asyncio.to_thread(stack.enter_context, process)

    async def client(self) -> Client:
        """A new caller."""
        if self.listen.startswith("unix:"):
            client = Client(*await asyncio.open_unix_connection(self.listen.removeprefix("unix:")))
        else:
            name = None if self.tls is None else "localhost"
            opened = asyncio.open_connection(*self.listen.rsplit(":", 1), ssl=self.tls, server_hostname=name)
            client = Client(*await opened)
        self._clients.append(client)
        return client

    async def ask(self) -> int:
        """The status of an answer on a connection of its own."""
        client = await self.client()
        client.ask()
        answer = await client.answer()
        client.leave()
        return answer.status

    def close(self) -> None:
        """Let all callers leave."""
        for client in self._clients:
            client.leave()


@contextlib.asynccontextmanager
async def place(directory: Path, listen: str = "", *others: ProviderEntry, **how: str) -> AsyncIterator[Place]:
    """An address at which something may serve: the model `m` of one provider, and what `how` adds (see `configuration`)."""
    async with providers(1) as (provider,):
        made = Place(directory, provider, listen or f"127.0.0.1:{free_port()}", *others, **how)
        try:
            yield made
        finally:
            made.close()


async def ended(running: GatewayProcess) -> int:
    """The exit code of a process, once it has ended."""
    await until(lambda: running.has_ended)
    return running.end()
