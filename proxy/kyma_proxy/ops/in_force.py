"""Declares what the running program needs of its configuration, wherever that comes from."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from kyma_proxy.config.reload_result import Change, ReloadPreview, ReloadResult
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.config.units import Secret
from kyma_proxy.loading.written_form import Form


class InForce(Protocol):
    """The configuration in force, and its reloads."""

    reloads: dict[str, int]
    """The number of reloads, by result."""
    read_at: float
    """When the file was last read with success, in Unix time."""
    prepare: Callable[[Snapshot], Awaitable[None]]
    """Called with each snapshot before it is put in force."""

    @property
    def last_reload_succeeded(self) -> bool:
        """True if all was valid when it was last read."""

    def current(self) -> Snapshot:
        """The snapshot in force."""

    def tls(self) -> ssl.SSLContext:
        """The context for the next handshake of a caller."""

    def on_change(self, action: Callable[[], None]) -> None:
        """Call `action` after each change."""

    async def reload(self, trigger: str) -> ReloadResult:
        """Read the file again."""

    async def preview(self) -> ReloadPreview:
        """The result that a reload of the file would have."""

    async def compare(self, form: Form, token: Secret) -> tuple[Change, ...]:
        """The changes if the configuration in force had this form."""
