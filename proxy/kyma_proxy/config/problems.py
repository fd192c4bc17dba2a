"""Defines what is reported about a configuration that can't be used: every mistake, with its place in the file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """One mistake in a configuration file, or a doubt about it: where it is and what to write instead."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in the order of their lines, each once."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.line)


class ConfigError(Exception):
    """A configuration that can't be used; holds every problem found, in the file's order, and what else may be wrong."""

    def __init__(self, problems: list[Problem], warnings: Iterable[Problem] = ()) -> None:
        self.problems = sorted(in_order(problems), key=lambda problem: (problem.line, problem.path))
        self.warnings = tuple(warnings)
        super().__init__("; ".join(str(problem) for problem in self.problems))
