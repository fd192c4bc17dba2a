"""Describes Anthropic's dialect: endpoints, errors and error events, usage, health check."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config.snapshot import ErrorRule, Source
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.dialect.answers import anthropic as answers
from kyma_proxy.dialect.contract import Cleaning, Dialect
from kyma_proxy.dialect.token_cleaning import clean_messages, may_hold_tokens
from kyma_proxy.errors import GatewayError, Kind

NAME: Final = "anthropic"
_REFERENCE: Final = "https://docs.anthropic.com/en/api"
_CLEANING: Final = Cleaning(may_hold_tokens, clean_messages)
MESSAGES: Final = Endpoint(
    "messages", NAME, "Answer a conversation.", f"{_REFERENCE}/messages", streams=True, takes_max_tokens=True,
    cleaning=_CLEANING,
)  # fmt: skip
_ERROR_TYPES: Final = MappingProxyType({
    Kind.JOB_LOST: "api_error", Kind.JOB_EXPIRED: "api_error",
})  # fmt: skip
_ERROR_TYPES_OF_STATUS: Final = MappingProxyType({
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "overloaded_error",
    504: "timeout_error",
})  # fmt: skip
_STATUSES: Final = MappingProxyType({Kind.PROVIDER_OVERLOADED: 529})
"""Its client libraries and agents know an overload by this status. (https://docs.claude.com/en/api/errors)"""
_ERROR_SCHEMA: Final = MappingProxyType({
    "type": "object",
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            "required": ["type", "message"],
        },
        "request_id": {"type": ["string", "null"]},
    },
    "required": ["type", "error"],
})  # fmt: skip
_OPERATORS_ERRORS: Final = (
    # https://docs.claude.com/en/api/errors has no code for them: a 400 `invalid_request_error` whose message tells
    ErrorRule(400, "billing_error", means=402),
    ErrorRule(400, None, "your credit balance is too low", means=402),
    ErrorRule(400, None, "you have reached your specified api usage limits", means=402),
    ErrorRule(400, None, "this organization has been disabled", means=403),
    ErrorRule(400, None, "your organization has been disabled", means=403),
    ErrorRule(400, "authentication_error", means=401),
    ErrorRule(413, "rate_limit_error", means=429),
)
_encode: Final = msgspec.json.encode


def error_type(kind: Kind) -> str:
    """Return Anthropic's error type for a kind of error. (Contract §5.)"""
    return _ERROR_TYPES.get(kind) or _ERROR_TYPES_OF_STATUS.get(kind.status, "invalid_request_error")


def _error_body(error: GatewayError, request_id: str) -> bytes:
    detail = {"type": error_type(error.kind), "message": error.message}
    return _encode({"type": "error", "error": detail, "request_id": request_id})


def _error_event(error: GatewayError, request_id: str, between_events: bool) -> bytes:
    # Within an unfinished event, its type becomes `error`, so that a client takes it for an error and not for content.
    start = b"" if between_events else b"\n"
    return start + b"event: error\ndata: " + _error_body(error, request_id) + b"\n\n"


def _health_check(source: Source) -> tuple[bytes, bytes]:
    return MESSAGES.path, _encode({"model": source.model, "max_tokens": 1, "messages": [{"role": "user", "content": "ping"}]})


def _credential(key: str) -> tuple[str, str]:
    return "x-api-key", key


ANTHROPIC: Final = Dialect(
    name=NAME,
    endpoints=(
        MESSAGES,
        Endpoint(
            "messages/count_tokens",
            NAME,
            "Count the tokens of a message.",
            f"{_REFERENCE}/messages-count-tokens",
            key="count_tokens",
            generates=False,
            is_charged=False,
            is_estimated=True,
            cleaning=_CLEANING,
        ),
    ),
    credential=_credential,
    error_body=_error_body,
    error_schema=("AnthropicError", _ERROR_SCHEMA),
    error_event=_error_event,
    read_event=answers.read_event,
    read_whole=answers.read_whole,
    usage_of=answers.usage_of,
    read_whole_at=frozenset(),
    always_ends=True,
    operators_errors=_OPERATORS_ERRORS,
    statuses=_STATUSES,
    health_check=_health_check,
    id_field=b"request-id",
    own_fields=frozenset({b"anthropic-version", b"anthropic-beta", b"anthropic-dangerous-direct-browser-access"}),
    default_fields=((b"anthropic-version", b"2023-06-01"),),
    version_path="/v1",
    whole_list=b"limit=1000",
)
