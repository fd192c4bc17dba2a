"""This file holds the configuration in force, and replaces it whole while the gateway serves. (Contract §12.)

A request keeps the snapshot that it began with; live facts (connections, the sources' health) are kept elsewhere, by name,
and survive. A bad file changes nothing. What can't change while the process runs stays as it is, and is named.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from kyma_proxy.config.compiling import load
from kyma_proxy.config.snapshot import Admin, Reloaded, Snapshot
from kyma_proxy.errors import ConfigError, StartError

_log: Final = logging.getLogger("kyma-proxy")
WATCH_EVERY_S: Final = 1.0
_STAYS: Final = ("required", "database")


def read_snapshot(path: Path, environment: Mapping[str, str]) -> Snapshot:
    """The snapshot of a configuration file. Raises StartError where it can't be read, ConfigError where it is wrong."""
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
            _check_authorities(provider.name, ca_file)
    return snapshot


class Configuration:
    """The snapshot in force, and the file that it was read from."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        """Read the file. Raises StartError or ConfigError."""
        self.path = path
        self._environment = environment
        self.reloads: dict[str, int] = {}
        """How often it was reloaded, by result."""
        self._seen = self._signature()
        self.snapshot = read_snapshot(path, environment)
        self._when_changed: list[Callable[[], None]] = []
        self._one_at_a_time = asyncio.Lock()

    def current(self) -> Snapshot:
        """The snapshot in force; whoever keeps it keeps one state of things."""
        return self.snapshot

    def when_changed(self, action: Callable[[], None]) -> None:
        """Call `action` after each change."""
        self._when_changed.append(action)

    async def reload(self, why: str) -> Reloaded:
        """Read the file again, and put it in force if it is right. `why` is for the log."""
        async with self._one_at_a_time:
            self._seen = self._signature()
            try:
                # In a thread, as YAML is slow and the loop has streams to serve.
                read = await asyncio.to_thread(read_snapshot, self.path, self._environment)
            except ConfigError as error:
                return self._failed(
                    why, Reloaded(result="failed", version=self.snapshot.version, problems=tuple(error.problems))
                )
            except StartError as error:
                return self._failed(why, Reloaded(result="failed", version=self.snapshot.version, message=str(error)))
            except Exception:
                _log.exception("reload (%s): the gateway failed to read %s", why, self.path)
                message = "the gateway failed; its log says how"
                return self._failed(why, Reloaded(result="failed", version=self.snapshot.version, message=message))
            return self._put_in_force(read, why)

    async def watch(self, *, every_s: float = WATCH_EVERY_S) -> None:
        """Reload whenever the file has changed and been left alone for `every_s`; until cancelled."""
        changed_to = None
        while True:
            await asyncio.sleep(every_s)
            signature = self._signature()
            if signature == self._seen or signature is None:
                changed_to = None
            elif signature == changed_to:
                await self.reload("the file has changed")
            else:
                changed_to = signature

    def _put_in_force(self, read: Snapshot, why: str) -> Reloaded:
        before = self.snapshot
        after, needs_restart = _with_what_stays(before, read)
        for name in needs_restart:
            _log.warning("reload: %s is changed in %s; that takes a restart", name, self.path)
        result = "unchanged" if read.version == before.version else "reloaded"
        self._count(result)
        if result == "reloaded":
            self.snapshot = after
            for action in self._when_changed:
                action()
            for warning in after.warnings:
                _log.warning("%s", warning)
        _log.info("reload (%s): %s is %s", why, self.path, "in force" if result == "reloaded" else "as it was")
        return Reloaded(result=result, version=after.version, needs_restart=needs_restart, warnings=after.warnings)

    def _failed(self, why: str, outcome: Reloaded) -> Reloaded:
        self._count("failed")
        for reason in outcome.problems or (outcome.message,):
            _log.error("reload (%s): %s", why, reason)
        _log.error("reload (%s): nothing has changed; the configuration in force is %s", why, outcome.version)
        return outcome

    def _count(self, result: str) -> None:
        self.reloads[result] = self.reloads.get(result, 0) + 1

    def _signature(self) -> tuple[int, int, int] | None:
        """What changes with the file; None where it is not there, as in the moment in which an editor replaces it."""
        try:
            seen = self.path.stat()
        except OSError:
            return None
        return seen.st_ino, seen.st_mtime_ns, seen.st_size


class Reloading:
    """What reloads without being asked over HTTP: the file's changes, and whoever calls `ask` (SIGHUP)."""

    def __init__(self, configuration: Configuration) -> None:
        """Begin to watch. Call it inside the loop that runs the gateway; `stop` ends it."""
        self._configuration = configuration
        self._tasks: set[asyncio.Task[Any]] = {asyncio.create_task(configuration.watch())}

    def ask(self) -> None:
        """Reload soon."""
        task = asyncio.create_task(self._configuration.reload("SIGHUP"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Watch no more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _with_what_stays(before: Snapshot, read: Snapshot) -> tuple[Snapshot, tuple[str, ...]]:
    """What was read, with everything that takes a restart as it is; and the names of what was changed of that."""
    changed = [name for name in ("listen", "tls", "access_log") if getattr(read, name) != getattr(before, name)]
    changed += [f"accounts.{name}" for name in _STAYS if getattr(read.accounts, name) != getattr(before.accounts, name)]
    kept = msgspec.structs.replace(read.accounts, required=before.accounts.required, database=before.accounts.database)
    after = msgspec.structs.replace(read, listen=before.listen, tls=before.tls, access_log=before.access_log, accounts=kept)
    if (before.admin is None) != (read.admin is None):
        changed.append("admin")
        after = msgspec.structs.replace(after, admin=before.admin)
    elif before.admin is not None and read.admin is not None and before.admin.listen != read.admin.listen:
        changed.append("admin.listen")
        after = msgspec.structs.replace(after, admin=Admin(before.admin.listen, read.admin.token))
    return after, tuple(changed)


def _check_authorities(provider: str, ca_file: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except ssl.SSLError:
        raise StartError(f"provider {provider}: ca_file {ca_file} holds no certificate in PEM") from None
    except (OSError, ValueError):
        raise StartError(f"provider {provider}: ca_file {ca_file} can't be read") from None
