"""Describes Anthropic's dialect: endpoints, errors and error events, usage, health check."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.dialect.contract import Cleaning, Dialect
from kyma_proxy.dialect.sse import ends_between_events
from kyma_proxy.dialect.thinking_signature import may_hold_unsigned, without_unsigned
from kyma_proxy.dialect.usage import Counts, counts_from_end
from kyma_proxy.errors import GatewayError, Kind

NAME: Final = "anthropic"
_REFERENCE: Final = "https://docs.anthropic.com/en/api"
MESSAGES: Final = Endpoint(
    "messages", NAME, "Answer a conversation.", f"{_REFERENCE}/messages", streams=True, is_translated=True,
    takes_max_tokens=True,
)  # fmt: skip
_ERROR_TYPES: Final = MappingProxyType({
    Kind.JOB_LOST: "api_error",
})  # fmt: skip
_ERROR_TYPES_OF_STATUS: Final = MappingProxyType({
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "overloaded_error",
    504: "api_error",
})  # fmt: skip
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
_encode: Final = msgspec.json.encode


class _ErrorMembers(msgspec.Struct, gc=False):
    type: str | None = None


_error_members: Final = msgspec.json.Decoder(_ErrorMembers).decode


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


def _is_error(data: bytes) -> bool:
    try:
        return _error_members(data).type == "error"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _is_finished(tail: bytes, streams: bool) -> bool:
    return b'"message_stop"' in tail[-256:] and ends_between_events(tail) if streams else tail.rstrip().endswith(b"}")


def _read_usage(opening: bytes, tail: bytes) -> Usage:
    """Read the prompt's counts from the first event, or from the last if it repeats them; the output's from the last."""
    first = next(iter([*counts_from_end(opening)][::-1]), None)
    last = next(counts_from_end(tail), None)
    if first is None and last is None:
        return NO_USAGE
    first = first or last or Counts()
    last = last or first
    prompt = last if last.input_tokens is not None else first
    parts = (prompt.input_tokens, prompt.cache_read_input_tokens, prompt.cache_creation_input_tokens)
    total = sum(part or 0 for part in parts) if prompt.input_tokens is not None else None
    return Usage(total, last.output_tokens, prompt.cache_read_input_tokens, "reported")


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
        ),
    ),
    credential=_credential,
    error_body=_error_body,
    error_schema=("AnthropicError", _ERROR_SCHEMA),
    error_event=_error_event,
    is_error=_is_error,
    is_finished=_is_finished,
    read_usage=_read_usage,
    health_check=_health_check,
    id_field=b"request-id",
    own_fields=frozenset({b"anthropic-version", b"anthropic-beta", b"anthropic-dangerous-direct-browser-access"}),
    default_fields=((b"anthropic-version", b"2023-06-01"),),
    cleaning=Cleaning(may_hold_unsigned, without_unsigned),
)
