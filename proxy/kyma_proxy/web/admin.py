"""This file builds the admin listener: health and metrics for everybody who reaches it, the API behind its token.

Without a configured token the API is off. (Contract §1, §2.)
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from kyma_proxy.config.reload_result import ReloadResult
from kyma_proxy.config.snapshot import Provider, Snapshot
from kyma_proxy.config.units import Secret
from kyma_proxy.errors import GatewayError, accounts_unavailable
from kyma_proxy.store.contract import StoreUnavailable
from kyma_proxy.web.admin_accounts import AdminAccounts

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def admin_application(
    current: Callable[[], Snapshot],
    is_draining: Callable[[], bool],
    metrics: Callable[[], bytes],
    reload: Callable[[], Awaitable[ReloadResult]],
    accounts: AdminAccounts | None,
) -> web.Application:
    """The admin application; what it is given is asked anew for every request."""

    async def livez(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(request: web.Request) -> web.Response:
        if is_draining():
            return web.json_response({"status": "draining"}, status=503)
        return web.json_response({"status": "ok"})

    async def scrape(request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def config(request: web.Request) -> web.Response:
        return web.Response(body=redacted(current()), content_type="application/json")

    async def reload_now(request: web.Request) -> web.Response:
        outcome = await reload()
        status = 422 if outcome.result == "failed" else 200
        return web.Response(body=msgspec.json.encode(_told(outcome)), status=status, content_type="application/json")

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path.startswith("/admin/"):
            admin = current().admin
            refusal = _refusal(request, admin.token if admin is not None else None)
            if refusal is not None:
                return refusal
        try:
            return await handler(request)
        except GatewayError as error:
            return _told_error(error)
        except StoreUnavailable:
            return _told_error(accounts_unavailable())

    app = web.Application(middlewares=[guard])
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/admin/config", config)
    app.router.add_post("/admin/reload", reload_now)
    if accounts is not None:
        accounts.add_to(app)
    return app


def _told(outcome: ReloadResult) -> dict[str, object]:
    problems = [{"path": one.path, "line": one.line, "message": one.message} for one in outcome.problems]
    return msgspec.structs.asdict(outcome) | {"problems": problems}


def redacted(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON; of credentials and configured headers only whether and under which name they are there."""

    def plain(value: object) -> object:
        if isinstance(value, Secret):
            return "(set)"
        raise NotImplementedError

    document = msgspec.to_builtins(
        {name: getattr(snapshot, name) for name in snapshot.__struct_fields__ if name not in ("models", "providers", "routes")}
        | {"aliases": dict(snapshot.aliases), "fallbacks": dict(snapshot.fallbacks)}
        | {"providers": [_provider(provider) for provider in snapshot.providers.values()]}
        | {"models": [_model_of(snapshot, name) for name in snapshot.models]},
        enc_hook=plain,
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _provider(provider: Provider) -> dict[str, object]:
    return {
        "name": provider.name,
        "dialect": provider.dialect,
        "base_url": f"{provider.origin.scheme}://{provider.origin.authority}{provider.base_path.decode()}",
        "headers": sorted(name.decode() for name in provider.own_names),
        "off": provider.off,
        "warm_connections": provider.warm_connections,
        "keep_alive": provider.keep_alive,
    }


def _model_of(snapshot: Snapshot, name: str) -> dict[str, object]:
    model = snapshot.models[name]
    fields = {field: getattr(model, field) for field in model.__struct_fields__ if field not in ("pool", "reserve")}
    for part in ("pool", "reserve"):
        fields[part] = [
            {
                "provider": source.provider.name,
                "model": source.model,
                "weight": source.weight,
                "timeouts": source.timeouts,
                "stream_usage": source.stream_usage,
                "max_tokens_field": source.max_tokens_field,
                "reasoning_field": source.reasoning_field,
            }
            for source in getattr(model, part)
        ]
    return fields


def _refusal(request: web.Request, token: Secret | None) -> web.Response | None:
    """Why this request may not use the API, or None when it may. The comparison takes the same time for every guess."""
    if token is None:
        return _error(403, "forbidden", "The admin API is off; set admin.token in the configuration to switch it on.")
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Bytes that are not UTF-8 come as surrogates; they are compared like any others.
    same = hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.reveal().encode("utf-8", "surrogateescape"))
    if scheme.lower() != "bearer" or not same:
        return _error(401, "invalid_api_key", "Send the admin token as `Authorization: Bearer …`.")
    return None


def _told_error(error: GatewayError) -> web.Response:
    response = _error(error.kind.status, error.kind.code, error.message)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": code}}, status=status)
