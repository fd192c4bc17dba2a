"""Declares what a configuration takes from outside its text and the environment: files, and what commands print.

Whoever loads a configuration brings an implementation, so that compiling itself opens no file and starts no process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import NamedTuple


class Command(NamedTuple):
    """A command that prints a key: the program and its arguments, and its seconds. Its output is good for `term_s`."""

    arguments: tuple[str, ...]
    timeout_s: float
    term_s: float


class Unavailable(Exception):
    """A file can't be read, or a command has printed nothing of use. The message never quotes either."""


class OutsideValues(ABC):
    """The values that one load of a configuration takes from outside."""

    @abstractmethod
    def text_of(self, path: str) -> str:
        """The text of a file. Raises Unavailable."""

    @abstractmethod
    def find_tls_problem(self, certificate: str, key: str) -> tuple[str, str] | None:
        """Returns `certificate` or `key` and the problem with it, or None if they can be served."""

    @abstractmethod
    def find_write_problem(self, path: str) -> str | None:
        """Returns the reason why a file can't be written, if this load is made to find out; None if there is none."""

    @abstractmethod
    def run(self, commands: Collection[Command]) -> None:
        """Run these commands side by side, as far as what they have printed is not still good."""

    @abstractmethod
    def output_of(self, command: Command) -> str:
        """The output of a command that has been run. Raises Unavailable."""

    @abstractmethod
    def processors(self) -> int:
        """The number of processors that this process may use."""


class NoOutsideValues(OutsideValues):
    """Reads no file and runs no command."""

    def text_of(self, path: str) -> str:
        raise Unavailable("is not read here")

    def find_tls_problem(self, certificate: str, key: str) -> tuple[str, str] | None:
        """Find nothing."""
        return None

    def find_write_problem(self, path: str) -> str | None:
        """Find nothing."""
        return None

    def run(self, commands: Collection[Command]) -> None:
        """Run nothing."""

    def output_of(self, command: Command) -> str:
        raise Unavailable("is not run here")

    def processors(self) -> int:
        """One, as no other is known here."""
        return 1
