"""Remembers which members of translated requests a source has refused, for an hour. (Contract §3.)

Only what the gateway itself has put into a request by translating it is noted, so only translated requests are asked here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

REFUSED_S: Final = 3600.0
"""A source may learn to take a member: then it is sent again."""
MAX_NAMES: Final = 32


class RefusedParams:
    """The members that one source refuses at one endpoint."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, names: Collection[str], now: float) -> None:
        """Remember members that were refused just now. If there are too many, the oldest are forgotten."""
        for name in names:
            self._until.pop(name, None)
            self._until[name] = now + REFUSED_S
        while len(self._until) > MAX_NAMES:
            del self._until[next(iter(self._until))]

    def names(self, now: float) -> tuple[str, ...]:
        """The members that are still to be left out."""
        return tuple([name for name, until in self._until.items() if now < until])
