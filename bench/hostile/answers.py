"""Builds the hostile answers of a provider: endless, empty, dense, or small only as long as they are compressed."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from bench.script import Dialect

_BLOCK_BYTES: Final = 64 * 1024
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b"
_STREAM: Final = _HEAD % (b"text/event-stream", b"transfer-encoding: chunked\r\n\r\n")
_PACKED: Final = _HEAD % (b"text/event-stream", b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n")
_EVENT: Final = b'data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"one"}}]}\n\n'
_DELTA: Final = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
_FIRST: Final[Mapping[Dialect, bytes]] = MappingProxyType({"openai": _EVENT, "anthropic": _DELTA})
_CALLS: Final = b'{"object":"chat.completion","choices":[{"message":{"tool_calls":[%b{}]},"finish_reason":"stop"}]}'
_LISTS: Final = b'{"object":"chat.completion","choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"x":[%b1]}'
_PREFIX: Final = "hostile-"


class HostileAnswer(NamedTuple):
    """The beginning of an answer, and the bytes that follow again and again; empty if the beginning is all of it."""

    dialect: Dialect
    endpoint: str
    start: bytes
    more: bytes = b""
    is_stream: bool = True


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _flood(dialect: Dialect, endpoint: str, piece: bytes, *, is_packed: bool = False) -> HostileAnswer:
    block, first = piece * (_BLOCK_BYTES // len(piece)), _FIRST[dialect]
    if is_packed:
        return HostileAnswer(dialect, endpoint, _PACKED + _chunk(gzip.compress(first)), _chunk(gzip.compress(block * 128)))
    return HostileAnswer(dialect, endpoint, _STREAM + _chunk(first), _chunk(block))


def _endless(start: bytes, more: bytes) -> HostileAnswer:
    more *= max(1, _BLOCK_BYTES // len(more))
    return HostileAnswer("openai", "chat/completions", _STREAM + _chunk(_EVENT) + start, more)


def _whole(endpoint: str, body: bytes, *, is_packed: bool = False) -> HostileAnswer:
    body = gzip.compress(body) if is_packed else body
    more = b"content-encoding: gzip\r\n" if is_packed else b""
    head = _HEAD % (b"application/json", more + b"content-length: %d\r\n\r\n" % len(body))
    return HostileAnswer("openai", endpoint, head + body, is_stream=False)


def _informational(line: bytes) -> HostileAnswer:
    return HostileAnswer("openai", "chat/completions", b"", line * (_BLOCK_BYTES // len(line)))


ANSWERS: Final[Mapping[str, HostileAnswer]] = MappingProxyType({
    "trailers": _endless(b"0\r\n", b"x: y\r\n"),
    "one-trailer": _endless(b"0\r\nx: ", b"y"),
    "chunk-extension": _endless(b"1;", b"a=b;"),
    "chunk-extensions": _endless(b"", b"1;" + b"a" * 200 + b"\r\nx\r\n"),
    "chunks-of-one-byte": _endless(b"", b"1\r\n\n\r\n"),
    "informational-answers": _informational(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    "head": HostileAnswer("openai", "chat/completions", b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 10_000),
    "comments": _flood("openai", "chat/completions", b":\n"),
    "comments-translated": _flood("openai", "messages", b":\n"),
    "empty-events": _flood("openai", "chat/completions", b"data:{}\n\n"),
    "empty-events-translated": _flood("openai", "messages", b"data:{}\n\n"),
    "blank-lines-translated": _flood("anthropic", "chat/completions", b"\n"),
    "gzip-bomb": _flood("openai", "chat/completions", b":\n", is_packed=True),
    "gzip-bomb-translated": _flood("anthropic", "chat/completions", b"data:{}\n\n", is_packed=True),
    "an-event-without-end": _flood("openai", "messages", b"x"),
    "dense-answer": _whole("chat/completions", _LISTS % (b"{}," * 8_000_000)),
    "dense-answer-translated": _whole("messages", _LISTS % (b"1," * 1_900_000)),
    "calls-translated": _whole("messages", _CALLS % (b"{}," * 16_000)),
    "numbers-translated": _whole("messages", _LISTS % (b"1," * 250_000)),
    "gzip-bomb-whole": _whole("messages", _LISTS % (b" " * 64 * 2**20), is_packed=True),
})  # fmt: skip
"""The answers by name."""


def model_of(name: str) -> str:
    """The model id for which a provider gives this answer."""
    return _PREFIX + name


def of_model(model: str) -> HostileAnswer | None:
    """The answer of a model id, or None."""
    return ANSWERS.get(model.removeprefix(_PREFIX)) if model.startswith(_PREFIX) else None
