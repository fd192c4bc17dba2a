"""Runs the gateway: from reading the configuration to listening, and from a signal to the end. (Contract §12, §13.)

A start that fails ends in one line that says what to do. SIGTERM and SIGINT drain: nothing new is accepted, running requests
may end by themselves for a while, then they are cut so that callers can see it; a second signal does not wait. SIGUSR1 opens
the access log again, SIGHUP reads the configuration again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import uvloop

from kyma_proxy import __version__
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.snapshot import Snapshot, TcpAddress
from kyma_proxy.errors import InUseError, StartError
from kyma_proxy.net.downstream.acceptor import Acceptor
from kyma_proxy.ops import memory
from kyma_proxy.ops.accounts.opening import open_accounts
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.listening import open_sockets, remove_socket
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
                listening = open_sockets("admin.listen", snapshot.admin.listen)
                stack.callback(remove_socket, snapshot.admin.listen)
                admin_acceptor = Acceptor(listening, app.admin_listener, app.admin_downstream)
                stack.callback(admin_acceptor.close)
                admin_acceptor.start()
            acceptor = _public_acceptor(app, configuration)
            stack.callback(remove_socket, snapshot.listen)
            stack.callback(acceptor.close)
            acceptor.start()
            ready(snapshot)
            memory.freeze_collector()
            await stop.wait()
            acceptor.close()
            await _drain(app, configuration.snapshot.drain, skip_drain)
    finally:
        await reload_triggers.stop()
        await app.close()


def _open_log(path: str | None) -> AccessLog | None:
    try:
        return None if path is None else AccessLog(path)
    except OSError as error:
        raise StartError(f"access_log {path}: {(error.strerror or str(error)).lower()}") from None


def _public_acceptor(app: App, configuration: Configuration) -> Acceptor:
    snapshot = configuration.snapshot
    listening = open_sockets("listen", snapshot.listen)
    return Acceptor(listening, app.listener, app.downstream, tls=None if snapshot.tls is None else configuration.tls)


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


def _allow_many_files() -> None:
    """Allow as many file descriptors as the system lets a process have: each stream needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
