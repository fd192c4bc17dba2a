"""A gateway with the dashboard, and a visitor with a browser's cookie and a browser's headers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

from tests.accounts_harness import AccountsGateway, Caller, accounts_gateway
from tests.harness import Answer, Client, providers

DASHBOARD = "dashboard: {enabled: true, public_url: 'http://127.0.0.1:8080'}\n"


class Visitor:
    """A visitor of the pages. `cookie` is what the browser has, "" at first."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.cookie = ""

    async def get(self, path: str, *, more: str = "") -> Answer:
        """Open a page."""
        self._client.get(path, more=self._cookie() + more)
        return await self._client.answer()

    async def submit(self, path: str, *, more: str = "sec-fetch-site: same-origin\r\n", **fields: str) -> Answer:
        """Send a form, and keep the cookie that comes back."""
        head = f"{self._cookie()}{more}content-type: application/x-www-form-urlencoded\r\n"
        self._client.post(urlencode(fields).encode(), path=path, more=head)
        answer = await self._client.answer()
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].split(";")[0]
        return answer

    async def sign_in(self, secret: str) -> Answer:
        """Sign in with a key."""
        return await self.submit("/dashboard/sign-in", key=secret)

    def _cookie(self) -> str:
        return f"cookie: {self.cookie}\r\n" if self.cookie else ""


@contextlib.asynccontextmanager
async def dashboard(
    directory: Path, *, accounts: str = "", models: str = "", more: str = DASHBOARD
) -> AsyncIterator[AccountsGateway]:
    """A gateway with accounts, one provider `p0`, and the dashboard."""
    async with providers(1) as (provider,), accounts_gateway(
        directory, provider.port, accounts=accounts, models=models, more=more
    ) as running:  # fmt: skip
        yield running


async def visitor(running: AccountsGateway) -> Visitor:
    """A visitor who is not signed in."""
    return Visitor(await running.running.client())


async def signed_in(running: AccountsGateway, caller: Caller) -> Visitor:
    """A visitor who has signed in with the key of this caller."""
    new = await visitor(running)
    assert (await new.sign_in(caller.secret)).status == 303
    return new


def new_key(answer: Answer) -> str:
    """The key that a page shows once."""
    found = re.search(r'<pre id="new-key"><code>(ky-[\w-]{43})</code>', answer.body.decode())
    assert found is not None, answer.body.decode()
    return found[1]


def ids(answer: Answer) -> list[str]:
    """What the buttons of a page are about, from the top."""
    return re.findall(r'name="id" value="(\w+)"', answer.body.decode())
