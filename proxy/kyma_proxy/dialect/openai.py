"""Describes OpenAI's dialect: endpoints, errors and error events, usage, health check."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config.snapshot import ErrorRule, Source
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.dialect.answers import openai as answers
from kyma_proxy.dialect.contract import Dialect
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
_OPERATORS_ERRORS: Final = (
    # https://platform.openai.com/docs/guides/error-codes and reports: a hard limit of the organisation's is a 400
    ErrorRule(400, "billing_hard_limit_reached", means=402),
    ErrorRule(400, "billing_not_active", means=402),
    ErrorRule(400, "insufficient_quota", means=402),
    ErrorRule(400, "invalid_api_key", means=401),
    # https://ai.google.dev/gemini-api/docs/troubleshooting and google.rpc.ErrorInfo
    ErrorRule(400, "API_KEY_INVALID", means=401),
    ErrorRule(400, "API_KEY_EXPIRED", means=401),
    ErrorRule(400, None, "api key not valid", means=401),
    ErrorRule(400, None, "api key expired", means=401),
    ErrorRule(400, None, "user location is not supported", means=403),
    ErrorRule(400, None, "gemini api free tier is not available", means=403),
    # https://docs.x.ai/docs/key-information/debugging: a wrong key is a 400
    ErrorRule(400, None, "incorrect api key provided", means=401),
    # https://help.aliyun.com/zh/model-studio/error-code: an account in arrears
    ErrorRule(400, "Arrearage", means=402),
    # https://docs.bigmodel.cn/cn/faq/api-code: an account in arrears, locked, or out of its package
    ErrorRule(None, "1113", means=402),
    ErrorRule(None, "1112", means=403),
    # https://learn.microsoft.com/azure/ai-foundry/openai: a deployment that has no such operation
    ErrorRule(400, "OperationNotSupported", means=404),
    # https://console.groq.com/docs/errors: the organisation's tokens per minute, as a 413 or 400
    ErrorRule(413, "rate_limit_exceeded", means=429),
    ErrorRule(413, "tokens", means=429),
    ErrorRule(400, "rate_limit_exceeded", means=429),
)
_encode: Final = msgspec.json.encode


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
    read_event=answers.read_event,
    read_whole=answers.read_whole,
    usage_of=answers.usage_of,
    usage_marks=answers.USAGE_MARKS,
    error_marks=answers.ERROR_MARKS,
    always_ends=False,
    operators_errors=_OPERATORS_ERRORS,
    health_check=_health_check,
    own_fields=frozenset({b"openai-beta", b"openai-organization", b"openai-project"}),
)
