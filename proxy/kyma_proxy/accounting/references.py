"""Makes names for charges that no other charge has, of this process or another. (Contract §8.)"""

from __future__ import annotations

from typing import Final

_FIRST: Final = 10**10


class References:
    """Names that begin with `prefix`, which is the process's own; later ones sort after earlier ones."""

    __slots__ = ("_last", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._last = _FIRST  # all have the same number of digits

    def __call__(self) -> str:
        """The next name."""
        self._last += 1
        return f"{self._prefix}-{self._last}"
