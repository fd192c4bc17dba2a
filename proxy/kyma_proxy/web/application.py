"""Builds the public control plane: the application that answers every request that is not relayed. (Contract §2.)"""

from __future__ import annotations

import asyncio
import logging
import operator
from collections.abc import Callable
from typing import Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware

from kyma_proxy.config.snapshot import Model, Snapshot
from kyma_proxy.core.catalogue import Catalogue, Page, make_catalogue
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.status import public_status, status
from kyma_proxy.dialect.registry import RELAYED, dialect_at
from kyma_proxy.errors import GatewayError, Kind, internal_error
from kyma_proxy.net.small_slices import in_slices
from kyma_proxy.telemetry.record import LOGGED_FIELDS
from kyma_proxy.web.account_pages import AccountPages, add_no_accounts_routes
from kyma_proxy.web.control_plane_bridge import ERROR_HEADERS, REQUEST_ID_HEADER, begin_handling, cors_of
from kyma_proxy.web.image_pages import ImagePages
from kyma_proxy.web.openapi.document import openapi_page
from kyma_proxy.web.responses import Handler, json_response
from kyma_proxy.web.served_paths import not_allowed, nothing_at
from kyma_proxy.web.status_page import add_status_routes

_log: Final = logging.getLogger("kyma-proxy")
_PREFLIGHT_S: Final = "600"
_STATUS_MAX_AGE_S: Final = 1.0


class PublicPages:
    """The documents that need no key. Those of the snapshot in force are built once, and again after a reload."""

    def __init__(
        self,
        current: Callable[[], Snapshot],
        is_draining: Callable[[], bool],
        breakers: BreakerTable,
        clock: Callable[[], float],
        listed: Callable[[], tuple[Model, ...]] = lambda: (),
    ) -> None:
        """`listed` returns the models that only patterns know, and that their providers list."""
        self.current = current
        self.is_draining = is_draining
        self._listed = listed
        self._catalogue: tuple[Snapshot, tuple[Model, ...], Catalogue] | None = None
        self._making: tuple[Snapshot, tuple[Model, ...], asyncio.Task[Catalogue]] | None = None
        self.openapi = openapi_page()
        self._breakers = breakers
        self._clock = clock
        self._status: tuple[float, Snapshot, tuple[bytes, bytes]] | None = None

    async def catalogue(self) -> Catalogue:
        """The catalogue of the snapshot in force. If that is new it is made, while the loop serves others."""
        snapshot, listed = self.current(), self._listed()
        made, making = self._catalogue, self._making
        if made is not None and made[0] is snapshot and made[1] is listed:
            return made[2]
        if making is None or making[0] is not snapshot or making[1] is not listed:
            steps = make_catalogue(snapshot, LOGGED_FIELDS, RELAYED.values(), listed)
            making = self._making = snapshot, listed, asyncio.get_running_loop().create_task(in_slices(steps))
        catalogue = await asyncio.shield(making[2])
        if self._making is making:
            self._making, self._catalogue = None, (snapshot, listed, catalogue)
        return catalogue

    @property
    def status(self) -> bytes:
        """The document of `/v1/status` for callers: where they need a key, without the sources."""
        return self._statuses()[1]

    @property
    def full_status(self) -> bytes:
        """The document with the sources, for the admin listener."""
        return self._statuses()[0]

    def _statuses(self) -> tuple[bytes, bytes]:
        """Both, at most a second old, so that frequent requests for them do not slow the streams."""
        now, snapshot, cached = self._clock(), self.current(), self._status
        if cached is None or cached[1] is not snapshot or now - cached[0] > _STATUS_MAX_AGE_S:
            document = status(snapshot, self._breakers, now)
            full = orjson.dumps(document)
            public = orjson.dumps(public_status(document)) if snapshot.accounts.required else full
            cached = self._status = (now, snapshot, (full, public))
        return cached[2]


def application(
    pages: PublicPages, images: ImagePages, accounts: AccountPages | None,
    add_dashboard: Callable[[web.Application], None] | None = None,
) -> web.Application:  # fmt: skip
    """The application. It reads `pages` anew for every request; `accounts` is None if requests are not metered.

    `add_dashboard` adds the dashboard's pages, which take the place of the page of the status.
    """

    def page(read: Callable[[Catalogue], Page]) -> Handler:
        async def page_response(request: web.Request) -> web.StreamResponse:
            return _page_response(request, read(await pages.catalogue()))

        return page_response

    async def openapi(request: web.Request) -> web.StreamResponse:
        return _page_response(request, pages.openapi)

    async def model(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        page = (await pages.catalogue()).model(name)
        if page is None:
            raise GatewayError(Kind.MODEL_NOT_FOUND, f"There is no model {name}; GET /v1/models lists them all.", param="model")
        return _page_response(request, page)

    async def health(request: web.Request) -> web.Response:
        is_draining = pages.is_draining()
        document = {"status": "draining" if is_draining else "ok"}
        return json_response(document, 503 if is_draining else 200, is_private=False)

    app = web.Application(middlewares=[_error_middleware(pages)])
    app.router.add_get("/v1/models", page(operator.attrgetter("models")))
    app.router.add_get("/v1/models/{id:.+}", model)
    app.router.add_get("/v1/capabilities", page(operator.attrgetter("capabilities")))
    app.router.add_get("/v1/pricing", page(operator.attrgetter("pricing")))
    app.router.add_get("/v1/credits/pricing", page(operator.attrgetter("pricing")))
    app.router.add_get("/v1/limits/tiers", page(operator.attrgetter("tiers")))
    app.router.add_get("/v1/openapi.json", openapi)
    add_status_routes(app, lambda: pages.status, has_page=add_dashboard is None)
    app.router.add_get("/v1/health", health)
    images.add_to(app)
    if accounts is not None:
        accounts.add_to(app)
    else:
        add_no_accounts_routes(app)
    if add_dashboard is not None:
        add_dashboard(app)
    return app


def _error_middleware(pages: PublicPages) -> Middleware:
    @web.middleware
    async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turns errors into responses in the caller's dialect, and adds the request id and CORS headers to all responses."""
        begin_handling(request)
        try:
            response = _preflight(request) or await handler(request)
        except GatewayError as error:
            response = _error_response(request, error)
        except web.HTTPException as error:
            response = _error_response(request, _from_aiohttp(request, error))
        except Exception:
            _log.exception("request %s failed inside the control plane", request.headers.get(REQUEST_ID_HEADER))
            response = _error_response(request, internal_error())
        _add_common_headers(request, response)
        return response

    return error_middleware


def _add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "kyma-proxy"
    response.headers["X-Request-Id"] = request.headers.get(REQUEST_ID_HEADER, "")
    for line in cors_of(request).decode("latin-1").splitlines():
        name, _, value = line.partition(": ")
        response.headers[name] = value


def _page_response(request: web.Request, page: Page) -> web.Response:
    headers = {"ETag": page.etag, "Cache-Control": f"public, max-age={page.max_age}" if page.max_age else "no-cache"}
    condition = request.headers.get("If-None-Match", "")
    if page.etag in (tag.strip().removeprefix("W/") for tag in condition.split(",")) or condition.strip() == "*":
        return web.Response(status=304, headers=headers)
    return web.Response(body=page.body, content_type="application/json", headers=headers)


def _preflight(request: web.Request) -> web.Response | None:
    """The response to OPTIONS on a path that exists, with the CORS headers if the origin is allowed; else None."""
    if request.method != "OPTIONS":
        return None
    if request.rel_url.raw_path == "*":  # of the whole server (RFC 9110 §9.3.7)
        return web.Response(status=204, headers={"Allow": "GET, HEAD, POST, DELETE, OPTIONS"})
    allowed = _methods_at(request)
    if not allowed:
        return None
    headers = {"Allow": ", ".join(allowed)}
    if cors_of(request):
        headers["Access-Control-Allow-Methods"] = ", ".join(allowed)
        headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "*")
        headers["Access-Control-Max-Age"] = _PREFLIGHT_S
    return web.Response(status=204, headers=headers)


def _methods_at(request: web.Request) -> list[str]:
    if request.rel_url.raw_path.encode() in RELAYED:
        return ["POST", "OPTIONS"]
    error = request.match_info.http_exception
    if isinstance(error, web.HTTPMethodNotAllowed):
        return [*sorted(error.allowed_methods), "OPTIONS"]
    return []


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> GatewayError:
    """The error for an exception that aiohttp raises by itself."""
    allowed = _methods_at(request)
    if allowed:
        return not_allowed(request.method, allowed)
    if error.status == 404:
        return nothing_at(request.path, RELAYED)
    if error.status >= 500:
        return internal_error()
    return GatewayError(Kind.INVALID_REQUEST, f"The request can't be served: {error.reason}.")


def _error_response(request: web.Request, error: GatewayError) -> web.Response:
    dialect = dialect_at(request.path.encode())
    body = dialect.error_body(error, request.headers.get(REQUEST_ID_HEADER, ""))
    response = web.Response(status=error.kind.status, body=body, content_type="application/json")
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    response.headers.update(request.get(ERROR_HEADERS, {}))
    if error.allowed:
        response.headers["Allow"] = ", ".join(error.allowed)
    return response
