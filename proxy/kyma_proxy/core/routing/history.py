"""Remembers how a source or a model did: times to the first byte, and successes by the hour. (Contract §9.)"""

from __future__ import annotations

import math
from typing import Final

STALE_S: Final = 30.0
"""A source that was not asked for so long may have become faster since."""
_WEIGHT_OF_NEW: Final = 0.2
_FIRST_BUCKET_S: Final = 0.001
_BUCKET_RATIO: Final = 1.25
_BUCKETS_PER_E: Final = 4.481420117724551
"""1 / ln(1.25): compiled, the logarithm of one argument is C's."""
_BUCKETS: Final = 64
_MAX_REMEMBERED: Final = 512
_MIN_FOR_A_QUANTILE: Final = 20
_HOUR_S: Final = 3600.0
_HOURS: Final = 24


def hour_of(now: float) -> int:
    """The hour in which a moment lies, counted since the clock's beginning."""
    return int(now // _HOUR_S)


class HourlyCounts:
    """Successes and failures in each of the last 24 hours."""

    __slots__ = ("_failed", "_hour", "_hour_ends", "_succeeded")

    def __init__(self) -> None:
        self._hour = 0
        self._hour_ends = _HOUR_S
        self._succeeded = [0] * _HOURS
        self._failed = [0] * _HOURS

    def add(self, now: float, *, succeeded: bool) -> None:
        """Count one."""
        self._advance(now)
        (self._succeeded if succeeded else self._failed)[self._hour % _HOURS] += 1

    def take_back(self, now: float) -> None:
        """Remove a success: what was counted as one has failed after all."""
        self._advance(now)
        at = self._hour % _HOURS
        self._succeeded[at] = max(0, self._succeeded[at] - 1)

    def sums(self, now: float) -> tuple[int, int]:
        """Successes and failures of the current hour and the 23 before it."""
        self._advance(now)
        return sum(self._succeeded), sum(self._failed)

    def of_hour(self, hour: int) -> tuple[int, int]:
        """Successes and failures of an hour, which is counted since the clock's beginning; none of one that is long over."""
        if not self._hour - _HOURS < hour <= self._hour:
            return 0, 0
        return self._succeeded[hour % _HOURS], self._failed[hour % _HOURS]

    def add_counted(self, now: float, succeeded: int, failed: int) -> None:
        """Count some that another process has seen; a number is negative where it has taken some back."""
        self._advance(now)
        at = self._hour % _HOURS
        self._succeeded[at] = max(0, self._succeeded[at] + succeeded)
        self._failed[at] = max(0, self._failed[at] + failed)

    def _advance(self, now: float) -> None:
        if now < self._hour_ends:
            return
        hour = int(now // _HOUR_S)
        for passed in range(max(self._hour + 1, hour - _HOURS + 1), hour + 1):
            self._succeeded[passed % _HOURS] = self._failed[passed % _HOURS] = 0
        self._hour = max(hour, self._hour)
        self._hour_ends = (self._hour + 1) * _HOUR_S


class FirstByteTimes:
    """Times to the first byte: their moving average in seconds, and a histogram of the recent ones in 64 steps of a quarter."""

    __slots__ = ("_added_at", "_count", "_counts", "average_s")

    def __init__(self) -> None:
        self.average_s = 0.0
        self._added_at = 0.0
        self._counts = [0] * _BUCKETS
        self._count = 0

    def add(self, now: float, seconds: float) -> None:
        """Add one; older ones weigh less with each new one, and nothing once they are stale."""
        is_stale = not self._count or now - self._added_at > STALE_S
        self.average_s += (seconds - self.average_s) * (1.0 if is_stale else _WEIGHT_OF_NEW)
        self._added_at = now
        steps = math.log(max(seconds, _FIRST_BUCKET_S) / _FIRST_BUCKET_S) * _BUCKETS_PER_E
        self._counts[min(int(steps), _BUCKETS - 1)] += 1
        self._count += 1
        if self._count >= _MAX_REMEMBERED:
            self._counts = [count // 2 for count in self._counts]
            self._count = sum(self._counts)

    def quantile_s(self, share: float) -> float | None:
        """The time within which this share came, to the step; None if too few are known."""
        if self._count < _MIN_FOR_A_QUANTILE:
            return None
        left = share * self._count
        for step, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return _FIRST_BUCKET_S * _BUCKET_RATIO ** (step + 1)
        return None
