"""Remembers which values of a configuration came from the environment, and shows `${NAME}` in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

_MIN_CHARACTERS: Final = 3
_MIN_PART_CHARACTERS: Final = 5
"""A value that is shorter is replaced where it stands as a word only: `on` is a part of many."""


class Substitutions(msgspec.Struct, frozen=True):
    """The variables that were replaced: the value of each, and the text of each member that names one, by the member's path."""

    values: dict[str, str] = {}
    written: dict[str, str] = {}

    def __repr__(self) -> str:
        """The names alone: a value may be a secret."""
        return f"Substitutions({', '.join(self.values)})"

    def shown(self, text: str) -> str:
        """A text for people, with `${NAME}` wherever a value of a variable stands in it."""
        for name, value in sorted(self.values.items(), key=lambda one: -len(one[1])):
            if text == value:
                return f"${{{name}}}"
            if len(value) >= _MIN_PART_CHARACTERS:
                text = text.replace(value, f"${{{name}}}")
            elif len(value) >= _MIN_CHARACTERS and value in text:
                text = re.sub(rf"(?<![\w-]){re.escape(value)}(?![\w-])", f"${{{name}}}", text)
        return text

    def shown_in(self, document: object) -> object:
        """A JSON document with `${NAME}` wherever a value of a variable stands in one of its texts."""
        if isinstance(document, str):
            return self.shown(document)
        if isinstance(document, Mapping):
            return {self.shown(str(name)): self.shown_in(member) for name, member in document.items()}
        if isinstance(document, list | tuple | set | frozenset):
            return [self.shown_in(one) for one in document]
        return document
