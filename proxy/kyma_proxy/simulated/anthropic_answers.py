"""Encodes a simulated answer in Anthropic's dialect, and counts the tokens of a prompt. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from kyma_proxy.simulated.answers import Answer, count_words, iter_texts
from kyma_proxy.simulated.request_fields import Json, required_messages, required_model
from kyma_proxy.simulated.sse import encode_event


def message(answer: Answer, ident: str) -> Json:
    """Returns a `message`."""
    block = _text(answer.text)
    if answer.tool:
        block = _tool_use(answer, ident, {} if answer.is_cut else msgspec.json.decode(answer.text))
    usage = _usage(answer, len(answer.pieces)) | _UNKNOWN
    return _started_message(answer, ident) | {"content": [block], "stop_reason": _stop_reason(answer), "usage": usage}


def message_events(answer: Answer, ident: str) -> Iterator[bytes]:
    """Yields the events of a stream, from `message_start` to `message_stop`."""
    block = _text("")
    deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in answer.pieces]
    if answer.tool:
        block = _tool_use(answer, ident, {})
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in answer.pieces]
    payloads: list[Json] = [
        {"type": "message_start", "message": _started_message(answer, ident)},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": _stop_reason(answer)} | _NO_STOP,
            "usage": _usage(answer, len(answer.pieces)),
        },
        {"type": "message_stop"},
    ]
    for payload in payloads:
        yield encode_event(payload, str(payload["type"]))


def count_tokens(body: Json) -> Json:
    """Returns the body of POST /v1/messages/count_tokens: the words of the prompt. Raises BadRequest."""
    required_model(body)
    return {"input_tokens": count_words(iter_texts([body.get("system"), required_messages(body)]))}


def _started_message(answer: Answer, ident: str) -> Json:
    return {
        "id": f"msg_{ident}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "diagnostics": None,
        "usage": _usage(answer, 0) | _UNKNOWN,
    } | _NO_STOP


def _text(text: str) -> Json:
    return {"type": "text", "text": text, "citations": None}


def _tool_use(answer: Answer, ident: str, arguments: object) -> Json:
    caller = {"type": "direct"}
    return {"type": "tool_use", "id": f"toolu_{ident}", "caller": caller, "name": answer.tool, "input": arguments}


def _usage(answer: Answer, output_tokens: int) -> Json:
    return {
        "input_tokens": answer.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
        "output_tokens_details": None,
        "server_tool_use": None,
    }


_UNKNOWN: Final[Json] = {"cache_creation": None, "inference_geo": None, "service_tier": "standard", "speed": None}
_NO_STOP: Final[Json] = {"stop_sequence": None, "stop_details": None, "container": None}


def _stop_reason(answer: Answer) -> str:
    if answer.is_cut:
        return "max_tokens"
    return "tool_use" if answer.tool else "end_turn"
