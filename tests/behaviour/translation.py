"""The same answer in each dialect, whole and as a stream, and how callers of each dialect send and read."""

from __future__ import annotations

import json
from typing import Any

from tests.harness import Answer, Client, whole

CHUNKS: list[dict[str, Any]] = [
    {"id": "c1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "one "}}]},
    {"id": "c1", "choices": [{"index": 0, "delta": {"content": "two"}}]},
    {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "c1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
]
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "two"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
]
OPENAI = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in CHUNKS] + [b"data: [DONE]\n\n"]
ANTHROPIC = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in EVENTS]
STREAMS = {"openai": OPENAI, "anthropic": ANTHROPIC}
WHOLE: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    },
    "anthropic": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "x", "content": [{"type": "text", "text": "one two"}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 3},
    },
}  # fmt: skip
WHOLE_ANSWERS = {dialect: whole(json.dumps(document).encode()) for dialect, document in WHOLE.items()}
OTHER = {"openai": "anthropic", "anthropic": "openai"}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


def ask(client: Client, dialect: str, **members: Any) -> None:
    """Send a request in this dialect."""
    document = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]} | members
    client.post(json.dumps(document).encode(), path=PATHS[dialect])


def text_of_stream(dialect: str, body: bytes) -> str:
    """The text of a stream of this dialect."""
    text = ""
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if dialect == "anthropic":
                text += event.get("delta", {}).get("text", "")
            else:
                text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
    return text


def text_of_answer(dialect: str, answer: Answer) -> str:
    """The text of a whole answer of this dialect."""
    document = answer.json
    text: str = document["content"][0]["text"] if dialect == "anthropic" else document["choices"][0]["message"]["content"]
    return text
