"""Finds names of members that a reader who ignores case would take for others.

Go's `encoding/json` compares names by Unicode's simple folding, so the Kelvin sign counts as a k and the long s as an s; other
libraries compare them in capitals, where the dotless i counts as an i. A provider that reads so would obey `Model` where the
gateway has looked at `model`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Spellings:
    """The names that somebody decides by, and `usual` ones besides; a set of them all makes the usual check short."""

    __slots__ = ("_folded", "_max_characters", "usual")

    def __init__(self, names: Iterable[str], usual: Iterable[str] = ()) -> None:
        self._folded = {_fold(name): name for name in names}
        self.usual = frozenset([*self._folded.values(), *usual])
        """All of them: of names that are among these, none is another's spelling."""
        self._max_characters = max(map(len, self._folded))

    def other(self, written: Collection[str]) -> tuple[str, str] | None:
        """The first written name that is another spelling of one of the names, and that name; None if there is none."""
        for name in written:
            if name not in self.usual and len(name) <= self._max_characters:
                meant = self._folded.get(_fold(name))
                if meant is not None:
                    return name, meant
        return None


def _fold(name: str) -> str:
    """The name without its case. A capital i with a dot becomes an i with a mark above it, which is left out."""
    return name.upper().casefold().replace("\u0307", "")
