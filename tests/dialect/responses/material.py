"""Requests of Responses, answers of chat completions, and a reader of the events that they become."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from kyma_proxy.dialect.responses import to_chat
from kyma_proxy.dialect.responses.chat_source import ResponsesToChat
from kyma_proxy.dialect.sse import SseParser
from kyma_proxy.dialect.translation import Order, StreamTranslation

Json = dict[str, Any]
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = {
    "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip


def order(request: Json, **members: Any) -> Order:
    """The order to translate a request."""
    body = json.dumps({"model": "public", "input": "hi"} | request).encode()
    return Order(body, "real", "public", None, 4096, True, None, "rid", 1_700_000_000)._replace(**members)


def translation(request: Json, **members: Any) -> ResponsesToChat:
    """The translation of a request."""
    return to_chat(order(request, **members))


def sent(request: Json, **members: Any) -> Json:
    """The chat request that a request becomes."""
    chat: Json = json.loads(translation(request, **members).request.body)
    return chat


def chunk(delta: Json, finish: str | None = None, **members: Any) -> bytes:
    """An event of a stream of chat completions."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]} | members
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def chat_stream(*deltas: Json, finish: str = "stop") -> bytes:
    """A whole stream of chat completions."""
    usage = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
    return b"".join(map(chunk, deltas)) + chunk({}, finish) + usage + b"data: [DONE]\n\n"


def chat_answer(message: Json, finish: str = "stop") -> bytes:
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    return json.dumps({"id": "chatcmpl-1", "choices": [choice], "usage": USAGE}).encode()


def arguments(index: int, text: str, **function: str) -> Json:
    """A delta with a piece of a call's arguments."""
    call: Json = {"index": index, "function": {"arguments": text} | function}
    if function:
        call["id"] = f"call_{index}"
    return {"tool_calls": [call]}


def play(stream: StreamTranslation, *pieces: bytes) -> bytes:
    """What a stream becomes that comes in these pieces."""
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.flush()


def events(written: bytes) -> list[Json]:
    """The events, each checked against the SDK's type, its name and its number."""
    read: list[Json] = []
    for at, event in enumerate(SseParser().feed(written)):
        document = json.loads(event.data)
        assert event.name.decode() == document["type"]
        assert document["sequence_number"] == at
        if document["type"] != "response.failed":  # clients act on codes that the types do not list
            _EVENT.validate_python(document)
        read.append(document)
    return read


def last_response(written: bytes) -> Json:
    """The response in the last event."""
    response: Json = events(written)[-1]["response"]
    Response.model_validate(response)
    return response
