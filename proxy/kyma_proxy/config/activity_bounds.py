"""Defines how much is kept of the requests that accounts have made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ActivityBounds:
    """The requests of so many days are kept, and of all accounts together so many rows at most."""

    days: int
    rows: int
