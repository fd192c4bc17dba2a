"""Keeps the two ends of an answer's body while it passes, in bounded memory; usage is read from them."""

from __future__ import annotations

from typing import Final


class Sample:
    """The beginning and the end of an answer's body, kept in bounded memory while it passes.

    Providers put usage into the first event, the last ones, or near either end of a whole body.
    """

    __slots__ = ("_held", "_opening", "_pieces")

    EDGE_BYTES: Final = 2048
    """How much of either end is kept at least; the end may hold up to twice as much between trims."""

    def __init__(self) -> None:
        self._opening = b""
        self._pieces: list[bytes] = []
        self._held = 0

    def add(self, piece: bytes) -> None:
        """Add a piece that passed."""
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > 2 * self.EDGE_BYTES:
            self._trim()

    def _trim(self) -> None:
        joined = b"".join(self._pieces)
        if not self._opening:
            self._opening = joined[: self.EDGE_BYTES]
        joined = joined[-self.EDGE_BYTES :]
        self._pieces[:] = (joined,)
        self._held = len(joined)

    @property
    def is_all(self) -> bool:
        """True while nothing has been dropped: both ends are the whole body."""
        return not self._opening

    @property
    def opening(self) -> bytes:
        """The first bytes of the body."""
        return self._opening or b"".join(self._pieces)

    @property
    def tail(self) -> bytes:
        """The last bytes of the body."""
        return b"".join(self._pieces)
