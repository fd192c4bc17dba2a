"""Describes the public API in OpenAPI 3.1.

A relayed endpoint is described as far as the gateway reads it. Everything else passes through, so its provider's reference
describes the rest, and each endpoint has a link to it. The error statuses come from the table of error kinds, and the paths of
the relayed endpoints from theirs; the schemas of the pages are those of `core.catalogue`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

from kyma_proxy import __version__
from kyma_proxy.core.catalogue import Page, make_page
from kyma_proxy.core.http.endpoints import IMAGE_JOBS, Endpoint
from kyma_proxy.dialect.registry import DIALECTS, RELAYED
from kyma_proxy.errors import Kind
from kyma_proxy.web.openapi.accounts import ACCOUNT_OPERATIONS, ACCOUNT_SCHEMAS
from kyma_proxy.web.openapi.images import IMAGE_OPERATIONS, IMAGE_SCHEMAS
from kyma_proxy.web.openapi.schemas import (
    BOOLEAN,
    COUNT,
    COUNT_OR_NULL,
    STRING,
    STRING_OR_NULL,
    USD,
    USD_OR_NULL,
    Json,
    Operation,
    any_of,
    exactly,
    list_of,
    map_of,
    one_of,
    ref,
)


class _Get(NamedTuple):
    """A page that needs no key."""

    operation: str
    summary: str
    schema: Json
    has_etag: bool = True
    media: str = "application/json"
    errors: tuple[int, ...] = ()


_MAX_TOKENS: Final[Json] = {
    "description": "Passed on unchanged, whatever its size; /v1/capabilities says what is inserted if it is absent."
}
_REQUEST_MEMBERS: Final = MappingProxyType[str, Json]({
    "model": {**STRING, "minLength": 1, "maxLength": 256, "description": "A model's id or alias: GET /v1/models."},
    "stream": {"type": ["boolean", "null"], "description": "True for an answer in server-sent events."},
    "max_tokens": _MAX_TOKENS,
    "max_completion_tokens": _MAX_TOKENS,
    "file": {"contentMediaType": "application/octet-stream", "description": "The sound. `model` had better stand before it."},
})  # fmt: skip

_FORM: Final = "multipart/form-data"
_PRICES_OF_VARIANTS: Final[Json] = {
    **map_of(map_of(USD)),
    "description": "The prices of an image by the values of a request's members; `+` stands between several.",
}
_MEDIUM: Final[dict[str, Json]] = {
    "id": STRING, "name": STRING, "modality": {"const": "image"}, "pricing_mode": {"const": "per_image"},
    "usd_per_call": USD_OR_NULL,
}  # fmt: skip
_MODEL: Final = exactly(
    id=STRING, object={"const": "model"}, created=COUNT, owned_by=STRING, name=STRING,
    context_window=COUNT_OR_NULL, max_output_tokens=COUNT_OR_NULL,
    gateway_output_limit={"type": "null"}, max_tokens_passthrough={"const": True},
    supports_tools=BOOLEAN, supports_caching=BOOLEAN,
    input_modalities=list_of(STRING), output_modalities=list_of(STRING),
    release_stage=one_of("stable", "preview", "deprecated"),
    pricing={
        "description": "US dollars, per million tokens or per image; null if the price is not known.",
        "oneOf": [
            exactly(mode={"const": "per_token"}, input=USD_OR_NULL, output=USD_OR_NULL, cached_input=USD_OR_NULL),
            exactly(mode={"const": "per_image"}, per_image_usd=USD_OR_NULL),
            exactly(mode={"const": "per_image"}, per_image_usd=USD_OR_NULL, by=_PRICES_OF_VARIANTS),
            exactly(
                mode=one_of("per_minute", "per_character", "per_request"), per_minute_usd=USD_OR_NULL,
                per_1m_characters_usd=USD_OR_NULL, per_request_usd=USD_OR_NULL,
                input=USD_OR_NULL, output=USD_OR_NULL, cached_input=USD_OR_NULL,
            ),
        ],
    },
)  # fmt: skip
_MODELS: Final = exactly(object={"const": "list"}, data=list_of(ref("Model")), aliases=map_of(STRING))
_PRICING: Final = exactly(
    object={"const": "pricing.catalog"}, text_count=COUNT, media_count=COUNT,
    text=list_of(exactly(
        id=STRING, name=STRING,
        input_per_1m=USD_OR_NULL, output_per_1m=USD_OR_NULL, cached_input_per_1m=USD_OR_NULL,
    )),
    media=list_of(any_of(
        exactly(**_MEDIUM),
        exactly(**_MEDIUM, by=_PRICES_OF_VARIANTS),
        exactly(
            id=STRING, name=STRING, modality=one_of("audio", "text"),
            pricing_mode=one_of("per_minute", "per_character", "per_request"),
            usd_per_call=USD_OR_NULL, usd_per_minute=USD_OR_NULL, usd_per_1m_characters=USD_OR_NULL,
        ),
    )),
)  # fmt: skip
_TIERS: Final = exactly(
    object={"const": "tier.matrix"},
    tiers=list_of(exactly(
        tier=COUNT, name=STRING, min_deposit=USD, rpm=COUNT, per_model_rpm=COUNT, tpm=COUNT,
        max_single_request=COUNT, image_concurrent=COUNT, image_queue_depth_cap=COUNT,
    )),
)  # fmt: skip
_CAPABILITIES: Final = exactly(
    object={"const": "capabilities"}, gateway_output_limit={"type": "null"}, max_tokens_passthrough={"const": True},
    default_max_tokens={"type": ["integer", "null"], "minimum": 1},
    endpoints=list_of(exactly(path=STRING, method=STRING, dialect=ref("Dialect"))), dialects=list_of(ref("Dialect")),
    images=exactly(
        expires_after_s=COUNT, statuses=list_of(STRING), note=STRING,
        models=list_of(exactly(
            id=STRING, sizes={"type": ["array", "null"], "items": STRING}, most_images=COUNT, needs_image_url=BOOLEAN,
            most_input_images=COUNT, extra=list_of(STRING),
        )),
    ),
    streaming=exactly(passthrough={"const": "unchanged"}, note=STRING),
    fallback=exactly(layers=map_of(STRING), headers=list_of(STRING)),
    headers=map_of(STRING),
    privacy=exactly(statement=STRING, logged_fields=list_of(STRING)),
)  # fmt: skip
_AVAILABILITY: Final = one_of("available", "degraded", "unavailable")
_SHARE_OR_NULL: Final[Json] = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_STATUS: Final = exactly(
    object={"const": "status"}, status=_AVAILABILITY,
    models=list_of(any_of(exactly(
        id=STRING, status=_AVAILABILITY, requests_24h=COUNT, availability_24h=_SHARE_OR_NULL,
        sources=list_of(exactly(
            provider=STRING, model=STRING, part=one_of("pool", "reserve"),
            key={
                "type": ["integer", "null"], "minimum": 1,
                "description": "The number of the provider's key, if it has several: each has an entry of its own.",
            },
            status=one_of("available", "unavailable", "off"),
            breaker={
                "type": ["string", "null"], "enum": ["closed", "open", "half_open", None],
                "description": "The state of the source's circuit breaker, of the worst of its endpoints; null if it is off.",
            },
            reason=STRING_OR_NULL, retry_in_s={"type": ["integer", "null"], "minimum": 0},
            first_byte_ms={"type": ["number", "null"], "minimum": 0}, attempts_24h=COUNT, availability_24h=_SHARE_OR_NULL,
            endpoints=list_of(exactly(
                endpoint=STRING,
                status={
                    "enum": ["available", "unavailable", "missing"],
                    "description": "`missing`: the source has answered of late that it lacks the endpoint, or the model there.",
                },
                breaker=one_of("closed", "open", "half_open"),
                reason=STRING_OR_NULL, retry_in_s={"type": ["integer", "null"], "minimum": 0},
                first_byte_ms={"type": ["number", "null"], "minimum": 0}, attempts_24h=COUNT,
                availability_24h=_SHARE_OR_NULL,
            )),
        )),
    ), exactly(id=STRING, status=_AVAILABILITY, availability_24h=_SHARE_OR_NULL))),  # where callers need a key
)  # fmt: skip
_SCHEMAS: Final = MappingProxyType[str, Json]({
    "Model": _MODEL, "Models": _MODELS, "Pricing": _PRICING, "Tiers": _TIERS, "Capabilities": _CAPABILITIES,
    "Status": _STATUS,
    "Dialect": one_of(*sorted({endpoint.dialect for endpoint in RELAYED.values()})),
    "Health": exactly(status=one_of("ok", "draining")),
})  # fmt: skip

_PAGES: Final = MappingProxyType({
    "/v1/models": _Get("models", "All models and aliases.", ref("Models")),
    "/v1/models/{id}": _Get("model", "One model, by its id or an alias.", ref("Model"), errors=(404,)),
    "/v1/capabilities": _Get("capabilities", "What the gateway does to a request.", ref("Capabilities")),
    "/v1/pricing": _Get("pricing", "The price of each model.", ref("Pricing")),
    "/v1/credits/pricing": _Get("credits_pricing", "The price of each model; the same as /v1/pricing.", ref("Pricing")),
    "/v1/limits/tiers": _Get("tiers", "The tiers and their limits.", ref("Tiers")),
    "/v1/openapi.json": _Get("openapi", "This document.", {"type": "object", "required": ["openapi", "info", "paths"]}),
    "/v1/status": _Get(
        "status", "The availability of the models, and of their sources if no key is required.", ref("Status"), has_etag=False
    ),
    "/status": _Get("status_page", "The same as an HTML page.", STRING, has_etag=False, media="text/html"),
    "/v1/health": _Get("health", "200 while the gateway serves, 503 while it drains.", ref("Health"), has_etag=False),
})  # fmt: skip

_HEADERS: Final = MappingProxyType({
    "X-Request-Id": "The caller's id if it is valid, else a new one.",
    "X-Kyma-Model": "The catalogue id of the model that answered.",
    "X-Kyma-Alias": "The alias that the request named, only when it named one.",
    "X-Kyma-Fallback": "`true`, only when a fallback answered.",
    "X-Kyma-Fallback-Layer": "The layer of the source that answered, 1 to 3; only when a fallback did.",
    "X-Kyma-Dropped": "The members of the request that had no place in the dialect of the source that answered.",
    "X-Kyma-Estimated": "`true`, only when a count of tokens is the gateway's own estimate.",
    "Retry-After": "In how many seconds to try again, if that is known.",
    "ETag": "Changes with the document; send it back as If-None-Match.",
})  # fmt: skip


def openapi_page() -> Page:
    """The description of everything that the public listener serves."""
    relayed: dict[str, Json] = {path.decode(): {"post": _relayed(path, endpoint)} for path, endpoint in RELAYED.items()}
    pages: dict[str, Json] = {path: {"get": _page(path, page)} for path, page in _PAGES.items()}
    return make_page({
        "openapi": "3.1.0",
        "info": {"title": "kyma-proxy", "version": __version__, "summary": "A thin, low-latency gateway for LLMs."},
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"x-api-key": []}],
        "paths": relayed | pages | _operations(),
        "components": {
            "schemas": {**_SCHEMAS, **_error_schemas(), **ACCOUNT_SCHEMAS, **IMAGE_SCHEMAS},
            "headers": {name: {"description": text, "schema": STRING} for name, text in _HEADERS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })  # fmt: skip


def _error_schemas() -> dict[str, Json]:
    return {name: dict(schema) for name, schema in (dialect.error_schema for dialect in DIALECTS.values())}


def _relayed(path: bytes, endpoint: Endpoint) -> Json:
    read = {"model"} | ({"stream"} if endpoint.streams else set())
    read |= {"max_tokens", "max_completion_tokens"} if endpoint.takes_max_tokens else set()
    read |= {"file"} if endpoint.takes_form else set()
    members = {name: schema for name, schema in _REQUEST_MEMBERS.items() if name in read}
    answer: Json = {"*/*": {"schema": {}}} if endpoint.answers_opaquely else {"application/json": {"schema": {}}}
    if endpoint.streams:
        answer["text/event-stream"] = {"schema": STRING}
    responses: Json = {
        "200": {
            "description": "The provider's answer, byte for byte.",
            "headers": _headers("X-Request-Id", *(name for name in _HEADERS if name.startswith("X-Kyma-"))),
            "content": answer,
        },
        "4XX": {"description": "The provider's own error, as it came.", "content": {"*/*": {"schema": {}}}},
    }
    return {
        "operationId": endpoint.name.replace("/", "_") + ("_as_cohere" if path == endpoint.also_at else ""),
        "summary": endpoint.summary,
        "tags": [endpoint.dialect],
        "externalDocs": {"url": endpoint.reference, "description": "Everything else that request and answer hold."},
        "requestBody": {"required": True, "content": {_FORM if endpoint.takes_form else "application/json": {"schema": {
            "type": "object", "properties": members, "required": ["model"], "additionalProperties": True,
        }}}},
        "responses": responses | {str(status): _error(status, endpoint.dialect) for status in _statuses(endpoint.dialect)},
    }  # fmt: skip


def _page(path: str, page: _Get) -> Json:
    headers = _headers("X-Request-Id", "ETag") if page.has_etag else _headers("X-Request-Id")
    content = {page.media: {"schema": page.schema}}
    responses: Json = {"200": {"description": page.summary, "headers": headers, "content": content}}
    if page.has_etag:
        responses["304"] = {"description": "The document is still the one that the ETag names.", "headers": headers}
    else:
        responses["503"] = {"description": "The gateway is going down.", "headers": headers, "content": content}
    responses |= {str(status): _error(status, IMAGE_JOBS.dialect) for status in (*_ANY_REQUEST, *page.errors)}
    operation: Json = {"operationId": page.operation, "summary": page.summary, "tags": ["pages"], "security": []}
    if "{id}" in path:
        operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": STRING}]
    return operation | {"responses": responses}


def _operations() -> dict[str, Json]:
    paths: dict[str, Json] = {}
    for operation in (*ACCOUNT_OPERATIONS, *IMAGE_OPERATIONS):
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return paths


def _operation(operation: Operation) -> Json:
    content = {"application/json": {"schema": operation.answer}}
    responses: Json = {
        str(operation.status): {"description": operation.summary, "headers": _headers("X-Request-Id"), "content": content}
    }
    for status, description, schema in operation.answers:
        other = {"application/json": {"schema": schema}}
        responses[str(status)] = {"description": description, "headers": _headers("X-Request-Id"), "content": other}
    statuses = (*_ANY_REQUEST, 404, 503, *operation.errors)
    if not operation.is_public:
        statuses += (401, 403)
    if operation.body is not None:
        statuses += (413,)
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": responses | {str(status): _error(status, IMAGE_JOBS.dialect) for status in sorted({*statuses})},
    }
    if operation.needs_key:
        described["security"] = [] if operation.is_public else [{"bearer": []}, {"x-api-key": []}]
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body is not None:
        content = {"application/json": {"schema": operation.body}}
        if operation.takes_form:
            content[_FORM] = {"schema": {"type": "object", "required": ["model", "prompt"], "additionalProperties": True}}
        described["requestBody"] = {"required": operation.needs_body, "content": content}
    return described


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


_ANY_REQUEST: Final = (400, 414, 431)
"""A request that is no good HTTP, or whose path, query or head is too long."""


def _statuses(dialect: str) -> list[int]:
    """The statuses of all errors that callers of a dialect can get."""
    return sorted({DIALECTS[dialect].status_of(kind) for kind in Kind})


def _error(status: int, dialect: str) -> Json:
    """The gateway's own errors with this status. A relayed error of a provider is in the same dialect."""
    codes = ", ".join(kind.code for kind in Kind if DIALECTS[dialect].status_of(kind) == status)
    headers = _headers("X-Request-Id", "Retry-After") if status in (429, 503, 529) else _headers("X-Request-Id")
    content = {"application/json": {"schema": ref(DIALECTS[dialect].error_schema[0])}}
    return {"description": f"Codes of the gateway's own: {codes}.", "headers": headers, "content": content}
