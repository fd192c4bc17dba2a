"""Runs the gateway: from reading the configuration to listening, and from a signal to the end. (Contract §12, §13.)

A start that fails ends in one line that says what to do. SIGTERM and SIGINT drain: nothing new is accepted, running requests
may end by themselves for a while, then they are cut so that callers can see it; a second signal does not wait. SIGUSR1 opens
the access log again, SIGHUP reads the configuration again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import uvloop

from kyma_proxy import __version__
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.snapshot import Snapshot, TcpAddress
from kyma_proxy.errors import InUseError, StartError
from kyma_proxy.ops import control_socket, memory
from kyma_proxy.ops.accounts.handing_over import AccountsHandover, AccountsState
from kyma_proxy.ops.accounts.opening import needs_upgrade, open_accounts
from kyma_proxy.ops.accounts.taking_over import AccountsTakeover, read
from kyma_proxy.ops.assemble import App
from kyma_proxy.ops.config_file import ConfigFile
from kyma_proxy.ops.ending import Ending
from kyma_proxy.ops.inherited_sockets import inherited_sockets
from kyma_proxy.ops.listeners import Listeners
from kyma_proxy.ops.predecessor import Predecessor, Receive, find_predecessor
from kyma_proxy.ops.process_setup import allow_many_files, catch_signals, open_log
from kyma_proxy.ops.reload import Configuration, ReloadTriggers
from kyma_proxy.ops.replacing import Replaceable, Successor
from kyma_proxy.ops.sd_notify import SystemdNotifier
from kyma_proxy.ops.workers.supervisor import supervise

_log: Final = logging.getLogger("kyma-proxy")
_LOCK_TIMEOUT_S: Final = 2.0
_LOCK_RETRY_S: Final = 0.05


def run(
    path: ConfigFile, environment: Mapping[str, str], ready: Callable[[Snapshot], None],
    *, adjust: Callable[[Snapshot], Snapshot] = lambda loaded: loaded,
    hangup_reloads: bool = True, check_integrity: bool = False, replaces: bool = False,
) -> None:  # fmt: skip
    """Serve the configuration at `path` until a signal stops it; `ready` is called when the listeners are open.

    `adjust` changes what the configuration says, now and after each reload.
    `check_integrity`: check the whole database of accounts first, and do not start if anything in it is wrong. SIGHUP, which a
    closed terminal sends too, reads the configuration again; without `hangup_reloads` it stops the gateway. `replaces`: take
    the place of the process that serves the same address, if there is one; if this one can't start, that one goes on.
    Raises StartError or ConfigError.
    """
    configuration = Configuration(path, environment, adjust)
    allow_many_files()
    memory.keep_freed_memory()
    predecessor = None
    try:
        if replaces:
            predecessor = find_predecessor(configuration.snapshot.listen, environment)
        if configuration.snapshot.workers > 1:
            supervise(configuration, ready, predecessor, environment, hangup_reloads=hangup_reloads)
            return
        account_service = _open_accounts(configuration.snapshot, predecessor, check_integrity=check_integrity)
        uvloop.run(_serve(configuration, account_service, ready, predecessor, environment, hangup_reloads=hangup_reloads))
    except StartError as error:  # it may name a file or an address that came from the environment
        raise StartError(configuration.snapshot.substitutions.shown(str(error))) from None
    finally:
        if predecessor is not None:
            predecessor.close()


def _open_accounts(snapshot: Snapshot, predecessor: Predecessor | None, *, check_integrity: bool) -> AccountService | None:
    """The accounts; waits a moment for a command that has locked the database. Raises StartError.

    A process that has them now, and is to be replaced, changes them no more before they are read.
    """
    if predecessor is not None and predecessor.has_accounts and snapshot.accounts.required:
        lock = predecessor.prepare(is_upgrade=needs_upgrade(snapshot))
        if lock is not None:
            return open_accounts(snapshot, check_integrity=check_integrity, shared_lock=lock)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            return open_accounts(snapshot, check_integrity=check_integrity)
        except InUseError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_LOCK_RETRY_S)  # noqa: TID251  (no loop runs yet)


def count_models(snapshot: Snapshot) -> str:
    """The number of models, and of the patterns that pass on others."""
    patterns = len(snapshot.patterns)
    return f"{len(snapshot.models)} models" + (f" and {patterns} pattern{'s' if patterns > 1 else ''}" if patterns else "")


def log_start(snapshot: Snapshot, path: ConfigFile) -> None:
    """Log what is served and what is not."""
    for warning in snapshot.warnings:
        _log.warning("%s", warning)
    scheme = "https" if snapshot.tls is not None else "http"
    address = f"{scheme}://{snapshot.listen}" if isinstance(snapshot.listen, TcpAddress) else str(snapshot.listen)
    admin = f", admin on {snapshot.admin.listen}" if snapshot.admin is not None else ""
    on = sum(provider.off is None for provider in snapshot.providers.values())
    _log.info(
        "kyma-proxy %s serves %s on %s%s: %s, %d of %d providers on",
        __version__, path, address, admin, count_models(snapshot), on, len(snapshot.providers),
    )  # fmt: skip


async def _serve(
    configuration: Configuration,
    account_service: AccountService | None,
    ready: Callable[[Snapshot], None],
    predecessor: Predecessor | None,
    environment: Mapping[str, str],
    *,
    hangup_reloads: bool,
) -> None:
    snapshot = configuration.snapshot
    app = App(configuration, open_log(snapshot.access_log, environment), account_service)
    systemd = SystemdNotifier(environment)
    configuration.reloading = systemd.reloading
    reload_triggers = ReloadTriggers(configuration)
    ending = Ending(app, predecessor)
    catch_signals(app.access_log, reload_triggers if hangup_reloads else None, ending.stop)
    takes_accounts = account_service is not None and account_service.store.is_lock_shared
    await app.open(opens_jobs=not takes_accounts)
    replaceable: Replaceable | None = None
    try:
        listeners = Listeners(app, snapshot, configuration.tls, predecessor, inherited_sockets(environment))

        def leave(successor: Successor) -> None:
            systemd.replaced_by(successor.pid)
            app.listener.drain(successor.hand_over)  # before the listeners close: they hold whoever has said nothing yet
            app.admin_listener.drain()
            listeners.close(keep_files=True)
            ending.is_replaced = True
            ending.begun.set()

        def close() -> None:
            listeners.close(keep_files=ending.is_replaced or (replaceable is not None and replaceable.shares_sockets))
            if replaceable is not None and not ending.is_replaced:
                replaceable.stop()

        try:
            memory.freeze_collector()  # it takes some tens of milliseconds, in which another process may still serve
            if predecessor is not None:
                receive = _take_over(app, predecessor, takes_accounts=takes_accounts)
                listeners.start()
                predecessor.follow(listeners.adopt, receive)
            else:
                listeners.start()
            replaceable = _open_control_socket(app, snapshot, listeners, environment, leave=leave, end=ending.stop)
            ready(snapshot)
            systemd.ready(f"serves {count_models(snapshot)} on {snapshot.listen}")
            await ending.begun.wait()
            if not ending.is_replaced:
                systemd.stopping()
            await ending.run(close, configuration.snapshot)
        finally:
            close()
            systemd.close()
    finally:
        await reload_triggers.stop()
        await app.close()
        if replaceable is not None:  # one that was replaced tells the other process to the last how its requests end
            replaceable.close()


def _open_control_socket(
    app: App, snapshot: Snapshot, listeners: Listeners, environment: Mapping[str, str], *,
    leave: Callable[[Successor], None], end: Callable[[], None],
) -> Replaceable | None:  # fmt: skip
    """Wait for a process that takes the place of this one, where there is a place to wait."""
    path = control_socket.path_of(snapshot.listen, environment)
    if path is None:
        return None
    accounts = None
    if app.account_service is not None and app.meter is not None:
        accounts = AccountsHandover(app.account_service, app.meter, app.jobs, monotonic)
    try:
        made = Replaceable(path, listeners.sockets, leave=leave, end=end, be_alone=app.listener.drain, accounts=accounts)
    except OSError as error:
        _log.info("no control socket at %s: %s", path, (error.strerror or str(error)).lower())
        return None
    app.sweeper.every_tick(made.tick)
    app.before_store_closes = made.write_rest
    return made


def _take_over(app: App, predecessor: Predecessor, *, takes_accounts: bool) -> Receive:
    """Have the other process leave, and take its accounts over. Returns the function for what it tells later."""
    file = predecessor.leave(takes_accounts=takes_accounts)
    if not takes_accounts or app.account_service is None or app.meter is None:
        return lambda _message, _files: None
    state = AccountsState({}, {}, {})
    if file is not None:
        state = read(file, AccountsState)
        os.close(file)
    app.account_service.refresh()
    takeover = AccountsTakeover(app.account_service, app.meter, app.jobs, state)

    def receive(message: dict[str, Any], files: list[int]) -> None:
        if message:
            takeover.receive(message, files)
        else:
            takeover.other_ended()

    return receive
