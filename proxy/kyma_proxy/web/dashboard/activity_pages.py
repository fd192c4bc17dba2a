"""Serves what an account's requests were, one by one, as a page and as a file for spreadsheets. Never what was in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.accounting.sessions import Session
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.store.activity import ActivityFilter, ActivityPage
from kyma_proxy.web import documents
from kyma_proxy.web.activity_documents import activity_csv
from kyma_proxy.web.dashboard.account_pages import AccountHolderPages
from kyma_proxy.web.dashboard.protection import HEADERS
from kyma_proxy.web.dashboard.responding import Responding
from kyma_proxy.web.reading import query_number

_PAGE: Final = "/dashboard/activity"
_PAGE_ROWS: Final = 50
_FILE_ROWS: Final = 1000
_MAX_SOUGHT: Final = 256
_ENDINGS: Final = ("completed", "relayed_error", "rejected", "failed", "broken", "client_gone", "drained")


class ActivityPages:
    """The page and the file. Both are pages of a list: a link leads to the next older ones."""

    def __init__(self, current: Callable[[], Snapshot], account_service: AccountService, responding: Responding) -> None:
        self._current = current
        self._account_service = account_service
        self._responding = responding

    def add_to(self, app: web.Application, pages: AccountHolderPages) -> None:
        """Add the routes, behind the sign-in of `pages`."""
        app.router.add_get(_PAGE, pages.signed_in(self._page))
        app.router.add_get(f"{_PAGE}.csv", pages.signed_in(self._file))

    async def _page(self, request: web.Request, session: Session) -> web.Response:
        found, sought = await self._find(request, session, _PAGE_ROWS)
        kept = urlencode(sought)
        return await self._responding.page(request, "activity.html", {
            "bounds": self._current().activity, "rows": found.rows, "sought": sought, "endings": _ENDINGS,
            "file": f"{_PAGE}.csv?{kept}" if kept else f"{_PAGE}.csv",
            "older": None if found.next_before is None else f"{_PAGE}?{urlencode({**sought, 'before': found.next_before})}",
        })  # fmt: skip

    async def _file(self, request: web.Request, session: Session) -> web.Response:
        found, _ = await self._find(request, session, _FILE_ROWS)
        text = activity_csv(row._replace(provider=None) for row in found.rows)  # callers do not learn who serves them
        headers = {**HEADERS, "Content-Disposition": 'attachment; filename="activity.csv"'}
        return web.Response(body=text.encode(), content_type="text/csv", charset="utf-8", headers=headers)

    async def _find(self, request: web.Request, session: Session, limit: int) -> tuple[ActivityPage, dict[str, str]]:
        """The requests that fit the address, and the part of the address by which they are sought. Raises GatewayError."""
        before = query_number(request, "before", default=0, minimum=1, maximum=documents.MAX_ID) or None
        given = {name: request.query.get(name, "").strip()[:_MAX_SOUGHT] for name in ("model", "ending")}
        sought = {name: value for name, value in given.items() if value}
        wanted = ActivityFilter(account=session.key.account.id, model=sought.get("model"), ending=sought.get("ending"))
        return await self._account_service.store.activity(wanted, before, limit), sought
