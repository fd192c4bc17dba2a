"""Defines where a configuration comes from: a file, or a text that the gateway made itself."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final, Protocol

from kyma_proxy.errors import StartError

CATALOGUE: Final = "kyma.yaml"
DEMO: Final = "demo.yaml"
SCHEMA_FILE: Final = "kyma-proxy.schema.json"
SCHEMA_LINE: Final = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
"""The first line of a configuration that has its schema beside it; editors look for it."""


class ConfigFile(Protocol):
    """The part of `Path` that reading a configuration needs. Its `str` is what messages call it."""

    def read_text(self, encoding: str | None = None) -> str:
        """Read the text. Raises OSError."""
        ...

    def stat(self) -> os.stat_result:
        """Tell when it changed last. Raises OSError if that can't be."""
        ...


class BuiltInFile:
    """A configuration that is in no file, and so never changes."""

    def __init__(self, text: str, name: str) -> None:
        """`name` is what messages call it."""
        self._text = text
        self._name = name

    def read_text(self, encoding: str | None = None) -> str:
        """The text."""
        return self._text

    def stat(self) -> os.stat_result:
        """Raises FileNotFoundError: there is nothing to watch."""
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._name)

    def __str__(self) -> str:
        return self._name


def shipped_file(name: str) -> ConfigFile:
    """A configuration that is part of the package. Raises StartError if the package lacks it."""
    from importlib import resources  # noqa: PLC0415  (slow to import, and most commands read no shipped file)

    found = resources.files("kyma_proxy").joinpath("shipped", name)
    try:
        return found if isinstance(found, Path) else BuiltInFile(found.read_text(encoding="utf-8"), name)
    except OSError:
        raise StartError(f"the package has no {name}; install it again") from None


def shipped_text(name: str) -> str:
    """The text of a file that is part of the package. Raises StartError if the package lacks it."""
    try:
        return shipped_file(name).read_text(encoding="utf-8")
    except OSError:
        raise StartError(f"the package has no {name}; install it again") from None
