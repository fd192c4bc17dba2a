"""Answers of OpenAI's chat completions, whole and as streams, for providers that play them."""

from __future__ import annotations

import json
from typing import Any

from tests.sdk.scripted import Json

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 4}}


def call(ident: str, city: str, **more: Any) -> Json:
    """A call of the tool `get_weather`."""
    function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    return {"id": ident, "type": "function", "function": function} | more


def whole(message: Json, finish: str = "stop") -> Json:
    """A whole answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None} | message,
        "finish_reason": finish,
        "logprobs": None,
    }
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "real-gpt", "choices": [choice]}
    return answer | {"usage": USAGE}


def chunk(delta: Json, finish: str | None = None) -> Json:
    """An event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "real-gpt", "choices": [choice]}


def stream(*deltas: Json, finish: str = "stop") -> list[Any]:
    """The events of a stream."""
    return [*map(chunk, deltas), chunk({}, finish), chunk({}) | {"choices": [], "usage": USAGE}, "[DONE]"]


def piece(index: int, arguments: str, **more: Any) -> Json:
    """A delta with a piece of a tool call's arguments."""
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}} | more]}


TWO_CALLS = stream(  # the arguments of one come between those of the other
    {"role": "assistant", "content": "I look."},
    piece(0, "", id="call_r", type="function", function={"name": "get_weather", "arguments": ""}),
    piece(0, '{"city": '),
    piece(1, "", id="call_o", type="function", function={"name": "get_weather", "arguments": ""}),
    piece(1, '{"city": "Os'),
    piece(0, '"Rome"}'),
    piece(1, 'lo"}'),
    finish="tool_calls",
)
