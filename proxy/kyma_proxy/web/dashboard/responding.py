"""Makes the dashboard's responses: pages, redirects to pages of ours, and errors as pages."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from kyma_proxy.accounting.sessions import Session
from kyma_proxy.errors import GatewayError, accounts_unavailable
from kyma_proxy.store.contract import StoreUnavailable
from kyma_proxy.web.dashboard.protection import HEADERS
from kyma_proxy.web.dashboard.rendering import Rendering
from kyma_proxy.web.responses import Handler

SESSION = web.RequestKey("session", Session)
"""The session of a request, once it is known: the page's navigation depends on it."""


class Responding:
    """Makes responses with the templates."""

    def __init__(self, rendering: Rendering) -> None:
        self.rendering = rendering

    async def page(
        self, request: web.Request, template: str, values: Mapping[str, object] | None = None, *, status: int = 200
    ) -> web.Response:
        """The page of a template."""
        session = request.get(SESSION)
        body = await self.rendering.render(
            template,
            {"path": request.path, "account": None if session is None else session.key.account, **(values or {})},
        )
        return web.Response(body=body, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)

    def handler(self, handler: Handler) -> Handler:
        """The handler, with its errors as pages."""

        async def with_pages(request: web.Request) -> web.StreamResponse:
            try:
                try:
                    return await handler(request)
                except StoreUnavailable:
                    raise accounts_unavailable() from None
            except GatewayError as error:
                response = await self.page(request, "error.html", {"message": error.message}, status=error.kind.status)
                if error.retry_after is not None:
                    response.headers["Retry-After"] = str(error.retry_after)
                return response

        return with_pages


def redirect(path: str) -> web.Response:
    """Send the browser to a page of ours: `path` is never what a caller has sent."""
    return web.Response(status=303, headers={**HEADERS, "Location": path})
