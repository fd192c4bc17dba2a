"""Runs the gateway: from reading the configuration to listening, and from a signal to the end. (Contract §12, §13.)

A start that fails ends in one line that says what to do. SIGTERM and SIGINT drain: nothing new is accepted, running requests
may end by themselves for a while, then they are cut so that callers can see it; a second signal does not wait. SIGUSR1 opens
the access log again, SIGHUP reads the configuration again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
import ssl
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from kyma_proxy import __version__
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.snapshot import Address, Snapshot, TcpAddress, Tls
from kyma_proxy.errors import InUseError, StartError
from kyma_proxy.ops import memory
from kyma_proxy.ops.accounts.opening import open_accounts
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.reload import Configuration, ReloadTriggers
from kyma_proxy.telemetry.access_log import AccessLog

_log: Final = logging.getLogger("kyma-proxy")
_BACKLOG: Final = 4096
_FINAL_WRITES_S: Final = 1.0
_LOCK_TIMEOUT_S: Final = 2.0
_LOCK_RETRY_S: Final = 0.05


def run(
    path: Path, environment: Mapping[str, str], ready: Callable[[Snapshot], None],
    *, hangup_reloads: bool = True, check_integrity: bool = False,
) -> None:  # fmt: skip
    """Serve the configuration at `path` until a signal stops it; `ready` is called when the listeners are open.

    `check_integrity`: check the whole database of accounts first, and do not start if anything in it is wrong. SIGHUP, which a
    closed terminal sends too, reads the configuration again; without `hangup_reloads` it stops the gateway.
    Raises StartError or ConfigError.
    """
    configuration = Configuration(path, environment)
    _allow_many_files()
    memory.keep_freed_memory()
    try:
        account_service = _open_accounts(configuration.snapshot, check_integrity=check_integrity)
        uvloop.run(_serve(configuration, account_service, ready, hangup_reloads=hangup_reloads))
    except StartError as error:  # it may name a file or an address that came from the environment
        raise StartError(configuration.snapshot.substitutions.shown(str(error))) from None


def _open_accounts(snapshot: Snapshot, *, check_integrity: bool) -> AccountService | None:
    """The accounts; waits a moment for a command that has locked the database. Raises StartError."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            return open_accounts(snapshot, check_integrity=check_integrity)
        except InUseError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_LOCK_RETRY_S)  # noqa: TID251  (no loop runs yet)


def log_start(snapshot: Snapshot, path: Path) -> None:
    """Log what is served and what is not."""
    for warning in snapshot.warnings:
        _log.warning("%s", warning)
    scheme = "https" if snapshot.tls is not None else "http"
    address = f"{scheme}://{snapshot.listen}" if isinstance(snapshot.listen, TcpAddress) else str(snapshot.listen)
    admin = f", admin on {snapshot.admin.listen}" if snapshot.admin is not None else ""
    on = sum(provider.off is None for provider in snapshot.providers.values())
    _log.info(
        "kyma-proxy %s serves %s on %s%s: %d models, %d of %d providers on",
        __version__, path, address, admin, len(snapshot.models), on, len(snapshot.providers),
    )  # fmt: skip


async def _serve(
    configuration: Configuration,
    account_service: AccountService | None,
    ready: Callable[[Snapshot], None],
    *,
    hangup_reloads: bool,
) -> None:
    stop = asyncio.Event()
    skip_drain = asyncio.Event()
    snapshot = configuration.snapshot
    app = App(configuration, _open_log(snapshot.access_log), account_service)
    reload_triggers = ReloadTriggers(configuration)
    _catch_signals(app, reload_triggers if hangup_reloads else None, stop, skip_drain)
    await app.open()
    try:
        async with contextlib.AsyncExitStack() as stack:
            if snapshot.admin is not None:
                await _open_admin_listener(stack, app, snapshot.admin.listen)
            server = await _open_listener(app, snapshot)
            stack.callback(_remove_socket, snapshot.listen)
            ready(snapshot)
            memory.freeze_collector()
            await stop.wait()
            server.close()
            await _drain(app, configuration.snapshot.drain, skip_drain)
    finally:
        await reload_triggers.stop()
        await app.close()


def _open_log(path: str | None) -> AccessLog | None:
    try:
        return None if path is None else AccessLog(path)
    except OSError as error:
        raise StartError(f"access_log {path}: {(error.strerror or str(error)).lower()}") from None


async def _open_listener(app: App, snapshot: Snapshot) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    tls = _tls_context(snapshot.tls) if snapshot.tls is not None else None
    address = snapshot.listen
    handshake_s = snapshot.limits.head_timeout if tls is not None else None
    try:
        if isinstance(address, TcpAddress):
            return await loop.create_server(
                app.downstream, address.host, address.port, ssl=tls, ssl_handshake_timeout=handshake_s, backlog=_BACKLOG
            )
        _remove_stale_socket(address.path)
        return await loop.create_unix_server(
            app.downstream, address.path, ssl=tls, ssl_handshake_timeout=handshake_s, backlog=_BACKLOG
        )
    except OSError as error:
        raise StartError(_cannot_listen("listen", address, error)) from None


async def _open_admin_listener(stack: contextlib.AsyncExitStack, app: App, address: Address) -> None:
    runner = web.AppRunner(app.admin_application, access_log=None, handle_signals=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        if isinstance(address, TcpAddress):
            await web.TCPSite(runner, address.host, address.port).start()
        else:
            _remove_stale_socket(address.path)
            await web.UnixSite(runner, address.path).start()
            stack.callback(_remove_socket, address)
    except OSError as error:
        raise StartError(_cannot_listen("admin.listen", address, error)) from None


async def _drain(app: App, seconds: float, skip_drain: asyncio.Event) -> None:
    """Wait until all requests and image jobs have ended, for `seconds`, then cut them."""
    app.listener.drain()
    app.jobs.drain()
    if app.gateway.in_flight or app.jobs.scheduler.at_risk:
        _log.info(
            "draining: %d requests and %d image jobs, for up to %g s",
            app.gateway.in_flight, app.jobs.scheduler.at_risk, seconds,
        )  # fmt: skip
    await _until_idle(app, seconds, skip_drain)
    if app.gateway.in_flight or app.jobs.scheduler.at_risk:
        _log.warning(
            "drained: %d requests are cut, %d image jobs are refunded", app.gateway.in_flight, app.jobs.scheduler.at_risk
        )
        app.gateway.drain()
    await _until_idle(app, _FINAL_WRITES_S, asyncio.Event())


async def _until_idle(app: App, seconds: float, skip_drain: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while _is_busy(app) and not skip_drain.is_set():  # noqa: ASYNC110  (two conditions, once)
                await asyncio.sleep(0.02)


def _is_busy(app: App) -> bool:
    return bool(app.gateway.in_flight or app.listener.connections or app.jobs.scheduler.at_risk)


def _catch_signals(app: App, reload_triggers: ReloadTriggers | None, stop: asyncio.Event, skip_drain: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def stop_serving() -> None:
        if stop.is_set():
            skip_drain.set()
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop_serving)
    loop.add_signal_handler(signal.SIGINT, stop_serving)
    # Without an access log the signal is ignored; its default action would end the process.
    loop.add_signal_handler(signal.SIGUSR1, app.access_log.reopen if app.access_log is not None else _ignore_signal)
    loop.add_signal_handler(signal.SIGHUP, reload_triggers.reload_soon if reload_triggers is not None else stop_serving)


def _ignore_signal() -> None:
    """The handler of SIGUSR1 without an access log."""


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # a system may allow older ones
    context.set_alpn_protocols(["http/1.1"])
    for path in (tls.certificate, tls.key):
        if not os.access(path, os.R_OK):
            raise StartError(f"tls: {path} can't be read")
    try:
        context.load_cert_chain(tls.certificate, tls.key, "")  # an encrypted key must not ask the terminal for its password
    except (ssl.SSLError, OSError):
        raise StartError(f"tls: {tls.certificate} and {tls.key} are not a PEM certificate chain and its key") from None
    return context


def _cannot_listen(setting: str, address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{setting} {address}: the address is in use; stop what listens there, or choose another"
    if error.errno == errno.EACCES:
        return f"{setting} {address}: permission denied; ports below 1024 are for root"
    return f"{setting} {address}: {(error.strerror or str(error)).lower()}"


def _remove_stale_socket(path: str) -> None:
    """Remove the socket of a process that has died. Raises OSError if it is alive: uvloop would silently take its place."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "the address is in use")


def _remove_socket(address: Address) -> None:
    if not isinstance(address, TcpAddress):
        with contextlib.suppress(OSError):
            os.unlink(address.path)


def _allow_many_files() -> None:
    """Allow as many file descriptors as the system lets a process have: each stream needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
