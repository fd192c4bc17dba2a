"""Estimates how long the rest of a run takes, from the time that samples have taken so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

Task = tuple[str, str]
"""The key of a point and the name of a system: what one sample is of."""


class Forecast:
    """The times of the samples that were taken. The first round of each scenario makes the estimate a good one."""

    def __init__(self) -> None:
        self._seconds: dict[Task, list[float]] = {}

    def note(self, task: Task, seconds: float) -> None:
        """Note how long a sample took."""
        self._seconds.setdefault(task, []).append(seconds)

    def seconds_left(self, todo: Mapping[Task, int]) -> float | None:
        """The time that so many samples of each kind will take, or None before the first one was taken.

        A sample takes as long as earlier ones of the same kind; the first one as long as others of its system, else as all.
        """
        if not self._seconds:
            return None
        by_system: dict[str, list[float]] = {}
        for (_, system), seconds in self._seconds.items():
            by_system.setdefault(system, []).append(fmean(seconds))
        overall = fmean(fmean(seconds) for seconds in self._seconds.values())
        expected = {system: fmean(seconds) for system, seconds in by_system.items()}
        return sum(
            count * (fmean(self._seconds[task]) if task in self._seconds else expected.get(task[1], overall))
            for task, count in todo.items()
        )


def in_words(seconds: float | None) -> str:
    """The end of a line of progress: how long it still takes, roughly, or nothing if that is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"; about {max(10, round(seconds, -1)):.0f} s left"
    return f"; about {seconds / 60:.0f} min left"
