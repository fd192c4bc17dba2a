"""Keeps a bounded number of values, each for a bounded time. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

_T = TypeVar("_T")


class TTLCache(Generic[_T]):
    """At most `max_entries` values, none for longer than `ttl_s`; the oldest is evicted first. `now` is in seconds."""

    __slots__ = ("_entries", "_max_entries", "_ttl_s")

    def __init__(self, max_entries: int, ttl_s: float) -> None:
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._entries: dict[str, tuple[float, _T]] = {}  # from the oldest to the newest

    def put(self, key: str, value: _T, now: float) -> None:
        """Stores a value. One that replaces another keeps the other's age."""
        self._evict_expired(now)
        since = self._entries[key][0] if key in self._entries else now
        self._entries[key] = (since, value)
        if len(self._entries) > self._max_entries:
            del self._entries[next(iter(self._entries))]

    def get(self, key: str, now: float) -> _T | None:
        """Returns the value, or None if it is unknown or was evicted."""
        self._evict_expired(now)
        entry = self._entries.get(key)
        return entry[1] if entry else None

    def _evict_expired(self, now: float) -> None:
        while self._entries and now - self._entries[oldest := next(iter(self._entries))][0] >= self._ttl_s:
            del self._entries[oldest]
