"""Remembers which values of a configuration came from the environment, and shows `${NAME}` in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

_MIN_CHARACTERS: Final = 3
_MIN_PART_CHARACTERS: Final = 5
"""A value that is shorter is replaced where it stands as a word only: `on` is a part of many."""


class Substitutions(msgspec.Struct, frozen=True, weakref=True):
    """The variables that were replaced: the value of each, and the text of each member that names one, by the member's path."""

    values: dict[str, str] = {}
    written: dict[str, str] = {}

    def __repr__(self) -> str:
        """The names alone: a value may be a secret."""
        return f"Substitutions({', '.join(self.values)})"

    def shown(self, text: str) -> str:
        """A text for people, with `${NAME}` wherever a value of a variable stands in it."""
        names = {value: name for name, value in self.values.items()}
        if text in names:
            return f"${{{names[text]}}}"
        found = [_pattern(value) for value in sorted(names, key=len, reverse=True) if len(value) >= _MIN_CHARACTERS]
        if not found:
            return text
        # All at once: a value may be a part of the name that was just written for another.
        return re.sub("|".join(found), lambda match: f"${{{names[match[0]]}}}", text)

    def shown_in(self, document: object) -> object:
        """A JSON document with `${NAME}` wherever a value of a variable stands in one of its texts."""
        if isinstance(document, str):
            return self.shown(document)
        if isinstance(document, Mapping):
            return {self.shown(str(name)): self.shown_in(member) for name, member in document.items()}
        if isinstance(document, list | tuple | set | frozenset):
            return [self.shown_in(one) for one in document]
        return document


def _pattern(value: str) -> str:
    escaped = re.escape(value)
    return escaped if len(value) >= _MIN_PART_CHARACTERS else rf"(?<![\w-]){escaped}(?![\w-])"
