"""Keeps the last chunks of a stream that passes as it came.

Each that is given ends with an event. They stay framed until somebody reads them, which is seldom more than once a stream.
"""

from __future__ import annotations

from kyma_proxy.core.http.chunks import joined_body
from kyma_proxy.dialect.answers.last_events import KEPT_BYTES, MORE_EVENTS


class PassedChunks:
    """Whole chunks, of which the first are dropped while others come. `size` counts the body's bytes in all of them.

    Those that must be kept are one generation; when another one is there, the one before it is dropped. So nothing is searched.
    """

    __slots__ = ("_chunks", "_framed_bytes", "_older", "has_dropped", "opening", "size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.begin()

    def begin(self) -> None:
        """Keep nothing of what has been added."""
        self._chunks.clear()
        self._older: list[bytes] | None = None
        self._framed_bytes = self.size = 0
        self.has_dropped = False
        self.opening = b""
        """The beginning of what was dropped."""

    def add(self, chunks: bytes, size: int) -> None:
        """Keep these, with `size` bytes of the body."""
        self._chunks.append(chunks)
        self._framed_bytes += len(chunks)
        self.size += size
        if self._framed_bytes > KEPT_BYTES and len(self._chunks) > MORE_EVENTS:
            self._drop()

    def _drop(self) -> None:
        older = self._older
        if older is not None and not self.has_dropped:
            self.has_dropped = True
            self.opening = joined_body(older)[:KEPT_BYTES]
        self._older = self._chunks
        self._chunks = []
        self._framed_bytes = 0

    def body(self) -> bytes:
        """The part of the body that is kept."""
        return joined_body(self._chunks if self._older is None else self._older + self._chunks)
