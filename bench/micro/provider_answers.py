"""The inputs of the cases: answers as providers send them."""

from __future__ import annotations

import json
from typing import Final

from kyma_proxy.core.http.inbound import Headers

_ID: Final = "chatcmpl-0123456789abcdef0123456789ab"
_USAGE: Final = {
    "openai": {
        "prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0},
    },
    "anthropic": {
        "input_tokens": 600, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 400, "output_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, "service_tier": "standard",
    },
}  # fmt: skip

ANSWER_HEADERS: Final[Headers] = [
    (b"Date", b"Mon, 06 Jul 2026 09:30:00 GMT"),
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Connection", b"keep-alive"),
    (b"CF-RAY", b"9a1b2c3d4e5f6071-FRA"),
    (b"access-control-expose-headers", b"X-Request-ID"),
    (b"openai-organization", b"org-0123456789abcdef"),
    (b"openai-processing-ms", b"312"),
    (b"openai-project", b"proj_0123456789abcdef"),
    (b"openai-version", b"2020-10-01"),
    (b"x-ratelimit-limit-requests", b"10000"),
    (b"x-ratelimit-limit-tokens", b"30000000"),
    (b"x-ratelimit-remaining-requests", b"9999"),
    (b"x-ratelimit-remaining-tokens", b"29999880"),
    (b"x-ratelimit-reset-requests", b"6ms"),
    (b"x-ratelimit-reset-tokens", b"0s"),
    (b"x-request-id", b"req_0123456789abcdef0123456789abcdef"),
    (b"cf-cache-status", b"DYNAMIC"),
    (b"Set-Cookie", b"__cf_bm=0123456789abcdef; path=/; expires=Mon, 06-Jul-26 10:00:00 GMT; HttpOnly; Secure"),
    (b"Strict-Transport-Security", b"max-age=31536000; includeSubDomains; preload"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Server", b"cloudflare"),
    (b"alt-svc", b'h3=":443"; ma=86400'),
]
"""The header fields of a provider's answer: its own, and those of the CDN in front of it."""


def _event(document: dict[str, object]) -> bytes:
    text = json.dumps(document, separators=(",", ":"))
    name = "" if "object" in document else f"event: {document['type']}\n"
    return f"{name}data: {text}\n\n".encode()


def _openai_chunk(choices: list[object], usage: object) -> bytes:
    chunk = {"id": _ID, "object": "chat.completion.chunk", "created": 1_783_330_200, "model": "large-3.1"}
    return _event(
        chunk | {"service_tier": "default", "system_fingerprint": "fp_0123456789", "choices": choices, "usage": usage}
    )


def stream(dialect: str) -> list[bytes]:
    """The events of a streamed answer of 100 words."""
    usage = _USAGE[dialect]
    if dialect == "openai":
        word = {"index": 0, "delta": {"content": " tide"}, "logprobs": None, "finish_reason": None}
        return [*[_openai_chunk([word], None)] * 100, _openai_chunk([], usage), b"data: [DONE]\n\n"]
    message = {"id": "msg_0123456789", "type": "message", "role": "assistant", "model": "large", "content": [], "usage": usage}
    delta = {"type": "text_delta", "text": " tide"}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        _event({"type": "message_start", "message": message}),
        *[_event({"type": "content_block_delta", "index": 0, "delta": delta})] * 100,
        _event({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 100}}),
        _event({"type": "message_stop"}),
    ]


def whole(dialect: str) -> list[bytes]:
    """An answer of 100 words that is not streamed."""
    text = " tide" * 100
    openai = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    anthropic = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    document = {"id": _ID, **(openai if dialect == "openai" else anthropic), "usage": _USAGE[dialect]}
    return [json.dumps(document, separators=(",", ":")).encode()]
