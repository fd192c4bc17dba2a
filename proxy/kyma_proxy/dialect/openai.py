"""Describes OpenAI's dialect: endpoints, errors and error events, usage, health check."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.sse import ends_between_events, last_data
from kyma_proxy.dialect.usage import counts_from_end
from kyma_proxy.errors import GatewayError, Kind

NAME: Final = "openai"
_REFERENCE: Final = "https://platform.openai.com/docs/api-reference"
CHAT: Final = Endpoint(
    "chat/completions", NAME, "Answer a conversation.", f"{_REFERENCE}/chat/create", key="chat", streams=True,
    is_translated=True, takes_max_tokens=True, takes_stream_options=True, renames_max_tokens=True,
)  # fmt: skip
_ERROR_TYPES: Final = MappingProxyType({
    Kind.INSUFFICIENT_CREDITS: "insufficient_quota",
    Kind.RATE_LIMIT_EXCEEDED: "rate_limit",
    Kind.PROVIDER_RATE_LIMITED: "rate_limit_error",
})  # fmt: skip
_ERROR_SCHEMA: Final = MappingProxyType({
    "type": "object",
    "properties": {"error": {
        "type": "object",
        "properties": {
            "message": {"type": "string"}, "type": {"type": "string"},
            "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]},
        },
        "required": ["message", "type"],
    }},
    "required": ["error"],
})  # fmt: skip
_encode: Final = msgspec.json.encode
_FINAL_RESPONSES_EVENTS: Final = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"')


class _ErrorMembers(msgspec.Struct, gc=False):
    error: msgspec.Raw = msgspec.Raw(b"null")
    type: msgspec.Raw = msgspec.Raw(b"null")


_error_members: Final = msgspec.json.Decoder(_ErrorMembers).decode


def error_type(kind: Kind) -> str:
    """Return OpenAI's error type for a kind of error. (Contract §5.)"""
    return _ERROR_TYPES.get(kind) or ("invalid_request_error" if kind.status < 500 else "server_error")


def _error_object(error: GatewayError) -> dict[str, object]:
    return {"message": error.message, "type": error_type(error.kind), "param": error.param, "code": error.kind.code}


def _error_body(error: GatewayError, request_id: str) -> bytes:
    return _encode({"error": _error_object(error)})


def _error_event(error: GatewayError, request_id: str, between_events: bool) -> bytes:
    event = b"data: " + _encode({"error": _error_object(error)}) + b"\n\n"
    return event if between_events else b"\n\n" + event


def _is_error(data: bytes) -> bool:
    if b'"error"' not in data:
        return False
    try:
        opening = _error_members(data)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return bytes(opening.type) == b'"error"' or bytes(opening.error) != b"null"


def _is_finished(tail: bytes, streams: bool) -> bool:
    if not streams:
        return tail.rstrip().endswith((b"}", b"]"))
    if last_data(tail) == b"[DONE]":
        return True
    # The event's name is at the start of the last and largest event, so the end of that event must be there too.
    return any(name in tail for name in _FINAL_RESPONSES_EVENTS) and ends_between_events(tail)


def _read_usage(opening: bytes, tail: bytes) -> Usage:
    for text in (tail, opening):
        for counts in counts_from_end(text):
            details = counts.prompt_tokens_details or counts.input_tokens_details
            cached = details.cached_tokens if details is not None else counts.prompt_cache_hit_tokens
            prompt = counts.input_tokens if counts.prompt_tokens is None else counts.prompt_tokens
            completion = counts.output_tokens if counts.completion_tokens is None else counts.completion_tokens
            return Usage(prompt, completion, cached, "reported")
    return NO_USAGE


def _health_check(source: Source) -> tuple[bytes, bytes]:
    field = source.max_tokens_field or "max_tokens"
    return CHAT.path, _encode({"model": source.model, field: 1, "messages": [{"role": "user", "content": "ping"}]})


def _credential(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


OPENAI: Final = Dialect(
    name=NAME,
    endpoints=(
        CHAT,
        Endpoint(
            "completions",
            NAME,
            "Complete a text.",
            f"{_REFERENCE}/completions/create",
            streams=True,
            takes_max_tokens=True,
            takes_stream_options=True,
        ),
        Endpoint("responses", NAME, "Create a model response.", f"{_REFERENCE}/responses/create", streams=True),
        Endpoint("embeddings", NAME, "Embed texts.", f"{_REFERENCE}/embeddings/create", generates=False),
    ),
    credential=_credential,
    error_body=_error_body,
    error_schema=("OpenAIError", _ERROR_SCHEMA),
    error_event=_error_event,
    is_error=_is_error,
    is_finished=_is_finished,
    read_usage=_read_usage,
    health_check=_health_check,
    own_fields=frozenset({b"openai-beta", b"openai-organization", b"openai-project"}),
)
