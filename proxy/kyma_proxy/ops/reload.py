"""Holds the configuration in force, and replaces it as a whole while the gateway serves. (Contract §12.)

A request keeps the snapshot that it began with. Live state (connections, circuit breakers) is kept elsewhere, by name, and
survives. A bad file changes nothing. Settings that need a restart keep their values, and are named.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.reload_result import ReloadResult
from kyma_proxy.config.snapshot import Admin, Snapshot
from kyma_proxy.errors import StartError
from kyma_proxy.loading.compiling import load

_log: Final = logging.getLogger("kyma-proxy")
WATCH_INTERVAL_S: Final = 1.0
_NEED_RESTART: Final = ("listen", "tls", "access_log")
_ACCOUNTS_NEED_RESTART: Final = ("required", "database")


def read_snapshot(path: Path, environment: Mapping[str, str]) -> Snapshot:
    """The snapshot of a configuration file. Raises StartError if it can't be read, ConfigError if it is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise StartError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise StartError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    snapshot = load(text, environment)
    for provider in snapshot.providers.values():
        ca_file = provider.origin.ca_file
        if ca_file is not None:
            _check_ca_file(provider.name, ca_file, snapshot.substitutions.shown)
    return snapshot


class Configuration:
    """The snapshot in force, and the file that it was read from."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        """Read the file. Raises StartError or ConfigError."""
        self.path = path
        self._environment = environment
        self.reloads: dict[str, int] = {}
        """The number of reloads, by result."""
        self._signature = self._read_signature()
        self.snapshot = read_snapshot(path, environment)
        self.last_reload_succeeded = True
        self.read_at = time.time()
        """When the file was last read with success, in Unix time."""
        self._listeners: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()

    def current(self) -> Snapshot:
        """The snapshot in force. It never changes: a reload puts another one in force."""
        return self.snapshot

    def on_change(self, action: Callable[[], None]) -> None:
        """Call `action` after each change."""
        self._listeners.append(action)

    async def reload(self, trigger: str) -> ReloadResult:
        """Read the file again, and put it in force if it is valid. `trigger` is for the log."""
        async with self._lock:
            self._signature = self._read_signature()
            try:
                # In a thread, as YAML is slow and the loop has streams to serve.
                loaded = await asyncio.to_thread(read_snapshot, self.path, self._environment)
            except ConfigError as error:
                return self._failed(
                    trigger, ReloadResult(result="failed", version=self.snapshot.version, problems=tuple(error.problems))
                )
            except StartError as error:
                return self._failed(trigger, ReloadResult(result="failed", version=self.snapshot.version, message=str(error)))
            except Exception:
                _log.exception("reload (%s): the gateway failed to read %s", trigger, self.path)
                message = "the gateway failed to read it; its log has the error"
                return self._failed(trigger, ReloadResult(result="failed", version=self.snapshot.version, message=message))
            return self._apply(loaded, trigger)

    async def watch(self, interval_s: float = WATCH_INTERVAL_S) -> None:
        """Reload if the file has changed and was then not changed for an interval; until cancelled."""
        candidate = None
        while True:
            await asyncio.sleep(interval_s)
            signature = self._read_signature()
            if signature == self._signature or signature is None:
                candidate = None
            elif signature == candidate:
                await self.reload("the file has changed")
            else:
                candidate = signature

    def _apply(self, loaded: Snapshot, trigger: str) -> ReloadResult:
        before = self.snapshot
        after, needs_restart = _keep_settings_that_need_restart(before, loaded)
        for name in needs_restart:
            _log.warning("reload: %s has changed in %s; that needs a restart", name, self.path)
        result = "unchanged" if loaded.version == before.version else "reloaded"
        self.last_reload_succeeded, self.read_at = True, time.time()
        self._count(result)
        if result == "reloaded":
            self.snapshot = after
            for action in self._listeners:
                action()
            for warning in after.warnings:
                _log.warning("%s", warning)
        _log.info("reload (%s): %s is %s", trigger, self.path, "in force" if result == "reloaded" else "unchanged")
        return ReloadResult(result=result, version=after.version, needs_restart=needs_restart, warnings=after.warnings)

    def _failed(self, trigger: str, result: ReloadResult) -> ReloadResult:
        self.last_reload_succeeded = False
        self._count("failed")
        for reason in result.problems or (result.message,):
            _log.error("reload (%s): %s", trigger, reason)
        _log.error("reload (%s): nothing has changed; the configuration in force is %s", trigger, result.version)
        return result

    def _count(self, result: str) -> None:
        self.reloads[result] = self.reloads.get(result, 0) + 1

    def _read_signature(self) -> tuple[int, int, int] | None:
        """Differs after a change of the file; None if there is no file, as at the moment when an editor replaces it."""
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


class ReloadTriggers:
    """Reloads without a request to the admin API: when the file changes, and on `reload_soon` (SIGHUP)."""

    def __init__(self, configuration: Configuration) -> None:
        """Begin to watch the file. Call it inside the loop that runs the gateway; `stop` ends it."""
        self._configuration = configuration
        self._tasks: set[asyncio.Task[Any]] = {asyncio.create_task(configuration.watch())}

    def reload_soon(self) -> None:
        """Start a reload, without waiting for it."""
        task = asyncio.create_task(self._configuration.reload("SIGHUP"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop watching, and cancel what runs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _keep_settings_that_need_restart(before: Snapshot, loaded: Snapshot) -> tuple[Snapshot, tuple[str, ...]]:
    """The loaded snapshot with the old values of the settings that need a restart, and the names of those that differ."""
    changed = [name for name in _NEED_RESTART if getattr(loaded, name) != getattr(before, name)]
    changed += [
        f"accounts.{name}"
        for name in _ACCOUNTS_NEED_RESTART
        if getattr(loaded.accounts, name) != getattr(before.accounts, name)
    ]
    accounts = msgspec.structs.replace(loaded.accounts, required=before.accounts.required, database=before.accounts.database)
    after = msgspec.structs.replace(
        loaded, listen=before.listen, tls=before.tls, access_log=before.access_log, accounts=accounts
    )
    if (before.admin is None) != (loaded.admin is None):
        changed.append("admin")
        after = msgspec.structs.replace(after, admin=before.admin)
    elif before.admin is not None and loaded.admin is not None and before.admin.listen != loaded.admin.listen:
        changed.append("admin.listen")
        after = msgspec.structs.replace(after, admin=Admin(before.admin.listen, loaded.admin.token))
    return after, tuple(changed)


def _check_ca_file(provider: str, ca_file: str, shown: Callable[[str], str]) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except ssl.SSLError:
        raise StartError(shown(f"provider {provider}: ca_file {ca_file} holds no certificate in PEM")) from None
    except (OSError, ValueError):
        raise StartError(shown(f"provider {provider}: ca_file {ca_file} can't be read")) from None
