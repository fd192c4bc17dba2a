"""Looks into a JSON document of which not all is at hand.

A name in quotes, the first of which is not escaped, is always a whole string of the document, never part of a longer one. From
there to the document's end the brackets outside of strings say how deep it stands. So a caller's own text, which providers
echo in strings or further down, is never taken for a member of the answer.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kyma_proxy.core.http.body import is_json
from kyma_proxy.dialect.answers.usage import lenient_json, repaired
from kyma_proxy.dialect.sse import BOM

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_COLON: Final = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_VALUE_END: Final = re.compile(rb"[,}\]]")
_USAGE: Final = b'"usage"'
_MAX_NAMES: Final = 64
_TYPE: Final = re.compile(rb'"type"[ ]?:[ ]?"([\w.]{1,64})"')
_MIN_TAIL_BYTES: Final = 4096
_MAX_TAIL_BYTES: Final = 64 * 1024
_MAX_SEARCHED_BYTES: Final = 128 * 1024
_OPENING: Final = (b"{", b"[")


def member_near_end(text: bytes, name: bytes, depth: int = 1) -> Any:
    """The decoded value of the last member with this name at a depth (1 is the top level); None if there is none.

    `text` ends where the document ends. Only the last 64 strings with that name are looked at.
    """
    quoted = b'"%b"' % name
    levels = 0
    end = len(text)
    position = end
    for _ in range(_MAX_NAMES):
        position = text.rfind(quoted, 0, position)
        if position < 0:
            return None
        if _is_escaped(text, position):
            continue
        for token in _TOKEN.finditer(text, position, end):
            mark = token[0]
            if len(mark) == 1:
                levels += -1 if mark in _OPENING else 1
        end = position
        colon = _COLON.match(text, position + len(quoted))
        if levels == depth and colon is not None:
            return _decoded(text, colon.end())
    return None


def usage_of_cut(beginning: bytes, end: bytes) -> dict[str, Any] | None:
    """The usage at the top of an event, or in the response in it, of which only the beginning and the end are at hand."""
    for depth in (1, 2):
        usage = member_near_end(end[-_MAX_SEARCHED_BYTES:], b"usage", depth)
        if isinstance(usage, dict):
            return usage
    return _usage_near_start(beginning)


def _usage_near_start(beginning: bytes) -> dict[str, Any] | None:
    """The usage at the top of an event, or of a whole answer, of which only the beginning is at hand."""
    levels = 0
    for token in _TOKEN.finditer(beginning, max(beginning.find(b"{"), 0)):
        mark = token[0]
        if len(mark) == 1:
            levels += 1 if mark in _OPENING else -1
        elif levels == 1 and mark == _USAGE:
            colon = _COLON.match(beginning, token.end())
            usage = None if colon is None else _decoded(beginning, colon.end())
            if isinstance(usage, dict):
                return usage
    return None


def usage_of_large(pieces: list[bytes], opening: bytes, *, is_cut: bool) -> dict[str, Any] | None:
    """The usage near the end of a large document, with the service tier beside it.

    Only if not all of it is at hand (`is_cut`), it is searched further; `opening` is then its beginning.
    """
    tail = pieces[-1] if len(pieces[-1]) >= _MIN_TAIL_BYTES else b"".join(pieces[-3:])
    usage = member_near_end(tail[-_MAX_TAIL_BYTES:], b"usage")
    if not isinstance(usage, dict) and is_cut:
        usage = member_near_end(b"".join(pieces)[-_MAX_SEARCHED_BYTES:], b"usage") or _usage_near_start(opening)
    if not isinstance(usage, dict):
        return None
    tier = member_near_end(tail[-_MAX_TAIL_BYTES:], b"service_tier")
    return {**usage, "service_tier": tier} if isinstance(tier, str) else usage


def type_alone(beginning: bytes) -> bytes:
    """An event with nothing but the type that stands at this beginning of one."""
    found = _TYPE.search(beginning)
    return b"{}" if found is None else b'{"type":"%b"}' % found[1]


def may_be_json(beginning: bytes) -> bool:
    """True if a document that begins so may be a JSON object."""
    text = beginning.removeprefix(BOM).lstrip()
    return not text or text.startswith(b"{")


def is_document(text: bytes) -> bool:
    """True if these bytes are one whole JSON value, even as some write it."""
    return is_json(text) or repaired(text) is not None


def _is_escaped(text: bytes, position: int) -> bool:
    """True if an odd number of backslashes stands before a position."""
    count = 0
    while position > count and text[position - count - 1] == ord("\\"):
        count += 1
    return count % 2 == 1


def _decoded(text: bytes, start: int) -> Any:
    """The value that begins at a position; None if it can't be read."""
    if not text.startswith((b"{", b"["), start):
        end = _VALUE_END.search(text, start)
        if end is None or text.startswith(b'"', start):
            string = _TOKEN.match(text, start)
            return None if string is None else lenient_json(string[0])
        return lenient_json(text[start : end.start()])
    levels = 0
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if len(mark) == 1:
            levels += 1 if mark in _OPENING else -1
            if not levels:
                return lenient_json(text[start : token.end()])
    return None
