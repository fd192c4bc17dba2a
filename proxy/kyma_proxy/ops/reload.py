"""Holds the configuration in force, and replaces it as a whole while the gateway serves. (Contract §12.)

A request keeps the snapshot that it began with. Live state (connections, circuit breakers) is kept elsewhere, by name, and
survives. A bad file changes nothing. Settings that need a restart keep their values, and are named.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import gc
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import msgspec

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.reload_result import Change, ReloadPreview, ReloadResult
from kyma_proxy.config.snapshot import Admin, Snapshot
from kyma_proxy.config.units import Secret
from kyma_proxy.errors import StartError
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.written_form import Form
from kyma_proxy.net.small_slices import in_slices
from kyma_proxy.ops.config_file import ConfigFile
from kyma_proxy.ops.listening import tls_context
from kyma_proxy.ops.loading_apart import MIN_CHARACTERS, CannotLoadApart, load_apart, short_turns
from kyma_proxy.ops.memory import collector_paused
from kyma_proxy.ops.outside_values import OutsideStore, Reading
from kyma_proxy.ops.reload_changes import changes_between, changes_to
from kyma_proxy.ops.snapshot_pieces import free_in_slices, put_together

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log: Final = logging.getLogger("kyma-proxy")
_RELOAD: Final = "reload"
_RENEWAL: Final = "renewal"
WATCH_INTERVAL_S: Final = 1.0
OUTSIDE_INTERVAL_S: Final = 10.0
_NEED_RESTART: Final = ("listen", "access_log", "workers", "dashboard")


class _Loaded(NamedTuple):
    """A configuration that could be put in force: its text, its snapshot, and the context of TLS handshakes, if it has one."""

    text: str
    snapshot: Snapshot
    tls: ssl.SSLContext | None


def read_snapshot(path: ConfigFile, environment: Mapping[str, str], *, to_serve: bool = False) -> Snapshot:
    """The snapshot of a configuration file, for who does not serve it: no command is run.

    `to_serve`: it is a problem if it could not be served here and now. Other commands may lack the keys and rights for that.
    Raises StartError if it can't be read, ConfigError if it is wrong.
    """
    outside = OutsideStore(runs_commands=False, tries_writing=to_serve)
    snapshot = load(_read_text(path), environment, outside.reading(), to_serve=to_serve)
    _check_all_authorities(snapshot)
    return snapshot


def _read_text(path: ConfigFile) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StartError(f"{path}: {_not_utf_8(error)}") from None
    except OSError as error:
        raise StartError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _not_utf_8(error: UnicodeDecodeError) -> str:
    if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "is UTF-16 text; save it as UTF-8"
    line = len(error.object[: error.start].splitlines() or [b""])
    return f"is not UTF-8 text: line {line} has the byte 0x{error.object[error.start]:02x}; save it as UTF-8"


async def _prepare_nothing(snapshot: Snapshot) -> None:
    """Prepare nothing."""


def _check_all_authorities(snapshot: Snapshot) -> None:
    for provider in snapshot.providers.values():
        way = provider.origin.way
        if way is not None and way.authorities is not None:
            _check_authorities(provider.name, way.authorities)


class Configuration:
    """The snapshot in force, the file that it was read from, and what it took from other files and from commands."""

    def __init__(
        self, path: ConfigFile, environment: Mapping[str, str], adjust: Callable[[Snapshot], Snapshot] = lambda loaded: loaded
    ) -> None:
        """Read the file; `adjust` changes what it says, now and after each reload. Raises StartError or ConfigError."""
        self.path = path
        self._environment = environment
        self._adjust = adjust
        self.reloads: dict[str, int] = {}
        """The number of reloads, by result."""
        self._signature = self._read_signature()
        self._outside = OutsideStore()
        reading = self._outside.reading()
        loaded = self._load(None, reading)
        self._outside.keep(reading)
        self._text = loaded.text
        self.snapshot = loaded.snapshot
        self._tls = loaded.tls
        self._log_troubles()
        self._failing: set[str] = set()
        self.read_at = time.time()
        """When the file was last read with success, in Unix time."""
        self._listeners: list[Callable[[], None]] = []
        self.reloading: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
        """Entered for each reload; who wishes to be told puts another here."""
        self.prepare: Callable[[Snapshot], Awaitable[None]] = _prepare_nothing
        """Called with each snapshot before it is put in force."""
        self._lock = asyncio.Lock()

    def current(self) -> Snapshot:
        """The snapshot in force. It never changes: a reload puts another one in force."""
        return self.snapshot

    @property
    def last_reload_succeeded(self) -> bool:
        """True if the file, and the keys and certificates in others, were valid when they were last read.

        A key that is renewed does not make a file valid that was not.
        """
        return not self._failing

    def tls(self) -> ssl.SSLContext:
        """The context for the next handshake of a caller; a renewed certificate is in another one."""
        assert self._tls is not None  # noqa: S101  (who asks has seen that the snapshot has TLS)
        return self._tls

    def on_change(self, action: Callable[[], None]) -> None:
        """Call `action` after each change."""
        self._listeners.append(action)

    async def reload(self, trigger: str) -> ReloadResult:
        """Read the file again, and put it in force if it is valid. `trigger` is for the log.

        Keys and certificates in other files are read again as well, and commands that print keys are run again.
        """
        async with self._lock:
            self._signature = self._read_signature()
            with self.reloading():
                return await self._replace(trigger, None, self._outside.reading(runs_again=True))

    async def renew(self, trigger: str) -> ReloadResult:
        """Read keys and certificates again, for the configuration in force: its file may be half edited."""
        async with self._lock:
            return await self._replace(trigger, self._text, self._outside.reading())

    async def preview(self) -> ReloadPreview:
        """The result that a reload of the file would have. Nothing changes, and no command is run."""
        async with self._lock:
            reading = self._outside.trial()
            loaded = await self._try("a dry run", None, reading, is_taken=False)
            if isinstance(loaded, ReloadResult):
                return ReloadPreview(**msgspec.structs.asdict(loaded))
            after, needs_restart = keep_settings_that_need_restart(self.snapshot, loaded.snapshot)
            renewed = _shown_renewed(loaded, reading)
            if len(loaded.text) >= MIN_CHARACTERS:
                free_in_slices(loaded.snapshot, asyncio.get_running_loop())
            return ReloadPreview(
                result=self._result(after, renewed),
                version=self.snapshot.version,
                new_version=after.version,
                needs_restart=needs_restart,
                warnings=after.warnings,
                renewed=renewed,
                changes=await _aside(changes_between, self._text, loaded.text, self._environment, needs_restart),
            )

    async def compare(self, form: Form, token: Secret) -> tuple[Change, ...]:
        """The changes if the configuration in force had this form, whose secrets are sealed with the token."""
        return await _aside(changes_to, form, self._text, self._environment, token)

    async def _replace(self, trigger: str, text: str | None, reading: Reading) -> ReloadResult:
        loaded = await self._try(trigger, text, reading, is_taken=True)
        if isinstance(loaded, ReloadResult):
            self._outside.refuse(reading)
            self._log_troubles()
            self._failing.add(_RELOAD if text is None else _RENEWAL)
            return self._failed(trigger, loaded)
        self._outside.keep(reading)
        self._log_troubles()
        self._failing.discard(_RENEWAL)
        if text is None:
            self._failing.clear()
            self.read_at = time.time()
        return self._apply(loaded, trigger, _shown_renewed(loaded, reading))

    async def _try(self, trigger: str, text: str | None, reading: Reading, *, is_taken: bool) -> _Loaded | ReloadResult:
        """Load this text, or the file's; the result of a reload if that fails. `is_taken`: it is put in force afterwards."""
        version = self.snapshot.version
        try:
            loaded = await self._load_aside(text, reading)
            if is_taken:
                await self.prepare(loaded.snapshot)
            return loaded
        except ConfigError as error:
            return ReloadResult(result="failed", version=version, problems=tuple(error.problems))
        except StartError as error:
            return ReloadResult(result="failed", version=version, message=str(error))
        except Exception:
            _log.exception("reload (%s): the gateway failed to read %s", trigger, self.path)
            message = "the gateway failed to read it; its log has the error"
            return ReloadResult(result="failed", version=version, message=message)

    async def _load_aside(self, text: str | None, reading: Reading) -> _Loaded:
        """Compile this text, or the file's, while the loop serves streams. Raises StartError or ConfigError.

        A small one is compiled in a thread, as files and commands are slow. A large one would hold the interpreter too long.
        """
        if text is None:
            text = await asyncio.to_thread(_read_text, self.path)
        if len(text) >= MIN_CHARACTERS:
            try:
                pieces = await asyncio.to_thread(load_apart, text, self._environment, reading)
            except CannotLoadApart as error:
                _log.warning("the configuration is read by the process that serves, which may delay streams: %s", error)
            else:
                return await self._assembled(text, pieces, reading)
        return await _aside(self._load, text, reading)

    async def _assembled(self, text: str, pieces: list[bytes], reading: Reading) -> _Loaded:
        """The snapshot of these pieces, which is exempt from garbage collection: a collection would look at all of it."""
        with collector_paused():
            snapshot = await in_slices(put_together(pieces))
            gc.freeze()
        return await asyncio.to_thread(self._completed, text, snapshot, reading)

    def _load(self, text: str | None, reading: Reading) -> _Loaded:
        """Compile this text, or the file's. Raises StartError or ConfigError."""
        if text is None:
            text = _read_text(self.path)
        return self._completed(text, load(text, self._environment, reading, to_serve=True), reading)

    def _completed(self, text: str, compiled: Snapshot, reading: Reading) -> _Loaded:
        """A compiled configuration with what the options change, and with its certificates. Raises StartError."""
        _check_all_authorities(compiled)
        snapshot = self._adjust(compiled)
        if snapshot.tls is None:
            return _Loaded(text, snapshot, None)
        try:
            return _Loaded(text, snapshot, tls_context(snapshot.tls, reading))
        except StartError as error:  # it may name a file that came from the environment
            raise StartError(snapshot.substitutions.shown(str(error))) from None

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

    async def watch_outside(self, interval_s: float = OUTSIDE_INTERVAL_S) -> None:
        """Take renewed keys and certificates, until cancelled: files that have changed, commands whose term is over."""
        while True:
            await asyncio.sleep(interval_s)
            is_stale = await asyncio.to_thread(self._outside.is_stale)
            self._log_troubles()
            if is_stale:
                await self.renew("a key or a certificate has changed")

    def stop(self) -> None:
        """End the commands that run."""
        self._outside.stop()

    def _log_troubles(self) -> None:
        troubles, self._outside.warnings = self._outside.warnings, []
        for trouble in troubles:
            _log.warning("%s", self.snapshot.substitutions.shown(trouble))

    def _apply(self, loaded: _Loaded, trigger: str, renewed: tuple[str, ...]) -> ReloadResult:
        before = self.snapshot
        after, needs_restart = keep_settings_that_need_restart(before, loaded.snapshot)
        for name in needs_restart:
            _log.warning("reload: %s has changed in %s; that needs a restart", name, self.path)
        result = self._result(after, renewed)
        self._count(result)
        if result == "reloaded":
            if len(self._text) >= MIN_CHARACTERS:
                free_in_slices(before, asyncio.get_running_loop())
            self._text = loaded.text
            self.snapshot = after
            if self._tls is not None and loaded.tls is not None:
                self._tls = loaded.tls
            for action in self._listeners:
                action()
            for warning in after.warnings:
                _log.warning("%s", warning)
        state = "in force" if result == "reloaded" else "unchanged"
        _log.info("reload (%s): %s is %s%s", trigger, self.path, state, f"; renewed: {', '.join(renewed)}" if renewed else "")
        return ReloadResult(
            result=result, version=after.version, needs_restart=needs_restart, warnings=after.warnings, renewed=renewed
        )

    def _result(self, after: Snapshot, renewed: tuple[str, ...]) -> str:
        is_same = after.version == self.snapshot.version and after.providers == self.snapshot.providers
        return "unchanged" if is_same and not renewed else "reloaded"

    def _failed(self, trigger: str, result: ReloadResult) -> ReloadResult:
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
        self._tasks: set[asyncio.Task[Any]] = {
            asyncio.create_task(configuration.watch()), asyncio.create_task(configuration.watch_outside())
        }  # fmt: skip

    def reload_soon(self) -> None:
        """Start a reload, without waiting for it."""
        task = asyncio.create_task(self._configuration.reload("SIGHUP"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop watching, and cancel what runs."""
        self._configuration.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _aside(compute: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Compute in a thread that yields often."""

    def run() -> _T:
        with short_turns():
            return compute(*args, **kwargs)

    return await asyncio.to_thread(run)


def _shown_renewed(loaded: _Loaded, reading: Reading) -> tuple[str, ...]:
    return tuple(map(loaded.snapshot.substitutions.shown, reading.renewed))


def keep_settings_that_need_restart(before: Snapshot, loaded: Snapshot) -> tuple[Snapshot, tuple[str, ...]]:
    """The loaded snapshot with the old values of the settings that need a restart, and the names of those that differ."""
    changed = [name for name in _NEED_RESTART if getattr(loaded, name) != getattr(before, name)]
    if "dashboard" in changed:  # the last of them
        changed[-1] = "dashboard.public_url" if before.dashboard and loaded.dashboard else "dashboard.enabled"
    own, other = before.accounts, loaded.accounts
    changed += [f"accounts.{name}" for name in ("required", "database") if getattr(own, name) != getattr(other, name)]
    if (before.tls is None) != (loaded.tls is None):
        changed.append("tls")
        loaded = replace(loaded, tls=before.tls)
    accounts = replace(other, required=own.required, database=own.database)
    after = replace(loaded, accounts=accounts, **{name: getattr(before, name) for name in _NEED_RESTART})
    if (before.admin is None) != (loaded.admin is None):
        changed.append("admin")
        after = replace(after, admin=before.admin)
    elif before.admin is not None and loaded.admin is not None and before.admin.listen != loaded.admin.listen:
        changed.append("admin.listen")
        after = replace(after, admin=Admin(before.admin.listen, loaded.admin.token))
    return after, tuple(changed)


def _check_authorities(provider: str, authorities: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError):
        raise StartError(f"provider {provider}: its ca_file holds no certificate in PEM") from None
