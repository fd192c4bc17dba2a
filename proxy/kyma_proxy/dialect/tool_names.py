"""Shortens the names of tools that a source would refuse, and finds the caller's names again in the answer. (Contract §3.)

Sources accept letters, digits, `_` and `-`, and 64 characters or more. The name that is sent is always the same for the same
tool, so an earlier call of the conversation and the definition of its tool agree, whichever node translates them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Final

MAX_NAME: Final = 64
"""OpenAI's bound: "Must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64."."""
NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})
_DIGEST_CHARACTERS: Final = 8
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]")


def fit_name(name: str, most: int = MAX_NAME) -> str:
    """Return a name of at most so many characters that every source accepts; a name that fits stays as it is."""
    fit = _UNFIT.sub("_", name) or "tool"
    if fit == name and len(fit) <= most:
        return fit
    digest = sha256(name.encode(errors="replace")).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{fit[: most - _DIGEST_CHARACTERS - 1]}_{digest}"


class ToolNames:
    """The names of one request's tools. `original` has the caller's name for each that was changed."""

    __slots__ = ("_most", "original")

    def __init__(self, most: int) -> None:
        self._most = most
        self.original: dict[str, str] = {}

    def fit(self, name: str) -> str:
        """Return the name for the source."""
        if len(name) <= self._most and _UNFIT.search(name) is None and name:
            return name
        short = fit_name(name, self._most)
        self.original[short] = name
        return short
