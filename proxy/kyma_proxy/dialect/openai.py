"""Describes OpenAI's dialect: endpoints, errors and error events, usage, health check."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config.snapshot import ErrorRule, Source
from kyma_proxy.core.http.endpoints import DOCUMENTS, SOUND_IN, SOUND_OUT, TEXT, Endpoint
from kyma_proxy.dialect.answers import openai as answers
from kyma_proxy.dialect.contract import Cleaning, Dialect
from kyma_proxy.dialect.token_cleaning import clean_responses, may_hold_tokens
from kyma_proxy.errors import GatewayError, Kind

NAME: Final = "openai"
_REFERENCE: Final = "https://platform.openai.com/docs/api-reference"
CHAT: Final = Endpoint(
    "chat/completions", NAME, "Answer a conversation.", f"{_REFERENCE}/chat/create", key="chat", streams=True,
    takes_max_tokens=True, takes_stream_options=True, renames_max_tokens=True,
)  # fmt: skip
RESPONSES: Final = Endpoint(
    "responses", NAME, "Create a model response.", f"{_REFERENCE}/responses/create", streams=True,
    cleaning=Cleaning(may_hold_tokens, clean_responses),
)  # fmt: skip
SPEECH: Final = Endpoint(
    "audio/speech", NAME, "Speak a text.", f"{_REFERENCE}/audio/createSpeech", key="speech", generates=False,
    measure=SOUND_OUT, answers_opaquely=True,
)  # fmt: skip
TRANSCRIPTIONS: Final = Endpoint(
    "audio/transcriptions", NAME, "Write down what is spoken.", f"{_REFERENCE}/audio/createTranscription", key="transcriptions",
    streams=True, generates=False, measure=SOUND_IN, takes_form=True, answers_opaquely=True,
)  # fmt: skip
TRANSLATIONS: Final = Endpoint(
    "audio/translations", NAME, "Write down in English what is spoken.", f"{_REFERENCE}/audio/createTranslation",
    key="translations", generates=False, measure=SOUND_IN, takes_form=True, answers_opaquely=True,
)  # fmt: skip
MODERATIONS: Final = Endpoint(
    "moderations", NAME, "Judge if texts or pictures may be harmful.", f"{_REFERENCE}/moderations/create", generates=False,
    measure=TEXT,
)  # fmt: skip
RERANK: Final = Endpoint(
    "rerank", NAME, "Sort documents by what they have to do with a query.", "https://docs.cohere.com/reference/rerank",
    generates=False, measure=DOCUMENTS, also_at=b"/v2/rerank",
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
    # A code that names the account, its bill or its key never speaks of the request, whatever the status.
    # https://platform.openai.com/docs/guides/error-codes and reports: an organisation's hard limit is a 400
    *(ErrorRule(None, code, means=402) for code in (
        "billing_hard_limit_reached", "billing_not_active", "insufficient_quota", "insufficient_balance",
        "insufficient_credits",
        "budget_exceeded",  # https://docs.litellm.ai/docs/proxy/users
        "Arrearage",  # https://help.aliyun.com/zh/model-studio/error-code: an account in arrears
        "1113",  # https://docs.bigmodel.cn/cn/faq/api-code: the same at Zhipu
    )),
    *(ErrorRule(None, code, means=401) for code in (
        "invalid_api_key", "authentication_error",
        "API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED",  # google.rpc.ErrorInfo
    )),
    *(ErrorRule(None, code, means=403) for code in (
        "account_deactivated", "account_suspended", "organization_restricted", "organization_deactivated", "access_terminated",
        "unsupported_country_region_territory", "1112",
    )),
    *(ErrorRule(None, code, means=429) for code in ("rate_limit_exceeded", "tokens")),  # https://console.groq.com/docs/errors
    # https://learn.microsoft.com/azure/ai-foundry/openai: a deployment that has no such operation
    ErrorRule(400, "OperationNotSupported", means=404),
    # Where there is no code, the beginning of the message tells: https://ai.google.dev/gemini-api/docs/troubleshooting,
    # https://docs.x.ai/docs/key-information/debugging, and reports.
    *(ErrorRule(400, None, words, means=401) for words in (
        "api key not valid", "api key expired", "api key not found", "incorrect api key provided", "invalid api key",
    )),
    *(ErrorRule(400, None, words, means=402) for words in (
        "insufficient balance", "insufficient credit", "your credit balance is too low", "budget has been exceeded",
        "access denied, please make sure your account is in good standing",
    )),
    *(ErrorRule(400, None, words, means=403) for words in (
        "user location is not supported", "gemini api free tier is not available", "this organization has been",
        "your account has been",
    )),
)  # fmt: skip
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


def _responses_error_event(error: GatewayError, request_id: str, between_events: bool) -> bytes:
    """The dialect's `error` event, which also has the `error` for which OpenAI's client libraries look.

    The gateway does not count the events of a stream that it passes on, so the number is 0.
    """
    detail = _error_object(error)
    data = {"type": "error", "sequence_number": 0, "code": error.kind.code, "message": error.message, "param": error.param}
    event = b"event: error\ndata: " + _encode(data | {"error": detail}) + b"\n\n"
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
        RESPONSES,
        Endpoint("embeddings", NAME, "Embed texts.", f"{_REFERENCE}/embeddings/create", generates=False),
        TRANSCRIPTIONS,
        TRANSLATIONS,
        SPEECH,
        MODERATIONS,
        RERANK,
    ),
    credential=_credential,
    error_body=_error_body,
    error_schema=("OpenAIError", _ERROR_SCHEMA),
    error_event=_error_event,
    error_events=MappingProxyType({b"/v1" + RESPONSES.path: _responses_error_event}),
    read_event=answers.read_event,
    read_whole=answers.read_whole,
    usage_of=answers.usage_of,
    read_whole_at=frozenset({"responses"}),  # searches are among its items
    always_ends=False,
    operators_errors=_OPERATORS_ERRORS,
    health_check=_health_check,
    own_fields=frozenset({b"openai-beta", b"openai-organization", b"openai-project"}),
)
