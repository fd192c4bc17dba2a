"""This file keeps what a later request asks for again: so many things and for so long, and then it forgets. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """At most `most` things, none for longer than `age_s`; the oldest is forgotten first. The clock is the caller's."""

    __slots__ = ("_age_s", "_most", "_things")

    def __init__(self, most: int, age_s: float) -> None:
        self._most = most
        self._age_s = age_s
        self._things: dict[str, tuple[float, _T]] = {}  # from the oldest to the newest

    def put(self, name: str, thing: _T, now: float) -> None:
        """Keeps a thing. What has the name of another takes its place, and is as old as that one."""
        self._forget(now)
        since = self._things[name][0] if name in self._things else now
        self._things[name] = (since, thing)
        if len(self._things) > self._most:
            del self._things[next(iter(self._things))]

    def get(self, name: str, now: float) -> _T | None:
        """The thing of that name, unless it is forgotten."""
        self._forget(now)
        found = self._things.get(name)
        return found[1] if found else None

    def _forget(self, now: float) -> None:
        while self._things and now - self._things[oldest := next(iter(self._things))][0] >= self._age_s:
            del self._things[oldest]
