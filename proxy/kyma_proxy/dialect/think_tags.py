"""Parts the thoughts in a text from what the model says, as vLLM's reasoning parsers do. (Contract §4.)

Some servers give the thoughts of their models in the text, between tags at its beginning (docs.vllm.ai, "Reasoning Outputs";
MiniMax without `reasoning_split`; Gemini with `include_thoughts`). The rules:

- The thoughts begin with the tag, before which only white space may stand; a tag further on is text.
- They end with the first closing tag. Without one all that follows is a thought: the answer was cut.
- An opening tag among the thoughts is left out, and for each of them a closing tag in the text: some servers write it twice.
- White space after a tag is left out.

A tag may be cut anywhere: what may be the beginning of one is held until more comes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

THOUGHT: Final = "thought"
ANSWER: Final = "answer"


class _Tags(NamedTuple):
    opening: str
    closing: str
    begins_inside: bool = False


PARSERS: Final = {
    "think": _Tags("<think>", "</think>"),
    "thought": _Tags("<thought>", "</thought>"),
    "mm:think": _Tags("<mm:think>", "</mm:think>"),
    "deepseek_r1": _Tags("<think>", "</think>", begins_inside=True),
}
"""The parsers by their names. With that of `deepseek_r1` the opening tag may be missing: the prompt had it (vLLM)."""
_MAX_WHITE: Final = 4096
_VISIBLE: Final = re.compile(r"\S")


class ThinkTags:
    """The state of one answer's text."""

    __slots__ = ("_either", "_held", "_is_stripping", "_nested", "_state", "_tags")

    def __init__(self, parser: str) -> None:
        tags = self._tags = PARSERS[parser]
        self._either = re.compile(f"{re.escape(tags.opening)}|{re.escape(tags.closing)}")
        self._state = ""
        """What the text is at the moment: THOUGHT or ANSWER; "" before anything has shown it."""
        self._held = ""
        self._nested = 0
        self._is_stripping = False

    def feed(self, text: str) -> list[tuple[str, str]]:
        """Return the parts that are known now, each with its kind, THOUGHT or ANSWER."""
        parts: list[tuple[str, str]] = []
        text = self._held + text
        self._held = ""
        position = 0 if self._state else self._begin(text)
        while position < len(text):
            if self._is_stripping:
                visible = _VISIBLE.search(text, position)
                if visible is None:
                    break
                position = visible.start()
                self._is_stripping = False
            position = self._read(text, position, parts)
        return parts

    def flush(self) -> list[tuple[str, str]]:
        """Return what is held, as no more text comes."""
        held, self._held = self._held, ""
        if not held:
            return []
        self._state = self._state or self._first_state
        return [(self._state, held)]

    @property
    def _first_state(self) -> str:
        return THOUGHT if self._tags.begins_inside else ANSWER

    def _begin(self, text: str) -> int:
        """Find out what the text begins with. Return where to read on; all of it is held if nothing shows it yet."""
        opening = self._tags.opening
        visible = _VISIBLE.search(text)
        start = len(text) if visible is None else visible.start()
        if start > _MAX_WHITE:
            self._state = self._first_state
            return 0
        if text.startswith(opening, start):
            self._state = THOUGHT
            self._is_stripping = True
            return start + len(opening)
        if opening.startswith(text[start : start + len(opening)]):
            self._held = text
            return len(text)
        self._state = self._first_state
        return start if self._state == THOUGHT else 0

    def _read(self, text: str, position: int, parts: list[tuple[str, str]]) -> int:
        """Read to the next tag and over it, or to the end, where a part of a tag is held. Return where to read on."""
        opening, closing = self._tags.opening, self._tags.closing
        if self._state == THOUGHT:
            found = self._either.search(text, position)
            at, sought = -1 if found is None else found.start(), [opening, closing]
        else:
            at, sought = (text.find(closing, position), [closing]) if self._nested else (-1, [])
        if at < 0:
            end = max(position, len(text) - max((_overlap(text, tag) for tag in sought), default=0))
            self._emit(parts, text[position:end])
            self._held = text[end:]
            return len(text)
        self._emit(parts, text[position:at])
        if text.startswith(opening, at):
            self._nested += 1
            return at + len(opening)
        if self._state == THOUGHT:
            self._state = ANSWER
            self._is_stripping = True
        else:
            self._nested -= 1
        return at + len(closing)

    def _emit(self, parts: list[tuple[str, str]], text: str) -> None:
        if text:
            parts.append((self._state, text))


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a tag."""
    return next((length for length in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:length])), 0)


def in_tags(thoughts: str, parser: str) -> str:
    """Return thoughts of an earlier turn as their source wrote them, to stand before the text of that turn."""
    tags = PARSERS[parser]
    return f"{tags.opening}\n{thoughts}\n{tags.closing}\n\n"
