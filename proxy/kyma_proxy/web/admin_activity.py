"""Serves the requests that accounts have made to the operator, newest first, a page at a time, as JSON or CSV."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.store.activity import ActivityFilter
from kyma_proxy.web.activity_documents import activity_csv, activity_document
from kyma_proxy.web.documents import MAX_ID
from kyma_proxy.web.reading import query_number, query_text
from kyma_proxy.web.responses import json_response

PATH: Final = "/admin/activity"
_MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 100


class AdminActivity:
    """The endpoint of the activity on the admin listener."""

    def __init__(self, account_service: AccountService) -> None:
        self._account_service = account_service

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get(PATH, self._show)

    async def _show(self, request: web.Request) -> web.Response:
        limit = query_number(request, "limit", default=_DEFAULT_LIMIT, minimum=1, maximum=_MAX_LIMIT)
        before = query_number(request, "before", default=0, minimum=1, maximum=MAX_ID) or None
        wanted = ActivityFilter(*(query_text(request, name) for name in ActivityFilter._fields))
        if wanted.account is not None and self._account_service.accounts.account(wanted.account) is None:
            raise GatewayError(Kind.NOT_FOUND, "There is no such account; GET /admin/accounts lists them.", param="account")
        form = query_text(request, "format") or "json"
        if form not in ("json", "csv"):
            raise GatewayError(Kind.INVALID_REQUEST, "`format` must be json or csv.", param="format")
        page = await self._account_service.store.activity(wanted, before, limit)
        if form == "json":
            return json_response(activity_document(page))
        headers = {"Cache-Control": "no-store", "Content-Disposition": 'attachment; filename="activity.csv"'}
        if page.next_before is not None:
            following = request.rel_url.update_query(before=str(page.next_before))
            headers["Link"] = f'<{following.raw_path_qs}>; rel="next"'
        return web.Response(text=activity_csv(page.rows), content_type="text/csv", charset="utf-8", headers=headers)
