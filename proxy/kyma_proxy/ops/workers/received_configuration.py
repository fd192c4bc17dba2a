"""Holds the configuration of a worker: snapshots that the supervisor has read and sends, one of which is in force."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

from kyma_proxy.config.reload_result import Change, ReloadPreview, ReloadResult
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.config.units import Secret
from kyma_proxy.loading.written_form import Form
from kyma_proxy.net.small_slices import in_slices
from kyma_proxy.ops.listening import tls_context
from kyma_proxy.ops.memory import collector_paused
from kyma_proxy.ops.outside_values import OutsideStore
from kyma_proxy.ops.reload import keep_settings_that_need_restart
from kyma_proxy.ops.snapshot_pieces import put_together, take_apart


def packed(snapshot: Snapshot) -> bytes:
    """The snapshot for a worker."""
    return pickle.dumps(take_apart(snapshot), pickle.HIGHEST_PROTOCOL)


def _unpacked(content: bytes) -> list[bytes]:
    pieces: list[bytes] = pickle.loads(content)  # noqa: S301  (the supervisor's)
    return pieces


def _at_once(pieces: list[bytes]) -> Snapshot:
    steps = put_together(pieces)
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            snapshot: Snapshot = ended.value
            return snapshot


def _part_of(snapshot: Snapshot) -> Snapshot:
    """The snapshot with the part of the memory that one of the workers may take."""
    whole = snapshot.limits.max_buffered
    if whole is None:
        return snapshot
    return replace(snapshot, limits=replace(snapshot.limits, max_buffered=whole // snapshot.workers))


async def _prepare_nothing(snapshot: Snapshot) -> None:
    """Prepare nothing."""


class ReceivedConfiguration:
    """The snapshot in force, and the next one. It reads no file but those of the certificate. An `InForce`."""

    def __init__(self, content: bytes) -> None:
        """Put the first snapshot in force. Raises StartError if its certificate can't be used."""
        with collector_paused():
            self.snapshot = _part_of(_at_once(_unpacked(content)))
        self._tls = _context_of(self.snapshot)
        self._next: tuple[int, Snapshot, ssl.SSLContext | None] | None = None
        self._listeners: list[Callable[[], None]] = []
        self.reloads: dict[str, int] = {}
        self.read_at = 0.0
        self.prepare: Callable[[Snapshot], Awaitable[None]] = _prepare_nothing
        self.last_reload_succeeded = True

    def current(self) -> Snapshot:
        """The snapshot in force."""
        return self.snapshot

    def tls(self) -> ssl.SSLContext:
        """The context for the next handshake of a caller."""
        assert self._tls is not None  # noqa: S101  (who asks has seen that the snapshot has TLS)
        return self._tls

    def on_change(self, action: Callable[[], None]) -> None:
        """Call `action` after each change."""
        self._listeners.append(action)

    async def take(self, version: int, content: bytes) -> None:
        """Get ready for a snapshot, while the loop serves others. Raises StartError if its certificate can't be used."""
        with collector_paused():
            loaded = await in_slices(put_together(_unpacked(content)))
        after, _ = keep_settings_that_need_restart(self.snapshot, _part_of(loaded))
        context = _context_of(after)
        await self.prepare(after)
        self._next = version, after, context

    def put_in_force(self, version: int) -> bool:
        """Put the snapshot of this version in force; returns False if another one is ready, or none."""
        if self._next is None or self._next[0] != version:
            return False
        _, self.snapshot, self._tls = self._next
        self._next = None
        for action in self._listeners:
            action()
        return True

    async def reload(self, trigger: str) -> ReloadResult:
        """Raises NotImplementedError: the supervisor reloads."""
        raise NotImplementedError

    async def preview(self) -> ReloadPreview:
        """Raises NotImplementedError: the supervisor reloads."""
        raise NotImplementedError

    async def compare(self, form: Form, token: Secret) -> tuple[Change, ...]:
        """Raises NotImplementedError: the supervisor has the admin listener."""
        raise NotImplementedError


def _context_of(snapshot: Snapshot) -> ssl.SSLContext | None:
    return None if snapshot.tls is None else tls_context(snapshot.tls, OutsideStore(runs_commands=False).reading())
