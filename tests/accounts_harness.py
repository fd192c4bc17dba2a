"""A gateway with accounts in this process, and its callers with keys."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.configurations import ProviderEntry, configuration
from tests.harness import Answer, Client, Gateway, Provider, gateway, providers

TOKEN = "an-admin-token-of-some-length"


class Caller:
    """A caller with an account and a key."""

    def __init__(self, client: Client, account: str, secret: str) -> None:
        self.client = client
        self.account = account
        self.secret = secret

    async def ask(self, method: str, path: str, document: Any = None, *, headers: str = "") -> Answer:
        """Send a request with the key."""
        body = b"" if document is None else json.dumps(document).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self.secret}\r\n{headers}"
        self.client.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return await self.client.answer()

    async def chat(self, **members: Any) -> Answer:
        """Send a chat request for the model `m`."""
        document = {"model": "m", "messages": [{"role": "user", "content": "hello"}]} | members
        return await self.ask("POST", "/v1/chat/completions", document)

    async def balance(self) -> Any:
        """The account's money, in US dollars."""
        return (await self.ask("GET", "/v1/credits/balance")).json


class AccountsGateway:
    """A gateway with accounts."""

    def __init__(self, running: Gateway) -> None:
        self.running = running

    @property
    def account_service(self) -> Any:
        """The accounts."""
        return self.running.app.account_service

    async def caller(self, email: str = "a@example.com", *, nano: int = 10**9) -> Caller:
        """A new caller with so many nano-dollars."""
        account, _, secret = await self.account_service.create_account(email, amount=nano, kind="grant")
        return Caller(await self.running.client(), account.id, secret)

    async def someone(self, secret: str) -> Caller:
        """A caller who sends this as a key."""
        return Caller(await self.running.client(), "", secret)


@contextlib.asynccontextmanager
async def accounts_gateway(
    directory: Path, *ports: int | ProviderEntry, accounts: str = "", models: str = "", more: str = "", pool: int | None = None
) -> AsyncIterator[AccountsGateway]:
    """A gateway with accounts in front of these ports; see `configuration` for the model `m`, `models` and `pool`."""
    section = f"accounts: {{required: true, database: 'sqlite:{directory}/kyma.db'{accounts}}}\n"
    text = configuration(*ports, models=models, pool=pool, more=f"{more}{section}admin: {{token: {TOKEN}}}\n")
    async with gateway(text, directory) as running:
        yield AccountsGateway(running)


@contextlib.asynccontextmanager
async def metered(directory: Path, *, accounts: str = "", more: str = "") -> AsyncIterator[tuple[AccountsGateway, Provider]]:
    """A gateway with accounts and its one provider."""
    async with providers(1) as (provider,), accounts_gateway(directory, provider.port, accounts=accounts, more=more) as made:
        yield made, provider
