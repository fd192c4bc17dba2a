"""Defines what a source takes of a translated request. Each member that is None is left to the source's dialect.

The names are those of a chat request's members. (Contract §3, §12.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Supports(NamedTuple):
    """The parameters that a source takes.

    `reasoning_effort` has the values that it takes, none if it refuses the member; `reasoning_effort_with_tools` those that it
    takes beside tools, if they are others. `stop` is the number of stop sequences, `tool_name` the characters in the name of a
    tool. `response_format` has the types besides `text`. `images` is False if it can't see, whatever its model can.
    `assistant_first` and `assistant_last` are False if it refuses a conversation that begins or ends with the assistant.
    `drop_params` are further members that it refuses.
    """

    reasoning_effort: tuple[str, ...] | None = None
    reasoning_effort_with_tools: tuple[str, ...] | None = None
    stop: int | None = None
    tool_name: int | None = None
    response_format: tuple[str, ...] | None = None
    images: bool | None = None
    assistant_first: bool | None = None
    assistant_last: bool | None = None
    drop_params: tuple[str, ...] | None = None

    def without(self, names: Iterable[str]) -> Supports:
        """The same for a source that refuses these members, too."""
        return self._replace(drop_params=tuple(dict.fromkeys((*(self.drop_params or ()), *names))))


UNSPECIFIED = Supports()
"""All is left to the dialect."""


def innermost(*levels: Supports) -> Supports:
    """The parameters that the levels name together: for each member the last that has it decides."""
    specified = {name: value for level in levels for name, value in level._asdict().items() if value is not None}
    return Supports(**specified)


def of_model(model: str, by_model: Iterable[tuple[str, Supports]], other: Supports) -> Supports:
    """The first of `by_model` that fits a model's name, exactly or as the beginning of it with a `*`; else `other`."""
    for pattern, supports in by_model:
        if pattern == model or (pattern.endswith("*") and model.startswith(pattern[:-1])):
            return supports
    return other


def longest_first(pattern: str) -> tuple[bool, int]:
    """Sorts patterns: exact names, then the longest beginning."""
    return pattern.endswith("*"), -len(pattern)
