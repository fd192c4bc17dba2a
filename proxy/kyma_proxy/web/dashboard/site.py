"""Puts the dashboard together. Nothing of it is imported where the configuration has it off."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.accounting.sessions import Sessions
from kyma_proxy.config.snapshot import Model, Snapshot
from kyma_proxy.web.dashboard.account_pages import AccountHolderPages
from kyma_proxy.web.dashboard.activity_pages import ActivityPages
from kyma_proxy.web.dashboard.open_pages import OpenPages
from kyma_proxy.web.dashboard.protection import SessionCookie
from kyma_proxy.web.dashboard.rendering import Rendering
from kyma_proxy.web.dashboard.responding import Responding


def add_dashboard(
    app: web.Application,
    public_url: str,
    current: Callable[[], Snapshot],
    account_service: AccountService,
    meter: Meter,
    *,
    status: Callable[[], bytes],
    listed: Callable[[], tuple[Model, ...]],
    clock: Callable[[], float],
    wall: Callable[[], float],
    random_bytes: Callable[[int], bytes],
) -> None:
    """Add the dashboard's routes to the control plane. `clock` is monotonic, `wall` is Unix time."""
    responding = Responding(Rendering({"public_url": public_url}))
    sessions = Sessions(account_service, wall=wall, random_bytes=random_bytes)
    OpenPages(current, status, listed, responding).add_to(app)
    pages = AccountHolderPages(
        current, account_service, sessions, meter, responding=responding, cookie=SessionCookie(public_url), clock=clock,
        wall=wall,
    )  # fmt: skip
    pages.add_to(app)
    ActivityPages(current, account_service, responding).add_to(app, pages)
