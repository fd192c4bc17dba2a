"""Finds the admin API of the accounts: that of a running gateway, or one in this process, which then opens the database.

If no gateway runs, this process serves the same application on a pair of sockets that no other process can reach. A gateway
holds the lock of the database as long as it runs, so the two never write at the same time, whatever is decided here.
(Contract §8, §13.)
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
from dataclasses import replace
from pathlib import Path
from typing import Final

from aiohttp import web

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.reload_result import ReloadResult
from kyma_proxy.config.snapshot import Admin, Snapshot
from kyma_proxy.config.units import Secret
from kyma_proxy.errors import InUseError, StartError
from kyma_proxy.ops.accounts.opening import open_database
from kyma_proxy.ops.admin_client import AdminApiError, AdminClient, Document, connect
from kyma_proxy.telemetry.visible_text import visible
from kyma_proxy.web.admin import admin_application, database_digest
from kyma_proxy.web.admin_accounts import AdminAccounts

LOCK_TIMEOUT_S: Final = 2.0
"""For a gateway that has locked the database and does not listen yet, and for another command."""
_RETRY_S: Final = 0.05


class _NoGatewayError(Exception):
    """No gateway serves these accounts; the message says why, and what to do if the database is locked nevertheless."""


async def call_admin_api(
    snapshot: Snapshot,
    call: Callable[[AdminClient], Document],
    *,
    creates_database: bool,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Document:
    """The result of `call` with a client of the admin API of these accounts. Raises AdminApiError or StartError.

    `creates_database`: create a database if there is none; otherwise that is an error, as its name may be mistyped.
    """
    deadline = time.monotonic() + lock_timeout_s
    while True:
        try:
            gateway = _running_gateway(snapshot)
        except _NoGatewayError as error:
            reason = str(error)
        else:
            with contextlib.closing(gateway):
                return await asyncio.to_thread(call, gateway)
        is_last_try = time.monotonic() > deadline
        account_service = _open(snapshot, reason, is_last_try=is_last_try, creates_database=creates_database)
        if account_service is not None:
            async with _admin_api(snapshot, account_service) as client:
                return await asyncio.to_thread(call, client)
        await asyncio.sleep(_RETRY_S)


def _running_gateway(snapshot: Snapshot) -> AdminClient:
    """A client of the gateway that serves these accounts. Raises _NoGatewayError; StartError if it refuses commands."""
    admin = snapshot.admin
    if admin is None:
        raise _NoGatewayError("and without an admin listener it can't be called; set admin in the configuration, or stop it")
    connected = connect(admin.listen)
    if connected is None:
        raise _NoGatewayError(f"and nothing answers at admin.listen {admin.listen}; wait until it ends, or stop it")
    token = admin.token.reveal() if admin.token is not None else ""
    client = AdminClient(connected, token, f"the gateway at {admin.listen}")
    try:
        _check_gateway(client, snapshot, has_token=bool(token))
    except BaseException:
        client.close()
        raise
    return client


def _check_gateway(client: AdminClient, snapshot: Snapshot, *, has_token: bool) -> None:
    """Check that the gateway serves these accounts. Raises as `_running_gateway` does."""
    if not client.is_gateway():
        raise StartError(f"{client.server}: what listens there is no gateway; stop it, or choose another admin.listen")
    try:
        served = client.request("GET", "/admin/config").get("accounts") or {}
    except AdminApiError as error:
        advice = _advice(client.server, error, has_token=has_token)
        if snapshot.accounts.required:
            raise StartError(advice) from None
        # According to this configuration the gateway has no accounts, so the database is free.
        raise _NoGatewayError(f"and {advice}") from None
    if not served.get("required"):
        raise _NoGatewayError(f"but {client.server} serves without accounts; wait until that process ends, or stop it")
    if not _is_same_database(served, snapshot):
        raise StartError(
            f"{client.server} keeps its accounts in {served['database']}, but this configuration names "
            f"{snapshot.substitutions.shown(snapshot.accounts.database)}; restart it, or use its own configuration"
        )


def _is_same_database(served: Document, snapshot: Snapshot) -> bool:
    digest = served.get("database_digest")
    if digest is None or snapshot.admin is None or snapshot.admin.token is None:
        return bool(served["database"] == snapshot.accounts.database)
    return bool(digest == database_digest(snapshot.accounts.database, snapshot.admin.token))


def _advice(server: str, error: AdminApiError, *, has_token: bool) -> str:
    if error.status == 403:
        return f"{server} has no admin token, so it takes no commands; set admin.token in its configuration and restart it"
    if not has_token:
        return f"{server} needs its admin token, and none is set here; set admin.token, or the variable that it names"
    return f"{server} has another admin token; use the configuration and the environment that it was started with"


def _open(snapshot: Snapshot, reason: str, *, is_last_try: bool, creates_database: bool) -> AccountService | None:
    """The accounts in the database; None if another process has locked it and may soon release it. Raises StartError."""
    path = Path(os.path.realpath(snapshot.accounts.database))
    is_new = not os.path.lexists(path)
    if is_new and not creates_database:
        raise StartError(f"{path}: there is no database; `kyma-proxy accounts create` creates it, and so does the first start")
    try:
        account_service = open_database(snapshot)
    except InUseError as error:
        if is_last_try:
            raise StartError(f"{str(error).partition(';')[0]}, {reason}") from None
        return None
    if is_new:
        created = f"kyma-proxy: created the database {path}, as there was none"
        print(visible(snapshot.substitutions.shown(created)), file=sys.stderr)
    return account_service


@contextlib.asynccontextmanager
async def _admin_api(snapshot: Snapshot, account_service: AccountService) -> AsyncIterator[AdminClient]:
    """A client of an admin API in this process, until the end of the block; then the database is closed."""
    token = secrets.token_urlsafe()
    own = replace(snapshot, admin=Admin(snapshot.listen, Secret(token)))

    async def reload() -> ReloadResult:
        return ReloadResult(result="unchanged", version=own.version)

    async def metrics(media_type: str) -> bytes:
        return b""

    app = admin_application(lambda: own, lambda: False, metrics, reload, AdminAccounts(lambda: own, account_service))
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    server_side, client_side = socket.socketpair()
    client = AdminClient(client_side, token, "this process")
    try:
        await runner.setup()
        assert runner.server is not None  # noqa: S101  (set up)
        await asyncio.get_running_loop().connect_accepted_socket(runner.server, server_side)
        yield client
    finally:
        client.close()
        await runner.cleanup()
        await account_service.drain()
        await asyncio.to_thread(account_service.store.close)
