"""Keeps the last chunks of a stream that passes as it came.

Each that is given ends with an event. They stay framed until somebody reads them, which is seldom more than once a stream.
"""

from __future__ import annotations

from typing import Final

from kyma_proxy.core.http.chunks import joined_body
from kyma_proxy.dialect.answers.last_events import KEPT_BYTES, MORE_EVENTS

_DROP_AFTER_BYTES: Final = 4096


class PassedChunks:
    """Whole chunks, of which the first are dropped while others come. `size` counts the body's bytes in all of them."""

    __slots__ = ("_chunks", "_drop_at", "_framed_bytes", "has_dropped", "opening", "size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.begin()

    def begin(self) -> None:
        """Keep nothing of what has been added."""
        self._chunks.clear()
        self._framed_bytes = self.size = 0
        self._drop_at = _DROP_AFTER_BYTES
        self.has_dropped = False
        self.opening = b""
        """The beginning of what was dropped."""

    def add(self, chunks: bytes, size: int) -> None:
        """Keep these, with `size` bytes of the body."""
        self._chunks.append(chunks)
        self._framed_bytes += len(chunks)
        self.size += size
        if self._framed_bytes > self._drop_at:
            self._drop()

    def _drop(self) -> None:
        chunks = self._chunks
        at = len(chunks)
        fewest = at - MORE_EVENTS
        kept = 0
        while at > 0 and (kept < KEPT_BYTES or at >= fewest):
            at -= 1
            kept += len(chunks[at])
        if at > 0:
            if not self.has_dropped:
                self.has_dropped = True
                self.opening = joined_body(chunks[:at])[:KEPT_BYTES]
            del chunks[:at]
        self._framed_bytes = kept
        self._drop_at = max(_DROP_AFTER_BYTES, 2 * kept)

    def body(self) -> bytes:
        """The part of the body that is kept."""
        return joined_body(self._chunks)
