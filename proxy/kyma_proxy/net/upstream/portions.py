"""Cuts what was read of an answer into portions, none of which holds the event loop for long.

A read may bring 25,000 events, and a few compressed bytes many million others. Whoever translates or reads them gets a portion
in each turn of the loop, so that every other caller's events are passed on in between.
"""

from __future__ import annotations

from typing import Final

from kyma_proxy.core.http.content_coding import ContentDecoder

MAX_PORTION_BYTES: Final = 16 * 1024
"""The dearest bytes to be translated are events of some ten bytes: this many take about 10 ms."""
_MAX_CODED_BYTES: Final = 4096
"""The most of a compressed body that is decoded at once; `content_coding` bounds what it may grow to."""


class Portions:
    """The portions of the pieces of one body, one after the other."""

    __slots__ = ("_coded", "_coded_at", "_plain", "_plain_at", "decoder", "is_empty")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Expect a new body, and forget the last one."""
        self.decoder: ContentDecoder | None = None
        self.is_empty = True
        """True if everything is taken."""
        self._coded = self._plain = b""
        self._coded_at = self._plain_at = 0

    def put(self, piece: bytes) -> None:
        """Cut this piece, which is not empty."""
        if self.decoder is None:
            self._plain = piece if self.is_empty else self._plain + piece
        else:
            self._coded = piece if self.is_empty else self._coded + piece
        self.is_empty = False

    def take(self) -> bytes:
        """Return the next portion; b"" if a part of a compressed body says nothing alone. Raises ValueError if it is broken."""
        if self.decoder is not None and not self._plain:
            end = self._coded_at + _MAX_CODED_BYTES
            self._plain = self.decoder.feed(self._coded[self._coded_at : end])
            self._coded_at = end
            if end >= len(self._coded):
                self._coded = b""
                self._coded_at = 0
        start = self._plain_at
        self._plain_at = start + MAX_PORTION_BYTES
        portion = self._plain[start : self._plain_at]
        self._forget_taken()
        return portion

    def take_all(self) -> bytes:
        """Return everything that is plain already: its reader takes it as it comes."""
        rest = self._plain[self._plain_at :]
        self._plain_at = len(self._plain)
        self._forget_taken()
        return rest

    def _forget_taken(self) -> None:
        if self._plain_at >= len(self._plain):
            self._plain = b""
            self._plain_at = 0
            self.is_empty = not self._coded
