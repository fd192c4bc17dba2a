"""Decides whether a source is asked, from how it has answered: a circuit breaker for each source. (Contract §9.)

A breaker is closed, open or half-open. It opens after four failures in a row (a refused connection, a time-out or a rejected
key counts double), if half of the recent attempts failed, or for as long as the source asked for with `Retry-After`. When its
time is over it is half-open: one request is let through as a trial. A trial that succeeds closes the breaker; one that fails
opens it for twice as long. Time and chance are arguments; a breaker outlives reloads of the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.history import STALE_S, FirstByteTimes, HourlyCounts

OPENS_AT_POINTS: Final = 4
BASE_OPEN_S: Final = 10.0
MAX_OPEN_S: Final = 120.0
MAX_HINT_S: Final = 600.0
RATIO_COUNTS_FROM: Final = 10.0
HALF_LIFE_S: Final = 30.0
CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"
_OPEN_RATIO: Final = 0.5
_JITTER: Final = 0.2
_MAX_DOUBLINGS: Final = 10
_COUNTS_DOUBLE: Final = frozenset({FailureKind.CONNECT, FailureKind.CONNECT_TIMEOUT, FailureKind.FIRST_BYTE_TIMEOUT})
_COUNTS_DOUBLE_STATUS: Final = (401, 402)
_CONFLICT: Final = 409
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500


def points_of(failure: AttemptFailure) -> int:
    """The weight of a failure against its source: 0, 1 or 2."""
    if failure.kind is FailureKind.STATUS:
        return 0 if failure.status == _CONFLICT else 2 if failure.status in _COUNTS_DOUBLE_STATUS else 1
    return 2 if failure.kind in _COUNTS_DOUBLE else 1


class Permit:
    """Permission to ask a source once. The first of `success`, `failure` and `release` counts; later calls do nothing."""

    __slots__ = ("_breaker", "is_trial")

    def __init__(self, breaker: CircuitBreaker, *, is_trial: bool) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self.is_trial = is_trial

    def success(self, now: float, *, streams: bool = True, first_byte_s: float | None = None, is_traffic: bool = True) -> None:
        """The source has begun to answer. `first_byte_s` is the time that this took; a health check is no traffic."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.record_success(
                now, is_trial=self.is_trial, streams=streams, first_byte_s=first_byte_s, is_traffic=is_traffic
            )

    def failure(self, now: float, failure: AttemptFailure, random: Callable[[], float], *, is_traffic: bool = True) -> None:
        """The source has failed; its breaker may open. `random` gives numbers in [0, 1)."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.record_failure(now, failure, random, is_trial=self.is_trial, is_traffic=is_traffic)

    def release(self) -> None:
        """The attempt says nothing about the source: the caller left, say."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None and self.is_trial:
            breaker.end_trial()


class CircuitBreaker:
    """The circuit breaker of one source, with the history that decides its state."""

    __slots__ = (
        "_counted_at", "_failures", "_is_hinted", "_is_trying", "_open_until", "_openings", "_points", "_streamed",
        "_successes", "_whole", "asked_at", "hours", "last",
    )  # fmt: skip

    def __init__(self) -> None:
        self.last: AttemptFailure | None = None
        self.asked_at = 0.0
        self.hours = HourlyCounts()
        self._streamed = FirstByteTimes()
        self._whole = FirstByteTimes()
        self._points = 0
        self._openings = 0
        self._open_until = 0.0  # 0.0 is closed
        self._is_trying = False
        self._is_hinted = False
        self._successes = self._failures = 0.0
        self._counted_at = 0.0

    # ---- asking

    def allows(self, now: float) -> bool:
        """True if the source may be asked: the breaker is closed, or it is half-open and nobody is trying."""
        return not self._open_until or (now >= self._open_until and not self._is_trying)

    def acquire(self, now: float, *, bypass: bool = False) -> Permit | None:
        """Permission to ask the source once, or None if the breaker does not allow it. `bypass` asks although it is open.

        While the breaker is not closed the permit is its trial, unless another trial is under way.
        """
        if not bypass and not self.allows(now):
            return None
        self.asked_at = now
        is_trial = self._open_until > 0.0 and not self._is_trying
        if is_trial:
            self._is_trying = True
        return Permit(self, is_trial=is_trial)

    @property
    def may_bypass(self) -> bool:
        """True if the reason for which it is open says little about now: a connection that failed, was cut or was overtaken.

        A source that has been cut again after a trial stays excluded: each attempt sends it a prompt.
        """
        last = self.last
        if last is None or self._is_hinted:
            return False
        if last.kind is FailureKind.BROKEN:
            return self._openings <= 1
        return last.kind is FailureKind.CONNECT or last.kind is FailureKind.OVERTAKEN

    # ---- verdicts

    def record_success(
        self, now: float, *, is_trial: bool, streams: bool = True, first_byte_s: float | None = None, is_traffic: bool = True
    ) -> None:
        """The source answered. Until it is closed only a trial's success counts: other answers may be about older times."""
        if is_traffic:
            self.hours.add(now, succeeded=True)
        if first_byte_s is not None:
            self.first_bytes_of(streams=streams).add(now, first_byte_s)
        if is_trial:
            self._close()
        elif self._open_until:
            return
        self._points = 0
        self._decay(now)
        self._successes += 1.0

    def record_failure(
        self, now: float, failure: AttemptFailure, random: Callable[[], float], *, is_trial: bool, is_traffic: bool = True
    ) -> None:
        """The source failed before it answered."""
        # To be slower than another is neither an outage nor the end of a trial's backoff.
        is_overtaken = failure.kind is FailureKind.OVERTAKEN
        if is_trial and points_of(failure):
            self._is_trying = False
        elif is_trial:  # the source answers again, though not this request
            self._close()
        self._count_failure(now, failure, random, is_trial=is_trial and not is_overtaken,
                            is_traffic=is_traffic and not is_overtaken)  # fmt: skip

    def record_broken(self, now: float, failure: AttemptFailure, random: Callable[[], float]) -> None:
        """The source broke off an answer that had been counted as a success."""
        if points_of(failure):
            self.hours.take_back(now)
        self._count_failure(now, failure, random, is_trial=False, is_traffic=True)

    def end_trial(self) -> None:
        """The trial ended without a verdict; the next request may try."""
        self._is_trying = False

    def _close(self) -> None:
        """A trial has shown that the source answers: what happened before counts no more."""
        self._is_trying = False
        self._open_until = 0.0
        self._points = self._openings = 0
        self._successes = self._failures = 0.0

    def _count_failure(
        self, now: float, failure: AttemptFailure, random: Callable[[], float], *, is_trial: bool, is_traffic: bool
    ) -> None:
        points = points_of(failure)
        if not points:
            return
        self.last = failure
        if is_traffic:
            self.hours.add(now, succeeded=False)
        self._points += points
        self._decay(now)
        self._failures += 1.0
        may_hint = failure.status == _TOO_MANY_REQUESTS or failure.status >= _SERVER_ERROR
        if failure.retry_after is not None and may_hint:
            self._open_until = max(self._open_until, now + min(max(failure.retry_after, 1), MAX_HINT_S))
            self._is_hinted = True
        elif (is_trial and now >= self._open_until) or (
            not self._open_until and (self._points >= OPENS_AT_POINTS or self._fails_often())
        ):
            open_s = min(BASE_OPEN_S * 2.0**self._openings, MAX_OPEN_S)
            self._openings = min(self._openings + 1, _MAX_DOUBLINGS)
            self._open_until = now + open_s * (1.0 + _JITTER * random())
            self._is_hinted = False

    def _fails_often(self) -> bool:
        total = self._successes + self._failures
        return total >= RATIO_COUNTS_FROM and self._failures >= _OPEN_RATIO * total

    def _decay(self, now: float) -> None:
        left = 0.5 ** ((now - self._counted_at) / HALF_LIFE_S) if now > self._counted_at else 1.0
        self._successes *= left
        self._failures *= left
        self._counted_at = now

    # ---- what is known

    def state(self, now: float) -> str:
        """CLOSED, OPEN, or HALF_OPEN: from the end of its time until a trial closes it or opens it again."""
        return CLOSED if not self._open_until else OPEN if now < self._open_until else HALF_OPEN

    def open_for_s(self, now: float) -> float:
        """For how many seconds the source will not be asked; 0.0 if it may be, or a trial is under way."""
        return max(0.0, self._open_until - now) if self._open_until else 0.0

    def skipped(self, now: float, provider: str) -> AttemptFailure:
        """The failure that explains why the source is skipped; it is like any other, but was not tried."""
        last = self.last or AttemptFailure(FailureKind.CONNECT, provider, "failed")
        seconds = math.ceil(self.open_for_s(now))
        when = f"is skipped for {seconds} s" if seconds else "is being tried again"
        detail = f"{when} after: {last.detail}"
        return AttemptFailure(last.kind, provider, detail, last.status, max(seconds, 1), was_tried=False)

    def first_bytes_of(self, *, streams: bool) -> FirstByteTimes:
        """The times to the first byte of streams, or of whole answers, whose first byte comes when they are done."""
        return self._streamed if streams else self._whole

    @property
    def first_byte_s(self) -> float:
        """The moving average of streams, or of whole answers if nobody streams; 0.0 if nothing is known."""
        return self._streamed.average_s or self._whole.average_s

    def expected_first_byte_s(self, now: float) -> float:
        """The moving average; 0.0 if it is not known, or too old to be believed."""
        return self.first_byte_s if now - self.asked_at <= STALE_S else 0.0


class BreakerTable:
    """The breaker of every source, by the source's key, and how requests for each model ended, by the model's id."""

    def __init__(self) -> None:
        self._breakers: dict[str, CircuitBreaker] = {}
        self._reached: dict[str, object] = {}
        self._models: dict[str, HourlyCounts] = {}

    def of(self, key: str) -> CircuitBreaker:
        """A source's breaker; a new one is closed."""
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = CircuitBreaker()
        return breaker

    def of_model(self, model: str) -> HourlyCounts:
        """The hourly counts of how requests for a model ended."""
        hours = self._models.get(model)
        if hours is None:
            hours = self._models[model] = HourlyCounts()
        return hours

    def retain(self, sources: Iterable[Source], models: Iterable[str]) -> None:
        """Forget all others: what a reload removed, or now reaches at another address or with another credential."""
        reached: dict[str, object] = {
            one.key: (one.provider.origin, one.provider.base_path, one.provider.header_lines) for one in sources
        }
        known_models = set(models)
        self._breakers = {
            key: breaker for key, breaker in self._breakers.items() if self._reached.get(key) == reached.get(key, ())
        }
        self._reached = reached
        self._models = {model: hours for model, hours in self._models.items() if model in known_models}
