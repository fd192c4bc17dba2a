"""Builds the application of the admin listener: health and metrics without a token, and the admin API, which needs the token.

Without a configured token the API is off. (Contract §1, §2.)
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

import msgspec
import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware

from kyma_proxy.config.origin import Way
from kyma_proxy.config.reload_result import Change, ReloadPreview, ReloadResult
from kyma_proxy.config.snapshot import Model, Provider, Snapshot, TcpAddress
from kyma_proxy.config.units import Secret
from kyma_proxy.errors import GatewayError, accounts_unavailable
from kyma_proxy.store.contract import StoreUnavailable
from kyma_proxy.telemetry.exposition import media_type
from kyma_proxy.web.admin_accounts import AdminAccounts
from kyma_proxy.web.reload_documents import COMPARE_PATH, changes_document, is_dry_run, read_written_form, reload_document
from kyma_proxy.web.responses import Handler, json_response
from kyma_proxy.web.served_paths import not_allowed, nothing_at
from kyma_proxy.web.status_page import add_status_routes

_OWN_FORM: Final = ("models", "entries", "patterns", "pattern_routes", "providers", "routes", "substitutions", "warnings")
# Members of the snapshot that stand elsewhere than in the configuration.
_PLACES: Final = MappingProxyType({
    **{f"defaults.{name}": name for name in ("max_tokens", "hold", "probe_after")},
    "accounts.signup.enabled": "accounts.signup", "accounts.signup.credits": "accounts.signup_credits",
    "accounts.signup.per_hour": "accounts.signups_per_hour", "usage": "asks_usage",
})  # fmt: skip


def admin_application(
    current: Callable[[], Snapshot],
    is_draining: Callable[[], bool],
    metrics: Callable[[str], Awaitable[bytes]],
    reload: Callable[[], Awaitable[ReloadResult]],
    accounts: AdminAccounts | None,
    *,
    preview: Callable[[], Awaitable[ReloadPreview]] | None = None,
    compare: Callable[[dict[str, Any], Secret], Awaitable[Iterable[Change]]] | None = None,
    status: Callable[[], bytes] | None = None,
) -> web.Application:
    """The admin application. It calls each of its arguments anew for every request; `metrics` with the media type of a scrape.

    `preview` says what a reload would do, and `compare` what would change if the configuration had a form whose secrets are
    sealed with the token.
    `status` is the whole document of `/v1/status`: where callers need a key, they see less of it.
    """

    async def livez(request: web.Request) -> web.Response:
        return json_response({"status": "ok"}, is_private=False)

    async def readyz(request: web.Request) -> web.Response:
        if is_draining():
            return json_response({"status": "draining"}, 503, is_private=False)
        if all(provider.off is not None for provider in current().providers.values()):
            return json_response({"status": "every provider is off"}, 503, is_private=False)
        return json_response({"status": "ok"}, is_private=False)

    async def metrics_text(request: web.Request) -> web.Response:
        kind = media_type(",".join(request.headers.getall("Accept", [])))
        return web.Response(body=await metrics(kind), headers={"Content-Type": kind, "Vary": "Accept"})

    async def configuration(request: web.Request) -> web.Response:
        return web.Response(body=redacted_configuration(current()), content_type="application/json")

    async def reload_result(request: web.Request) -> web.Response:
        outcome = await (preview() if preview is not None and is_dry_run(request) else reload())
        return json_response(reload_document(outcome), 422 if outcome.result == "failed" else 200, is_private=False)

    app = web.Application(middlewares=[_admission(current)])
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics_text)
    app.router.add_get("/admin/config", configuration)
    app.router.add_post("/admin/reload", reload_result)
    if compare is not None:
        app.router.add_post(COMPARE_PATH, _comparison(current, compare))
    if status is not None:
        add_status_routes(app, status)
    if accounts is not None:
        accounts.add_to(app)
    return app


def _comparison(
    current: Callable[[], Snapshot], compare: Callable[[dict[str, Any], Secret], Awaitable[Iterable[Change]]]
) -> Handler:
    async def comparison(request: web.Request) -> web.StreamResponse:
        admin = current().admin
        assert admin is not None  # noqa: S101  (the request was admitted)
        assert admin.token is not None  # noqa: S101
        return json_response(changes_document(await compare(await read_written_form(request), admin.token)), is_private=False)

    return comparison


def _admission(current: Callable[[], Snapshot]) -> Middleware:
    @web.middleware
    async def token_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Requires the token for the admin API, and turns errors into responses."""
        try:
            if request.path.startswith("/admin/"):
                admin = current().admin
                refusal = _refusal(request, admin.token if admin is not None else None)
                if refusal is not None:
                    return refusal
            return await handler(request)
        except GatewayError as error:
            return _gateway_error_response(error)
        except web.HTTPMethodNotAllowed as error:
            return _gateway_error_response(not_allowed(request.method, sorted(error.allowed_methods)))
        except web.HTTPNotFound:
            return _gateway_error_response(nothing_at(request.path))
        except StoreUnavailable:
            return _gateway_error_response(accounts_unavailable())

    return token_middleware


def redacted_configuration(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON: of headers, parameters and members only their names, of credentials only if they are set.

    What came from the environment is shown as the configuration has it: `${NAME}`.
    """

    def redact(value: object) -> object:
        if isinstance(value, Secret):
            return "(set)"
        raise NotImplementedError

    document: Any = msgspec.to_builtins(
        {one.name: getattr(snapshot, one.name) for one in fields(snapshot) if one.name not in _OWN_FORM}
        | {"aliases": dict(snapshot.aliases), "fallbacks": dict(snapshot.fallbacks)}
        | {"providers": [_provider(provider) for provider in snapshot.providers.values()]}
        | {"warnings": [one._asdict() for one in snapshot.warnings]}
        | {"models": [_model(snapshot, model) for model in snapshot.entries]},
        enc_hook=redact,
    )
    for path, written in snapshot.substitutions.written.items():
        _put(document, _PLACES.get(path, path), written)
    document = snapshot.substitutions.shown_in(document)
    if snapshot.accounts.required and snapshot.admin is not None and snapshot.admin.token is not None:
        document["accounts"]["database_digest"] = database_digest(snapshot.accounts.database, snapshot.admin.token)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def database_digest(database: str, token: Secret) -> str:
    """Tells a command that has the token if it means the same database as a gateway, without the name of either."""
    key = token.reveal().encode("utf-8", "surrogateescape")
    return hmac.new(key, database.encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def _put(document: object, path: str, written: str) -> None:
    """Put the text of a member in the place of its value, where the document has that value itself."""
    *parents, last = re.findall(r"[^.\[\]]+", path)
    for name in parents:
        document = _member(document, name)
    if isinstance(document, dict) and last in document:
        if document[last] not in (None, "(set)"):
            document[last] = written
    elif isinstance(document, list) and last.isdecimal() and int(last) < len(document):
        document[int(last)] = written


def _member(document: object, name: str) -> object:
    if isinstance(document, dict):
        return document.get(name)
    return document[int(name)] if isinstance(document, list) and name.isdecimal() and int(name) < len(document) else None


def _provider(provider: Provider) -> dict[str, object]:
    origin, base_path = provider.origin, provider.base_path.decode()
    way = Way() if origin.way is None else origin.way
    address = f"unix:{way.socket}:" if way.socket is not None else f"{origin.scheme}://{origin.authority}"
    return {
        "name": provider.name,
        "dialect": provider.dialect,
        "base_url": base_path if base_path.startswith("http") else f"{address}{base_path}",
        "headers": sorted(name.decode() for name in provider.own_names),
        "query": sorted(unquote(one.partition("=")[0]) for one in provider.query.decode().split("&") if one),
        "proxy": None if way.proxy is None else str(TcpAddress(way.proxy.host, way.proxy.port)),
        "keys": provider.keys,
        "off": provider.off,
        "warm_connections": provider.warm_connections,
        "keep_alive": provider.keep_alive,
    }


def _model(snapshot: Snapshot, model: Model) -> dict[str, object]:
    hidden = ("pool", "reserve", "counted_as")
    members = {one.name: getattr(model, one.name) for one in fields(model) if one.name not in hidden}
    for pattern in snapshot.patterns:
        if pattern.model is model:
            members["prices"] = dict(pattern.prices)
    for part in ("pool", "reserve"):
        members[part] = [
            {
                "provider": source.provider.name,
                "model": source.model,
                "weight": source.weight,
                "timeouts": source.timeouts,
                "stream_usage": source.stream_usage,
                "max_tokens_field": source.max_tokens_field,
                "reasoning_field": source.reasoning_field,
                "supports": {name: value for name, value in source.supports._asdict().items() if value is not None},
                "reasoning_parser": source.reasoning_parser,
                "calls_need": source.calls_need,
                "pass_headers": [name.decode() for name in source.pass_headers],
                "headers": sorted(name.decode() for name in source.provider.own_names),
                "body": [name for name, _ in source.body],
            }
            for source in getattr(model, part)
        ]
    return members


def _refusal(request: web.Request, token: Secret | None) -> web.Response | None:
    """The reason why this request may not use the API; None if it may. The comparison takes the same time for every guess."""
    if token is None:
        return _error_response(403, "forbidden", "The admin API is off; set admin.token in the configuration to switch it on.")
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    # Bytes that are not UTF-8 arrive as surrogates; they are compared like any others.
    is_token = hmac.compare_digest(
        credential.encode("utf-8", "surrogateescape"), token.reveal().encode("utf-8", "surrogateescape")
    )
    if scheme.lower() != "bearer" or not is_token:
        return _error_response(401, "invalid_api_key", "Send the admin token as `Authorization: Bearer …`.")
    return None


def _gateway_error_response(error: GatewayError) -> web.Response:
    response = _error_response(error.kind.status, error.kind.code, error.message)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.allowed:
        response.headers["Allow"] = ", ".join(error.allowed)
    return response


def _error_response(status: int, code: str, message: str) -> web.Response:
    return json_response({"error": {"message": message, "code": code}}, status, is_private=False)
