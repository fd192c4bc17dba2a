"""Finds where the last events of a stream begin, which are kept while it passes: there stands what it used."""

from __future__ import annotations

from typing import Final

from kyma_proxy.dialect.sse import ends_event, last_boundary

KEPT_BYTES: Final = 2048
MORE_EVENTS: Final = 3
"""What follows the end may be large: usage, citations."""


def pieces_before_last_events(pieces: list[bytes]) -> tuple[int, int]:
    """Return how many of these pieces can go, and the size of the others. The last that goes must end with an event."""
    kept = events = 0
    at = len(pieces)
    while at:
        piece = pieces[at - 1]
        if ends_event(piece):
            if kept >= KEPT_BYTES and events > MORE_EVENTS:
                break
            events += 1
        kept += len(piece)
        at -= 1
    return at, kept


def bytes_before_last_events(text: bytes) -> int:
    """Return the end of the last event that can go; not more than 0 if none can."""
    boundary = last_boundary(text, len(text) - KEPT_BYTES)
    for _ in range(MORE_EVENTS):
        if boundary > 0:
            boundary = last_boundary(text, boundary - 1)
    return boundary
