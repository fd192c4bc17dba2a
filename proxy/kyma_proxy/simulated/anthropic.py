"""This file gives a simulated answer Anthropic's shapes: messages, and the count of their tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kyma_proxy.simulated.reading import Answer, Json, event, messages_of, model_of, texts_of, words_in


def message_whole(answer: Answer, ident: str) -> Json:
    """An Anthropic `message`."""
    block: Json = {"type": "text", "text": answer.text}
    if answer.tool:
        arguments = {} if answer.is_cut else msgspec.json.decode(answer.text)
        block = {"type": "tool_use", "id": f"toolu_{ident}", "name": answer.tool, "input": arguments}
    usage = {"input_tokens": answer.prompt_tokens, "output_tokens": len(answer.pieces)}
    return _message(answer, ident) | {"content": [block], "stop_reason": _stop(answer), "usage": usage}


def message_events(answer: Answer, ident: str) -> Iterator[bytes]:
    """The events of a streamed message, from `message_start` to `message_stop`."""
    block: Json = {"type": "text", "text": ""}
    deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in answer.pieces]
    if answer.tool:
        block = {"type": "tool_use", "id": f"toolu_{ident}", "name": answer.tool, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in answer.pieces]
    payloads: list[Json] = [
        {"type": "message_start", "message": _message(answer, ident)},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": _stop(answer), "stop_sequence": None},
            "usage": {"output_tokens": len(answer.pieces)},
        },
        {"type": "message_stop"},
    ]
    for payload in payloads:
        yield event(payload, str(payload["type"]))


def count_tokens(body: Json) -> Json:
    """What POST /v1/messages/count_tokens says: the words of the prompt. Raises BadRequest."""
    model_of(body)
    return {"input_tokens": words_in(texts_of([body.get("system"), messages_of(body)]))}


def _message(answer: Answer, ident: str) -> Json:
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


def _stop(answer: Answer) -> str:
    if answer.is_cut:
        return "max_tokens"
    return "tool_use" if answer.tool else "end_turn"
