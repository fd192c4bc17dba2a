"""This file speaks to the admin API: that of a running gateway, or one of its own where none runs. (Contract §13.)"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, TCPConnector, UnixConnector, web

from proxy.config.snapshot import Admin, Reloaded, Snapshot, TcpAddress, UnixAddress
from proxy.config.units import Secret
from proxy.errors import StartError
from proxy.ops.accounts import open_database
from proxy.web.admin import admin_application
from proxy.web.admin_accounts import AdminAccounts

_PATIENCE: Final = ClientTimeout(total=30.0)


class Refused(Exception):
    """The admin API did not do what it was asked to; `document` is its answer."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document.get("error", {}).get("message", "the admin API failed"))
        self.document = document


class AdminClient:
    """Asks one admin API."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def ask(self, method: str, path: str, document: Any = None) -> Any:
        """The answer to a request at `/admin/accounts` + `path`. Raises Refused."""
        async with self._session.request(method, f"/admin/accounts{path}", json=document) as answer:
            told = msgspec.json.decode(await answer.read())
            if answer.status >= 400:
                raise Refused(told)
            return told

    async def account(self, name: str) -> str:
        """The id of the account that is named by its id or its e-mail. Raises Refused."""
        if "@" not in name:
            return name
        found = await self._session.get("/admin/accounts", params={"email": name})
        async with found:
            accounts = msgspec.json.decode(await found.read()).get("data", [])
        if not accounts:
            raise Refused({"error": {"message": f"There is no account {name}.", "code": "not_found"}})
        return str(accounts[0]["id"])


@contextlib.asynccontextmanager
async def admin_client(snapshot: Snapshot) -> AsyncIterator[AdminClient]:
    """The running gateway's, or that of a database that is opened for as long as the block lasts. Raises StartError."""
    if snapshot.admin is not None and await _is_served(snapshot.admin):
        async with _session(snapshot.admin) as session:
            yield AdminClient(session)
        return
    books = open_database(snapshot)
    try:
        with tempfile.TemporaryDirectory(prefix="kyma-") as directory:
            socket = UnixAddress(str(Path(directory) / "admin.sock"))
            own = Admin(socket, Secret(secrets.token_hex(24)))
            here = msgspec.structs.replace(snapshot, admin=own)
            app = admin_application(lambda: here, lambda: False, bytes, _nothing_to_reload, AdminAccounts(lambda: here, books))
            runner = web.AppRunner(app, access_log=None, handle_signals=False)
            await runner.setup()
            try:
                await web.UnixSite(runner, socket.path).start()
                async with _session(own) as session:
                    yield AdminClient(session)
            finally:
                await runner.cleanup()
    finally:
        await books.settled()
        books.store.close()


async def _is_served(admin: Admin) -> bool:
    """Whether a gateway with accounts answers there. Raises StartError where it does and will not be asked."""
    try:
        async with _session(admin) as session, session.get("/admin/accounts", params={"limit": "1"}) as answer:
            status = answer.status
    except (ClientConnectionError, OSError):
        return False
    if status == 401:
        raise StartError(f"the gateway at {admin.listen} has another admin.token than this configuration")
    if status == 403:
        raise StartError(f"the gateway at {admin.listen} runs without admin.token, so its accounts can't be reached; set one")
    return status == 200


def _session(admin: Admin) -> ClientSession:
    address = admin.listen
    connector = TCPConnector() if isinstance(address, TcpAddress) else UnixConnector(address.path)
    host = _reachable(address) if isinstance(address, TcpAddress) else "localhost"
    headers = {} if admin.token is None else {"Authorization": f"Bearer {admin.token.reveal()}"}
    return ClientSession(f"http://{host}", connector=connector, headers=headers, timeout=_PATIENCE)


def _reachable(address: TcpAddress) -> str:
    """Where to reach what listens there: what listens everywhere is asked here."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (nobody listens here)
    return str(TcpAddress(here.get(address.host, address.host), address.port))


async def _nothing_to_reload() -> Reloaded:
    raise NotImplementedError
