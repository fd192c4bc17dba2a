"""This file describes the public API in OpenAPI 3.1.

The relayed endpoints are described as far as the gateway reads them: it passes everything else on, so the rest of their
requests and answers is their provider's to describe, and each has a link to that. The error statuses are read from the
table of kinds, the paths of the relayed endpoints from theirs; the schemas of the pages are those of `core.catalogue`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

from proxy import __version__
from proxy.core.catalogue import Page, make_page
from proxy.core.endpoints import RELAYED, Endpoint
from proxy.errors import Kind

_Json = dict[str, object]


class _Reference(NamedTuple):
    """What a relayed endpoint does, whether it streams, and where its provider describes it."""

    summary: str
    streams: bool
    url: str


class _Get(NamedTuple):
    """A page that anyone may ask for."""

    operation: str
    summary: str
    schema: _Json
    has_etag: bool = True
    media: str = "application/json"
    errors: tuple[int, ...] = ()


_OPENAI: Final = "https://platform.openai.com/docs/api-reference"
_ANTHROPIC: Final = "https://docs.anthropic.com/en/api"
_REFERENCES: Final = MappingProxyType({
    "chat/completions": _Reference("Answer a conversation.", True, f"{_OPENAI}/chat/create"),
    "completions": _Reference("Complete a text.", True, f"{_OPENAI}/completions/create"),
    "responses": _Reference("Create a model response.", True, f"{_OPENAI}/responses/create"),
    "embeddings": _Reference("Embed texts.", False, f"{_OPENAI}/embeddings/create"),
    "messages": _Reference("Answer a conversation.", True, f"{_ANTHROPIC}/messages"),
    "messages/count_tokens": _Reference("Count the tokens of a message.", False, f"{_ANTHROPIC}/messages-count-tokens"),
})  # fmt: skip

_STRING: Final[_Json] = {"type": "string"}
_STRING_OR_NULL: Final[_Json] = {"type": ["string", "null"]}
_BOOLEAN: Final[_Json] = {"type": "boolean"}
_COUNT: Final[_Json] = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL: Final[_Json] = {"type": ["integer", "null"], "minimum": 0}
_USD: Final[_Json] = {"type": "number", "minimum": 0}
_USD_OR_NULL: Final[_Json] = {"type": ["number", "null"], "minimum": 0}


def _one_of(*values: str) -> _Json:
    return {"type": "string", "enum": list(values)}


def _list(items: _Json) -> _Json:
    return {"type": "array", "items": items}


def _exactly(**members: _Json) -> _Json:
    """An object that has these members, all of them, and no others."""
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def _open(*, optional: _Json | None = None, **members: _Json) -> _Json:
    """An object that has these members, may have the optional ones, and others besides."""
    return {"type": "object", "properties": members | (optional or {}), "required": list(members)}


def _map_of(values: _Json) -> _Json:
    return {"type": "object", "additionalProperties": values}


def _ref(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}


_MAX_TOKENS: Final[_Json] = {
    "description": "Passed on exactly as given, whatever its size; /v1/capabilities says what is inserted without it."
}
_REQUEST_MEMBERS: Final = MappingProxyType[str, _Json]({
    "model": {**_STRING, "minLength": 1, "maxLength": 256, "description": "A model's id or alias: GET /v1/models."},
    "stream": {"type": ["boolean", "null"], "description": "Whether the answer comes as server-sent events."},
    "max_tokens": _MAX_TOKENS,
    "max_completion_tokens": _MAX_TOKENS,
})  # fmt: skip

_MODEL: Final = _exactly(
    id=_STRING, object={"const": "model"}, created=_COUNT, owned_by=_STRING, name=_STRING,
    context_window=_COUNT_OR_NULL, max_output_tokens=_COUNT_OR_NULL,
    gateway_output_limit={"type": "null"}, max_tokens_passthrough={"const": True},
    supports_tools=_BOOLEAN, supports_caching=_BOOLEAN,
    input_modalities=_list(_STRING), output_modalities=_list(_STRING),
    release_stage=_one_of("stable", "preview", "deprecated"),
    pricing={
        "description": "US dollars, per million tokens or per image; null where the price is not known.",
        "oneOf": [
            _exactly(mode={"const": "per_token"}, input=_USD_OR_NULL, output=_USD_OR_NULL, cached_input=_USD_OR_NULL),
            _exactly(mode={"const": "per_image"}, per_image_usd=_USD_OR_NULL),
        ],
    },
)  # fmt: skip
_MODELS: Final = _exactly(object={"const": "list"}, data=_list(_ref("Model")), aliases=_map_of(_STRING))
_PRICING: Final = _exactly(
    object={"const": "pricing.catalog"}, text_count=_COUNT, media_count=_COUNT,
    text=_list(_exactly(
        id=_STRING, name=_STRING,
        input_per_1m=_USD_OR_NULL, output_per_1m=_USD_OR_NULL, cached_input_per_1m=_USD_OR_NULL,
    )),
    media=_list(_exactly(
        id=_STRING, name=_STRING,
        modality={"const": "image"}, pricing_mode={"const": "per_image"}, usd_per_call=_USD_OR_NULL,
    )),
)  # fmt: skip
_TIERS: Final = _exactly(
    object={"const": "tier.matrix"},
    tiers=_list(_exactly(
        tier=_COUNT, name=_STRING, min_deposit=_USD, rpm=_COUNT, per_model_rpm=_COUNT, tpm=_COUNT,
        max_single_request=_COUNT, image_concurrent=_COUNT, image_queue_depth_cap=_COUNT,
    )),
)  # fmt: skip
_CAPABILITIES: Final = _exactly(
    object={"const": "capabilities"}, gateway_output_limit={"type": "null"}, max_tokens_passthrough={"const": True},
    default_max_tokens={"type": ["integer", "null"], "minimum": 1},
    endpoints=_list(_exactly(path=_STRING, method=_STRING, dialect=_ref("Dialect"))), dialects=_list(_ref("Dialect")),
    streaming=_exactly(passthrough={"const": "unchanged"}, note=_STRING),
    fallback=_exactly(layers=_map_of(_STRING), headers=_list(_STRING)),
    headers=_map_of(_STRING),
    privacy=_exactly(statement=_STRING, logged_fields=_list(_STRING)),
)  # fmt: skip
_WELL: Final = _one_of("available", "degraded", "unavailable")
_SHARE_OR_NULL: Final[_Json] = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_STATUS: Final = _exactly(
    object={"const": "status"}, status=_WELL,
    models=_list(_exactly(
        id=_STRING, status=_WELL, requests_24h=_COUNT, availability_24h=_SHARE_OR_NULL,
        sources=_list(_exactly(
            provider=_STRING, model=_STRING, part=_one_of("pool", "reserve"), status=_one_of("on", "resting", "probing", "off"),
            reason=_STRING_OR_NULL, retry_in_s={"type": ["integer", "null"], "minimum": 0},
            first_byte_ms={"type": ["number", "null"], "minimum": 0}, attempts_24h=_COUNT, availability_24h=_SHARE_OR_NULL,
        )),
    )),
)  # fmt: skip
_SCHEMAS: Final = MappingProxyType[str, _Json]({
    "Model": _MODEL, "Models": _MODELS, "Pricing": _PRICING, "Tiers": _TIERS, "Capabilities": _CAPABILITIES,
    "Status": _STATUS,
    "Dialect": _one_of(*sorted({endpoint.dialect for endpoint in RELAYED.values()})),
    "Health": _exactly(status=_one_of("ok", "draining")),
    "OpenAIError": _open(
        error=_open(message=_STRING, type=_STRING, optional={"param": _STRING_OR_NULL, "code": _STRING_OR_NULL}),
    ),
    "AnthropicError": _open(
        type={"const": "error"}, error=_open(type=_STRING, message=_STRING), optional={"request_id": _STRING_OR_NULL},
    ),
})  # fmt: skip
_ERROR_SCHEMAS: Final = MappingProxyType({"openai": "OpenAIError", "anthropic": "AnthropicError"})

_PAGES: Final = MappingProxyType({
    "/v1/models": _Get("models", "All models and aliases.", _ref("Models")),
    "/v1/models/{id}": _Get("model", "One model, by its id or an alias.", _ref("Model"), errors=(404,)),
    "/v1/capabilities": _Get("capabilities", "What the gateway does to a request.", _ref("Capabilities")),
    "/v1/pricing": _Get("pricing", "What each model costs.", _ref("Pricing")),
    "/v1/credits/pricing": _Get("credits_pricing", "What each model costs; the same as /v1/pricing.", _ref("Pricing")),
    "/v1/limits/tiers": _Get("tiers", "The ladder of tiers.", _ref("Tiers")),
    "/v1/openapi.json": _Get("openapi", "This document.", {"type": "object", "required": ["openapi", "info", "paths"]}),
    "/v1/status": _Get("status", "How models and their sources fare.", _ref("Status"), has_etag=False),
    "/status": _Get("status_page", "The same, as a page for people.", _STRING, has_etag=False, media="text/html"),
    "/v1/health": _Get("health", "Whether requests are taken.", _ref("Health"), has_etag=False),
})  # fmt: skip

_HEADERS: Final = MappingProxyType({
    "X-Request-Id": "The caller's id where it is fit to be repeated, else a new one.",
    "X-Kyma-Model": "The catalogue id of the model that answered.",
    "X-Kyma-Alias": "The alias that was asked for, when one was.",
    "X-Kyma-Fallback": "`true`, only when a fallback answered.",
    "X-Kyma-Fallback-Layer": "The layer of the source that answered, 1 to 3; only when a fallback did.",
    "Retry-After": "In how many seconds to try again, where that is known.",
    "ETag": "Changes with the document; send it back as If-None-Match.",
})  # fmt: skip


def openapi_page() -> Page:
    """The description of everything that the public door serves."""
    relayed = {path.decode(): {"post": _relayed(endpoint)} for path, endpoint in RELAYED.items()}
    pages = {path: {"get": _page(path, page)} for path, page in _PAGES.items()}
    return make_page({
        "openapi": "3.1.0",
        "info": {"title": "kyma-proxy", "version": __version__, "summary": "A thin, low-latency gateway for LLMs."},
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"x-api-key": []}],
        "paths": relayed | pages,
        "components": {
            "schemas": dict(_SCHEMAS),
            "headers": {name: {"description": text, "schema": _STRING} for name, text in _HEADERS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })  # fmt: skip


def _relayed(endpoint: Endpoint) -> _Json:
    reference = _REFERENCES[endpoint.name]
    read = {"model"} | ({"stream"} if reference.streams else set())
    read |= {"max_tokens", "max_completion_tokens"} if endpoint.takes_max_tokens else set()
    members = {name: schema for name, schema in _REQUEST_MEMBERS.items() if name in read}
    answer: _Json = {"application/json": {"schema": {}}}
    if reference.streams:
        answer["text/event-stream"] = {"schema": _STRING}
    responses: _Json = {
        "200": {
            "description": "The provider's answer, byte for byte.",
            "headers": _headers("X-Request-Id", *(name for name in _HEADERS if name.startswith("X-Kyma-"))),
            "content": answer,
        },
        "4XX": {"description": "The provider's own error, as it came.", "content": {"*/*": {"schema": {}}}},
    }
    return {
        "operationId": endpoint.name.replace("/", "_"),
        "summary": reference.summary,
        "tags": [endpoint.dialect],
        "externalDocs": {"url": reference.url, "description": "Everything else that request and answer hold."},
        "requestBody": {"required": True, "content": {"application/json": {"schema": {
            "type": "object", "properties": members, "required": ["model"], "additionalProperties": True,
        }}}},
        "responses": responses | {str(status): _error(status, endpoint.dialect) for status in _STATUSES},
    }  # fmt: skip


def _page(path: str, page: _Get) -> _Json:
    headers = _headers("X-Request-Id", "ETag") if page.has_etag else _headers("X-Request-Id")
    content = {page.media: {"schema": page.schema}}
    responses: _Json = {"200": {"description": page.summary, "headers": headers, "content": content}}
    if page.has_etag:
        responses["304"] = {"description": "The document is still the one that the ETag names.", "headers": headers}
    else:
        responses["503"] = {"description": "The gateway is going down.", "headers": headers, "content": content}
    responses |= {str(status): _error(status, "openai") for status in page.errors}
    operation: _Json = {"operationId": page.operation, "summary": page.summary, "tags": ["pages"], "security": []}
    if "{id}" in path:
        operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": _STRING}]
    return operation | {"responses": responses}


def _headers(*names: str) -> _Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


_STATUSES: Final = sorted({kind.status for kind in Kind})


def _error(status: int, dialect: str) -> _Json:
    """The gateway's own errors with this status. A provider's that is relayed is in the same dialect."""
    codes = ", ".join(kind.code for kind in Kind if kind.status == status)
    headers = _headers("X-Request-Id", "Retry-After") if status in (429, 503) else _headers("X-Request-Id")
    content = {"application/json": {"schema": _ref(_ERROR_SCHEMAS[dialect])}}
    return {"description": f"Codes of the gateway's own: {codes}.", "headers": headers, "content": content}
