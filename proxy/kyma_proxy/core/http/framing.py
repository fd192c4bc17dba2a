"""Bounds what frames a body: the parser reads it, and nobody gets it."""

from __future__ import annotations

from typing import Final

MAX_BYTES_PER_BODY_BYTE: Final = 8
"""The most bytes of a body in chunks for each of its own; a chunk of one byte takes six."""
