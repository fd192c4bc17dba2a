"""Keeps web pages away from the admin listener, whose requests aiohttp parses by itself. (Contract §1.)"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.http.web_pages import admin_policy


class PageGuard:
    """Applies the policy of the snapshot in force, which is built once, and again after a reload."""

    def __init__(self, current: Callable[[], Snapshot]) -> None:
        self._current = current
        self._built_for = current()
        self._policy = admin_policy(self._built_for)

    def check(self, request: web.Request) -> None:
        """Raises GatewayError if a web page must not send this request. A page that may is still not given the answer."""
        snapshot = self._current()
        if self._built_for is not snapshot:
            self._policy = admin_policy(snapshot)
            self._built_for = snapshot
        self._policy.admit(request.raw_path.encode("utf-8", "surrogateescape"), list(request.raw_headers))
