"""This file builds the public control plane: what answers at every path that is not relayed. (Contract §2.)"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.catalogue import Catalogue, Page
from kyma_proxy.core.http.answers import cors_lines
from kyma_proxy.core.routing.breaker import BreakerTable
from kyma_proxy.core.routing.status import status
from kyma_proxy.dialect.registry import RELAYED, dialect_at
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.telemetry.record import LOGGED_FIELDS
from kyma_proxy.web.account_pages import AccountPages, add_refusals
from kyma_proxy.web.control_plane_bridge import ERROR_FIELDS, REQUEST_ID_HEADER
from kyma_proxy.web.image_pages import ImagePages
from kyma_proxy.web.openapi.document import openapi_page
from kyma_proxy.web.status_page import status_page

_log: Final = logging.getLogger("kyma-proxy")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PREFLIGHT_S: Final = "600"
_STATUS_MAX_AGE_S: Final = 1.0


class PublicPages:
    """The pages of the snapshot in force, made anew when it changes."""

    def __init__(
        self, current: Callable[[], Snapshot], is_draining: Callable[[], bool], health: BreakerTable, clock: Callable[[], float]
    ) -> None:
        self.current = current
        self.is_draining = is_draining
        self._made_for: Snapshot | None = None
        self._catalogue: Catalogue | None = None
        self.openapi = openapi_page()
        self._health = health
        self._clock = clock
        self._status: tuple[float, Snapshot, bytes] | None = None

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue of the snapshot in force."""
        snapshot = self.current()
        if self._catalogue is None or self._made_for is not snapshot:
            self._catalogue = Catalogue(snapshot, LOGGED_FIELDS, RELAYED.values())
            self._made_for = snapshot
        return self._catalogue

    @property
    def status(self) -> bytes:
        """How models and sources fare, at most a second ago: whoever asks often shall not cost the streams."""
        now, snapshot, known = self._clock(), self.current(), self._status
        if known is None or known[1] is not snapshot or now - known[0] > _STATUS_MAX_AGE_S:
            known = self._status = (now, snapshot, msgspec.json.encode(status(snapshot, self._health, now)))
        return known[2]


def application(site: PublicPages, images: ImagePages, accounts: AccountPages | None) -> web.Application:
    """The application; `site` is asked anew for every request, and there are `accounts` where requests are metered."""

    def page(read: Callable[[], Page]) -> _Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            return _answer(request, read())

        return answer

    async def model(request: web.Request) -> web.Response:
        catalogue = site.catalogue
        name = request.match_info["id"]
        page = catalogue.model.get(catalogue.aliases.get(name, name))
        if page is None:
            raise GatewayError(Kind.MODEL_NOT_FOUND, f"There is no model {name}; GET /v1/models lists them all.", param="model")
        return _answer(request, page)

    async def status_json(request: web.Request) -> web.Response:
        return web.Response(body=site.status, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def status_html(request: web.Request) -> web.Response:
        return _status_page(site)

    async def health(request: web.Request) -> web.Response:
        draining = site.is_draining()
        return web.json_response({"status": "draining" if draining else "ok"}, status=503 if draining else 200)

    @web.middleware
    async def error_middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Every answer has the request id and the cross-origin lines; every error is in the caller's dialect."""
        try:
            response = _preflight(request, site.current()) or await handler(request)
        except GatewayError as error:
            response = _error(request, error)
        except web.HTTPException as error:
            response = _error(request, _translated(request, error))
        except Exception:
            _log.exception("request %s failed inside the control plane", request.headers.get(REQUEST_ID_HEADER))
            response = _error(request, GatewayError(Kind.INTERNAL, "The gateway failed; its log has the request id."))
        _add_common_fields(request, response, site.current())
        return response

    app = web.Application(middlewares=[error_middleware])
    app.router.add_get("/v1/models", page(lambda: site.catalogue.models))
    app.router.add_get("/v1/models/{id:.+}", model)
    app.router.add_get("/v1/capabilities", page(lambda: site.catalogue.capabilities))
    app.router.add_get("/v1/pricing", page(lambda: site.catalogue.pricing))
    app.router.add_get("/v1/credits/pricing", page(lambda: site.catalogue.pricing))
    app.router.add_get("/v1/limits/tiers", page(lambda: site.catalogue.tiers))
    app.router.add_get("/v1/openapi.json", page(lambda: site.openapi))
    app.router.add_get("/v1/status", status_json)
    app.router.add_get("/status", status_html)
    app.router.add_get("/v1/health", health)
    images.add_to(app)
    if accounts is not None:
        accounts.add_to(app)
    else:
        add_refusals(app)
    return app


def _add_common_fields(request: web.Request, response: web.StreamResponse, snapshot: Snapshot) -> None:
    response.headers["Server"] = "kyma-proxy"
    response.headers["X-Request-Id"] = request.headers.get(REQUEST_ID_HEADER, "")
    for line in cors_lines(list(request.raw_headers), snapshot.cors_origins).decode("latin-1").splitlines():
        name, _, value = line.partition(": ")
        response.headers[name] = value


def _status_page(site: PublicPages) -> web.Response:
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return web.Response(body=status_page(site.status), content_type="text/html", charset="utf-8", headers=headers)


def _answer(request: web.Request, page: Page) -> web.Response:
    headers = {"ETag": page.etag, "Cache-Control": f"public, max-age={page.max_age}" if page.max_age else "no-cache"}
    wanted = request.headers.get("If-None-Match", "")
    if page.etag in (tag.strip().removeprefix("W/") for tag in wanted.split(",")) or wanted.strip() == "*":
        return web.Response(status=304, headers=headers)
    return web.Response(body=page.body, content_type="application/json", headers=headers)


def _preflight(request: web.Request, snapshot: Snapshot) -> web.Response | None:
    """The answer to OPTIONS on a path that exists: what may be sent there, to pages of allowed origins."""
    if request.method != "OPTIONS":
        return None
    allowed = _methods_at(request)
    if not allowed:
        return None
    headers = {"Allow": ", ".join(allowed)}
    if cors_lines(list(request.raw_headers), snapshot.cors_origins):
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


def _translated(request: web.Request, error: web.HTTPException) -> GatewayError:
    """aiohttp's own refusals, in the gateway's words."""
    allowed = _methods_at(request)
    if allowed:
        return GatewayError(Kind.METHOD_NOT_ALLOWED, f"{request.method} is not served here; use {allowed[0]}.")
    if error.status == 404:
        hint = ""
        if f"/v1{request.path}".encode() in RELAYED:
            hint = f" Did you mean /v1{request.path}? The base URL for OpenAI clients ends with /v1."
        elif request.path.startswith("/v1/v1/"):
            hint = " The path has /v1 twice; the base URL for Anthropic clients ends without it."
        return GatewayError(Kind.NOT_FOUND, f"There is nothing at {request.path}.{hint}")
    if error.status >= 500:
        return GatewayError(Kind.INTERNAL, "The gateway failed; its log has the request id.")
    return GatewayError(Kind.INVALID_REQUEST, f"The request can't be served: {error.reason}.")


def _error(request: web.Request, error: GatewayError) -> web.Response:
    dialect = dialect_at(request.path.encode())
    body = dialect.error_body(error, request.headers.get(REQUEST_ID_HEADER, ""))
    response = web.Response(status=error.kind.status, body=body, content_type="application/json")
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    response.headers.update(request.get(ERROR_FIELDS, {}))
    if error.kind is Kind.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(_methods_at(request))
    return response
