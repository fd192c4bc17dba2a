"""Answers of providers, in pieces: each piece ends a phase, so that a fault can be put between any two, or into one."""

from __future__ import annotations

from typing import NamedTuple

from tests.harness import LAST_CHUNK, chunk, head


class Transcript(NamedTuple):
    """An answer. `pieces` are its head, then its body; once the first `commits` of them are out, the caller has bytes of it."""

    dialect: str
    streams: bool
    path: str
    pieces: tuple[bytes, ...]
    commits: int
    mark: bytes
    """Only a complete answer contains this."""

    @property
    def name(self) -> str:
        """For a test's id."""
        return f"{self.dialect} {'stream' if self.streams else 'whole'}"


def _event(name: str, data: str) -> bytes:
    return chunk(f"event: {name}\ndata: {data}\n\n".encode())


def _data(data: str) -> bytes:
    return chunk(f"data: {data}\n\n".encode())


def _whole(body: bytes) -> tuple[bytes, ...]:
    line = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    third = len(body) // 3
    return (line, body[:third], body[third : 2 * third], body[2 * third :])


_CHAT = b'{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":3,"completion_tokens":5}}'
_MESSAGE = b'{"type":"message","content":[{"type":"text","text":"hello"}],"usage":{"input_tokens":3,"output_tokens":5}}'

TRANSCRIPTS = (
    Transcript(
        "openai", True, "/v1/chat/completions",
        (
            head(), _data('{"choices":[{"delta":{"content":"one"}}]}'), _data('{"choices":[{"delta":{"content":"two"}}]}'),
            _data('{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'), _data("[DONE]"), LAST_CHUNK,
        ),
        2, b"[DONE]",
    ),
    Transcript("openai", False, "/v1/chat/completions", _whole(_CHAT), 2, _CHAT),
    Transcript(
        "anthropic", True, "/v1/messages",
        (
            head(), _event("message_start", '{"type":"message_start","message":{"usage":{"input_tokens":3}}}'),
            _event("content_block_delta", '{"type":"content_block_delta","delta":{"type":"text_delta","text":"one"}}'),
            _event("message_delta", '{"type":"message_delta","usage":{"output_tokens":2}}'),
            _event("message_stop", '{"type":"message_stop"}'), LAST_CHUNK,
        ),
        3, b"message_stop",
    ),
    Transcript("anthropic", False, "/v1/messages", _whole(_MESSAGE), 2, _MESSAGE),
)  # fmt: skip
