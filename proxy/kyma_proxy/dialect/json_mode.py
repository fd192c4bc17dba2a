"""Asks for JSON in the prompt, where a source can't be asked for it otherwise, and takes away what stands around it.

Anthropic promises JSON by a schema only. A forced tool without a schema answers `{}` too often, and newer models refuse a
prefilled answer; so an instruction at the end of the system prompt is what is left. Models that are told so still put a fence
of Markdown around their JSON at times, which a caller who asked for JSON would fail to parse.
"""

from __future__ import annotations

import re
from typing import Final

_INSTRUCTION: Final = (
    "Answer with one JSON object and nothing else: no text before or after it, and no Markdown around it. "
    "This does not apply to calls of tools."
)
_SCHEMA: Final = "The JSON must be valid by this JSON Schema:"
_OPENING: Final = re.compile(r"\s*```[A-Za-z]{0,12}[ \t]*\r?\n")
_MAY_OPEN: Final = re.compile(r"\s*(?:`{0,2}|```[A-Za-z]{0,12}[ \t]*\r?)\Z")
_CLOSING: Final = re.compile(r"\s*```\s*\Z")
_MAY_CLOSE: Final = re.compile(r"\s*`{0,3}\s*\Z")


def instruction(schema: bytes | None = None) -> str:
    """Return the text that asks for JSON, by a schema if there is one."""
    return _INSTRUCTION if schema is None else f"{_INSTRUCTION} {_SCHEMA}\n{schema.decode()}"


class Unfencing:
    """Takes a fence of Markdown away from around a text, while it comes; a text without one passes as it is."""

    __slots__ = ("_held", "_is_fenced", "_is_open")

    def __init__(self) -> None:
        self._held = ""
        self._is_open = True  # nothing of the text is known yet
        self._is_fenced = False

    def feed(self, piece: str) -> str:
        """Return what can be said after this piece."""
        text, self._held = self._held + piece, ""
        if self._is_open:
            if _MAY_OPEN.fullmatch(text):
                self._held = text
                return ""
            self._is_open = False
            opening = _OPENING.match(text)
            if opening is not None:
                self._is_fenced = True
                text = text[opening.end() :]
        if not self._is_fenced:
            return text
        end = _MAY_CLOSE.search(text)
        at = len(text) if end is None else end.start()
        self._held = text[at:]
        return text[:at]

    def flush(self) -> str:
        """Return what is left of the text, which has ended."""
        held, self._held = self._held, ""
        if self._is_fenced and _CLOSING.fullmatch(held):
            return ""
        return held


def unfenced(text: str) -> str:
    """Return a whole text without a fence around it."""
    unfencing = Unfencing()
    return unfencing.feed(text) + unfencing.flush()
