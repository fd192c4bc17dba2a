"""This file finds who keeps the accounts: a running gateway, or else this process, which then opens the database itself.

Both are asked in the same words, those of the admin API: without a gateway, the same application answers here, on a pair of
sockets that nobody else can reach. The database's lock, which a gateway holds as long as it runs, keeps the two from writing at
the same time, whatever is decided here. (Contract §8, §13.)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.snapshot import Admin, Reloaded, Snapshot
from kyma_proxy.config.units import Secret
from kyma_proxy.errors import InUseError, StartError
from kyma_proxy.ops.accounts.opening import open_database
from kyma_proxy.ops.admin_client import AdminClient, Document, Refused, connect
from kyma_proxy.web.admin import admin_application
from kyma_proxy.web.admin_accounts import AdminAccounts

PATIENCE_S: Final = 2.0
"""For a gateway that has the database and does not listen yet, and for another command."""
_LOOKS_EVERY_S: Final = 0.05


class _NotReached(Exception):
    """No gateway that keeps these accounts is known; why, and what to do if one has the database after all."""


async def ask_accounts(
    snapshot: Snapshot, question: Callable[[AdminClient], Document], *, makes_database: bool, patience_s: float = PATIENCE_S
) -> Document:
    """What `question` finds out from whoever keeps the accounts. Raises Refused or StartError.

    `makes_database`: whether a database is made where there is none; a slip in its name should not look like an empty one.
    """
    due = time.monotonic() + patience_s
    while True:
        try:
            gateway = _running_gateway(snapshot)
        except _NotReached as reason:
            why = str(reason)
        else:
            with contextlib.closing(gateway):
                return await asyncio.to_thread(question, gateway)
        account_service = _opened(snapshot, why, is_last_try=time.monotonic() > due, makes_database=makes_database)
        if account_service is not None:
            async with _answering(snapshot, account_service) as here:
                return await asyncio.to_thread(question, here)
        await asyncio.sleep(_LOOKS_EVERY_S)


def _running_gateway(snapshot: Snapshot) -> AdminClient:
    """A gateway that keeps the accounts of this configuration. Raises _NotReached; StartError where it can't be asked."""
    admin = snapshot.admin
    if admin is None:
        raise _NotReached("and without an admin listener it can't be asked; set admin in the configuration, or stop it")
    connected = connect(admin.listen)
    if connected is None:
        raise _NotReached(f"and nothing answers at admin.listen {admin.listen}; wait until it ends, or stop it")
    token = admin.token.reveal() if admin.token is not None else ""
    client = AdminClient(connected, token, f"the gateway at {admin.listen}")
    try:
        _check(client, snapshot, has_token=bool(token))
    except BaseException:
        client.close()
        raise
    return client


def _check(client: AdminClient, snapshot: Snapshot, *, has_token: bool) -> None:
    """See whether it keeps these accounts. Raises as `_running_gateway` does."""
    if not client.is_gateway():
        raise StartError(f"{client.where}: what listens there is no gateway; end it, or choose another admin.listen")
    try:
        kept = client.ask("GET", "/admin/config").get("accounts") or {}
    except Refused as refusal:
        advice = _advice(client.where, refusal, has_token=has_token)
        if snapshot.accounts.required:
            raise StartError(advice) from None
        # As far as this configuration says, it has no accounts, and the database is free.
        raise _NotReached(f"and {advice}") from None
    if not kept.get("required"):
        raise _NotReached(f"but {client.where} serves without accounts; wait until that process ends, or stop it")
    if kept["database"] != snapshot.accounts.database:
        raise StartError(
            f"{client.where} keeps its accounts in {kept['database']}, and this configuration in {snapshot.accounts.database}; "
            "restart it, or name its own configuration"
        )


def _advice(where: str, refusal: Refused, *, has_token: bool) -> str:
    if refusal.status == 403:
        return f"{where} has no admin token, so it takes no commands; set admin.token in its configuration and restart it"
    if not has_token:
        return f"{where} wants its admin token, and here is none; set admin.token, or the environment variable that it names"
    return f"{where} has another admin token; use the configuration and the environment that it was started with"


def _opened(snapshot: Snapshot, why: str, *, is_last_try: bool, makes_database: bool) -> AccountService | None:
    """The accounts in the database; None where another process has it and may let go of it soon. Raises StartError."""
    path = Path(os.path.realpath(snapshot.accounts.database))
    is_new = not os.path.lexists(path)
    if is_new and not makes_database:
        raise StartError(f"{path}: there is no database; `kyma-proxy accounts create` makes it, and so does the first start")
    try:
        account_service = open_database(snapshot)
    except InUseError as error:
        if is_last_try:
            raise StartError(f"{str(error).partition(';')[0]}, {why}") from None
        return None
    if is_new:
        print(f"kyma-proxy: made the database {path}, as there was none", file=sys.stderr)
    return account_service


@contextlib.asynccontextmanager
async def _answering(snapshot: Snapshot, account_service: AccountService) -> AsyncIterator[AdminClient]:
    """The admin API over these accounts, in this process, until the block ends; then the database is closed."""
    token = secrets.token_urlsafe()
    own = msgspec.structs.replace(snapshot, admin=Admin(snapshot.listen, Secret(token)))

    async def reload() -> Reloaded:
        return Reloaded(result="unchanged", version=own.version)

    app = admin_application(lambda: own, lambda: False, lambda: b"", reload, AdminAccounts(lambda: own, account_service))
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    there, here = socket.socketpair()
    client = AdminClient(here, token, "this process")
    try:
        await runner.setup()
        assert runner.server is not None  # noqa: S101  (set up)
        await asyncio.get_running_loop().connect_accepted_socket(runner.server, there)
        yield client
    finally:
        client.close()
        await runner.cleanup()
        await account_service.settled()
        await asyncio.to_thread(account_service.store.close)
