"""Encodes a simulated answer in Anthropic's dialect, and counts the tokens of a prompt. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kyma_proxy.simulated.answers import Answer, count_words, iter_texts
from kyma_proxy.simulated.request_fields import Json, required_messages, required_model
from kyma_proxy.simulated.sse import encode_event


def message(answer: Answer, ident: str) -> Json:
    """Returns a `message`."""
    block: Json = {"type": "text", "text": answer.text}
    if answer.tool:
        arguments = {} if answer.is_cut else msgspec.json.decode(answer.text)
        block = {"type": "tool_use", "id": f"toolu_{ident}", "name": answer.tool, "input": arguments}
    usage = {"input_tokens": answer.prompt_tokens, "output_tokens": len(answer.pieces)}
    return _started_message(answer, ident) | {"content": [block], "stop_reason": _stop_reason(answer), "usage": usage}


def message_events(answer: Answer, ident: str) -> Iterator[bytes]:
    """Yields the events of a stream, from `message_start` to `message_stop`."""
    block: Json = {"type": "text", "text": ""}
    deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in answer.pieces]
    if answer.tool:
        block = {"type": "tool_use", "id": f"toolu_{ident}", "name": answer.tool, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in answer.pieces]
    payloads: list[Json] = [
        {"type": "message_start", "message": _started_message(answer, ident)},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": _stop_reason(answer), "stop_sequence": None},
            "usage": {"output_tokens": len(answer.pieces)},
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
        "stop_sequence": None,
        "usage": {"input_tokens": answer.prompt_tokens, "output_tokens": 0},
    }


def _stop_reason(answer: Answer) -> str:
    if answer.is_cut:
        return "max_tokens"
    return "tool_use" if answer.tool else "end_turn"
