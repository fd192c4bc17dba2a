"""This file decides whether a source is asked or rests, from how it has answered. (Contract §9.)

A source rests when it fails four times in a row (a refusal, a time-out or a rejected key counts double), when half of its
recent attempts failed, or for as long as it asked for with `Retry-After`. When its rest is over one request probes it: the
probe's success ends the trouble, its failure doubles the rest. Time and chance are arguments; a `CircuitBreaker` outlives reloads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind

OPENS_AT_POINTS: Final = 4
BASE_OPEN_S: Final = 10.0
MAX_OPEN_S: Final = 120.0
MAX_HINT_S: Final = 600.0
RATIO_COUNTS_FROM: Final = 10.0
HALF_LIFE_S: Final = 30.0
STALE_S: Final = 30.0
"""A source that was not asked for so long may have become faster since."""
_OPEN_RATIO: Final = 0.5
_JITTER: Final = 0.2
_WEIGHT_OF_NEW: Final = 0.2
_HOUR_S: Final = 3600.0
_HOURS: Final = 24
_FIRST_BUCKET_S: Final = 0.001
_BUCKET_RATIO: Final = 1.25
_BUCKETS: Final = 64
_MAX_REMEMBERED: Final = 512
_MIN_FOR_A_QUANTILE: Final = 20
_DOUBLE: Final = (401, 402)
_NOBODYS_FAULT: Final = 409
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500


def points_of(failed: AttemptFailure) -> int:
    """How much a failure says against its source: nothing, something, or as much as two."""
    if failed.failure is FailureKind.STATUS:
        return 0 if failed.status == _NOBODYS_FAULT else 2 if failed.status in _DOUBLE else 1
    sudden = (FailureKind.CONNECT, FailureKind.CONNECT_TIMEOUT, FailureKind.FIRST_BYTE_TIMEOUT)
    return 2 if failed.failure in sudden else 1


class HourlyCounts:
    """How many times something went well and how many times not, in each of the last 24 hours."""

    __slots__ = ("_at", "_failed", "_went_well")

    def __init__(self) -> None:
        self._at = 0
        self._went_well = [0] * _HOURS
        self._failed = [0] * _HOURS

    def add(self, now: float, *, went_well: bool) -> None:
        """Count one."""
        self._turn(now)
        (self._went_well if went_well else self._failed)[self._at % _HOURS] += 1

    def take_back(self, now: float) -> None:
        """What went well a while ago did not, after all."""
        self._turn(now)
        at = self._at % _HOURS
        self._went_well[at] = max(0, self._went_well[at] - 1)

    def sums(self, now: float) -> tuple[int, int]:
        """How many went well and how many failed; the hour at hand and the 23 before it."""
        self._turn(now)
        return sum(self._went_well), sum(self._failed)

    def _turn(self, now: float) -> None:
        hour = int(now // _HOUR_S)
        for passed in range(max(self._at + 1, hour - _HOURS + 1), hour + 1):
            self._went_well[passed % _HOURS] = self._failed[passed % _HOURS] = 0
        self._at = max(hour, self._at)


class FirstByteTimes:
    """Times to the first byte: their moving average in seconds, and their recent distribution in 64 steps of a quarter."""

    __slots__ = ("_added_at", "_count", "_counts", "average_s")

    def __init__(self) -> None:
        self.average_s = 0.0
        self._added_at = 0.0
        self._counts = [0] * _BUCKETS
        self._count = 0

    def add(self, now: float, seconds: float) -> None:
        """Take one in; the older ones weigh less with each that is new, and nothing once they are stale."""
        is_stale = not self._count or now - self._added_at > STALE_S
        self.average_s += (seconds - self.average_s) * (1.0 if is_stale else _WEIGHT_OF_NEW)
        self._added_at = now
        steps = math.log(max(seconds, _FIRST_BUCKET_S) / _FIRST_BUCKET_S, _BUCKET_RATIO)
        self._counts[min(int(steps), _BUCKETS - 1)] += 1
        self._count += 1
        if self._count >= _MAX_REMEMBERED:
            self._counts = [count // 2 for count in self._counts]
            self._count = sum(self._counts)

    def quantile_s(self, share: float) -> float | None:
        """The time within which this share came, to the step; None while too few are known."""
        if self._count < _MIN_FOR_A_QUANTILE:
            return None
        left = share * self._count
        for step, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return _FIRST_BUCKET_S * _BUCKET_RATIO ** (step + 1)
        return None


class CircuitBreaker:
    """What is known of one source: it is asked, rests until a moment, or is being probed."""

    __slots__ = (
        "_bad", "_counted_at", "_good", "_is_hinted", "_is_trying", "_points", "_rests", "_streamed", "_until", "_whole",
        "asked_at", "hours", "last",
    )  # fmt: skip

    def __init__(self) -> None:
        self.last: AttemptFailure | None = None
        self.asked_at = 0.0
        self._streamed = FirstByteTimes()
        self._whole = FirstByteTimes()
        self.hours = HourlyCounts()
        self._points = 0
        self._rests = 0
        self._until = 0.0
        self._is_trying = False
        self._is_hinted = False
        self._good = self._bad = 0.0
        self._counted_at = 0.0

    def first_bytes_of(self, *, streams: bool) -> FirstByteTimes:
        """The times to the first byte of streams, or of whole answers, which have theirs when they are done."""
        return self._streamed if streams else self._whole

    @property
    def first_byte_s(self) -> float:
        """The moving average of streams, or of whole answers where nobody streams; 0.0 where nothing is known."""
        return self._streamed.average_s or self._whole.average_s

    def expected_first_byte_s(self, now: float) -> float:
        """The moving average; 0.0 where it is not known, or too old to be believed."""
        return self.first_byte_s if now - self.asked_at <= STALE_S else 0.0

    def admits(self, now: float) -> bool:
        """Whether the source may be asked."""
        return not self._until or (now >= self._until and not self._is_trying)

    def begin(self, now: float) -> bool:
        """An attempt begins, at a source that admits it or is asked anyway; says whether it is a probe."""
        self.asked_at = now
        if not self._until:
            return False
        self._is_trying = True
        return True

    def abandoned(self, *, is_trial: bool) -> None:
        """The attempt told nothing: the caller left, or another source was faster."""
        if is_trial:
            self._is_trying = False

    def answered(
        self, now: float, *, is_trial: bool, streams: bool = True, first_byte_s: float | None = None, is_traffic: bool = True
    ) -> None:
        """The source answered; after a rest only the probe's answer counts, as older ones are about older times."""
        if is_traffic:
            self.hours.add(now, went_well=True)
        if first_byte_s is not None:
            self.first_bytes_of(streams=streams).add(now, first_byte_s)
        if is_trial:
            self._is_trying = False
            self._until = 0.0
            self._good = self._bad = 0.0
            self._rests = 0
        elif self._until:
            return
        self._points = 0
        self._decay(now)
        self._good += 1.0

    def failed(
        self, now: float, failed: AttemptFailure, random: Callable[[], float], *, is_trial: bool, after_answer: bool = False,
        is_traffic: bool = True,
    ) -> None:  # fmt: skip
        """The source failed, perhaps after its answer had begun; it may have to rest now."""
        points = points_of(failed)
        if is_trial:
            self._is_trying = False
        if not points:
            if is_trial:
                self._until = 0.0
            return
        self.last = failed
        if after_answer:
            self.hours.take_back(now)
        if is_traffic and failed.failure is not FailureKind.OVERTAKEN:  # to be slower than another is no outage
            self.hours.add(now, went_well=False)
        self._points += points
        self._decay(now)
        self._bad += 1.0
        hint = failed.retry_after if failed.status == _TOO_MANY or failed.status >= _SERVER_ERROR else None
        if hint is not None:
            self._until = max(self._until, now + min(max(hint, 1), MAX_HINT_S))
            self._is_hinted = True
        elif (is_trial and now >= self._until) or (
            not self._until and (self._points >= OPENS_AT_POINTS or self._fails_often())
        ):
            rest = min(BASE_OPEN_S * 2.0**self._rests, MAX_OPEN_S)
            self._rests = min(self._rests + 1, 10)
            self._until = now + rest * (1.0 + _JITTER * random())
            self._is_hinted = False

    def rests_for(self, now: float) -> float:
        """For how many seconds the source will not be asked; 0.0 where it may be, or is being probed."""
        return max(0.0, self._until - now) if self._until else 0.0

    @property
    def may_bypass(self) -> bool:
        """Whether it rests for what says little of now: it was overtaken, or nobody was there, or the connection was cut.

        Who has been cut again after a rest does more than to be away: each attempt brings it a prompt.
        """
        last = self.last
        if last is None or self._is_hinted:
            return False
        return last.failure in (FailureKind.CONNECT, FailureKind.OVERTAKEN) or (
            last.failure is FailureKind.BROKEN and self._rests <= 1
        )

    @property
    def state(self) -> str:
        """`closed`, `open` (until a trial succeeds) or `half_open` (a trial is in flight)."""
        return "half_open" if self._is_trying else "open" if self._until else "closed"

    @property
    def word(self) -> str:
        """`on`, `resting` (until it was probed with success) or `probing`."""
        return "probing" if self._is_trying else "resting" if self._until else "on"

    def resting(self, now: float, provider: str) -> AttemptFailure:
        """Why the source is not asked, as a failure like any other, which was not tried."""
        last = self.last or AttemptFailure(FailureKind.CONNECT, provider, "failed")
        seconds = math.ceil(self.rests_for(now))
        when = f"rests for {seconds} s" if seconds else "is being tried again"
        return AttemptFailure(
            last.failure, provider, f"{when} after: {last.detail}", last.status, max(seconds, 1), was_tried=False
        )

    def _fails_often(self) -> bool:
        total = self._good + self._bad
        return total >= RATIO_COUNTS_FROM and self._bad >= _OPEN_RATIO * total

    def _decay(self, now: float) -> None:
        left = 0.5 ** ((now - self._counted_at) / HALF_LIFE_S) if now > self._counted_at else 1.0
        self._good *= left
        self._bad *= left
        self._counted_at = now


class BreakerTable:
    """The health of every source, by the source's key, and how requests for each model ended, by the model's id."""

    def __init__(self) -> None:
        self._sources: dict[str, CircuitBreaker] = {}
        self._reached: dict[str, object] = {}
        self._models: dict[str, HourlyCounts] = {}

    def of(self, key: str) -> CircuitBreaker:
        """A source's health; a new one is well."""
        health = self._sources.get(key)
        if health is None:
            health = self._sources[key] = CircuitBreaker()
        return health

    def of_model(self, model: str) -> HourlyCounts:
        """How requests for a model ended."""
        hours = self._models.get(model)
        if hours is None:
            hours = self._models[model] = HourlyCounts()
        return hours

    def retain(self, sources: Iterable[Source], models: Iterable[str]) -> None:
        """Forget all others: what a reload has removed, or now reaches at another address or with another credential."""
        reached: dict[str, object] = {
            one.key: (one.provider.origin, one.provider.base_path, one.provider.header_lines) for one in sources
        }
        known_models = set(models)
        self._sources = {key: health for key, health in self._sources.items() if self._reached.get(key) == reached.get(key, ())}
        self._reached = reached
        self._models = {model: hours for model, hours in self._models.items() if model in known_models}
