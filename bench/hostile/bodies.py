"""Builds the hostile request bodies: as large as the gateway allows, and as dense as their kind can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

MAX_BYTES: Final = 32 * 2**20
CHAT: Final = "chat/completions"
MESSAGES: Final = "messages"
_SAME: Final = '{"model":"short","max_tokens":5,'
_OTHER: Final = '{"model":"short-in-anthropic","max_tokens":5,'
_SMALL_MESSAGES: Final = 400_000
_THOUGHTS: Final = 200_000
_THOUGHT: Final = '{"type":"thinking","thinking":"hm","signature":"kyma-unsigned"}'
_HEADROOM_BYTES: Final = 1024

Body = Callable[[], bytes]


def _filled(start: str, piece: str, end: str) -> bytes:
    """The start, as many pieces as there is room for, and the end."""
    room = MAX_BYTES - len(start) - len(end) - _HEADROOM_BYTES
    return (start + piece * (room // len(piece)) + end).encode()


def _members(start: str, names: Iterable[str], size: int) -> bytes:
    parts, length = [start + '"messages":[]'], len(start) + 20
    for name in names:
        length += len(name) + 5
        if length > size:
            break
        parts.append(f'"{name}":0')
    return (",".join(parts) + "}").encode()


def _messages(start: str, count: int) -> bytes:
    pair = '{"role":"user","content":"x"},{"role":"assistant","content":"y"}'
    return (start + '"messages":[' + ",".join([pair] * (count // 2)) + "]}").encode()


def _thoughts() -> bytes:
    blocks = ",".join([_THOUGHT] * _THOUGHTS)
    return f'{_OTHER}"messages":[{{"role":"assistant","content":[{blocks},{{"type":"text","text":"so"}}]}}]}}'.encode()


def _numbered() -> Iterable[str]:
    return (f"x{number}" for number in itertools.count())


def _text(start: str, piece: str) -> bytes:
    return _filled(f'{start}"messages":[{{"role":"user","content":"', piece, '"}]}')


def _nested(size: int) -> bytes:
    depth = (size - 100) // 2
    return (_SAME + '"messages":' + "[" * depth + "]" * depth + "}").encode()


BODIES: Final[Mapping[str, tuple[str, Body]]] = MappingProxyType({
    "3,000,000 members": (CHAT, lambda: _members(_SAME, _numbered(), MAX_BYTES - _HEADROOM_BYTES)),
    "128 KiB of members": (CHAT, lambda: _members(_SAME, _numbered(), 127 * 1024)),
    "nested lists": (CHAT, lambda: _nested(MAX_BYTES - _HEADROOM_BYTES)),
    "128 KiB of nested lists": (CHAT, lambda: _nested(127 * 1024)),
    "one long escaped name": (CHAT, lambda: _filled(_SAME + '"', "\\u0061", '":0,"messages":[]}')),
    "escapes in a text": (CHAT, lambda: _text(_SAME, '\\"')),
    "escapes in a text, translated": (CHAT, lambda: _text(_OTHER, '\\"')),
    "a long text, translated": (CHAT, lambda: _text(_OTHER, "All is well. ")),
    "numbers": (CHAT, lambda: _filled(_SAME + '"messages":[', "1,", "1]}")),
    "one long number": (CHAT, lambda: _filled(_SAME + '"messages":[', "1", "]}")),
    "empty objects": (CHAT, lambda: _filled(_SAME + '"messages":[', "{},", "{}]}")),
    "empty objects, translated": (CHAT, lambda: _filled(_OTHER + '"messages":[', "{},", "{}]}")),
    "400,000 messages, passed": (CHAT, lambda: _messages(_SAME, _SMALL_MESSAGES)),
    "400,000 messages to Anthropic": (CHAT, lambda: _messages(_OTHER, _SMALL_MESSAGES)),
    "400,000 messages to OpenAI": (MESSAGES, lambda: _messages(_SAME, _SMALL_MESSAGES)),
    "200,000 unsigned thoughts": (MESSAGES, _thoughts),
    "no JSON": (CHAT, lambda: _filled(_SAME + '"messages":["', "x", '"')),
})  # fmt: skip
"""For each name, the endpoint and the body."""
