"""Counts failures and successes, and decides from them whether to ask: one circuit, closed, open or half-open. (Contract §9.)

It opens after four points of failures in a row, if half of the recent attempts failed, or for as long as the source asked for
with `Retry-After`. When its time is over it is half-open: one request is let through as a trial. A trial that succeeds closes
it; one that fails opens it for twice as long. Whose failures it counts is its owner's matter; see `breaker`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind

OPENS_AT_POINTS: Final = 4
BASE_OPEN_S: Final = 10.0
MAX_OPEN_S: Final = 120.0
MAX_HINT_S: Final = 600.0
RATIO_COUNTS_FROM: Final = 10.0
HALF_LIFE_S: Final = 30.0
_DECAY_PER_S: Final = 0.6931471805599453 / HALF_LIFE_S
"""ln(2) a half-life: compiled, `math.exp` is C's, and a power is Python's."""
_OPEN_RATIO: Final = 0.5
_JITTER: Final = 0.2
_MAX_DOUBLINGS: Final = 10
_COUNTS_DOUBLE: Final = frozenset({FailureKind.CONNECT, FailureKind.CONNECT_TIMEOUT, FailureKind.FIRST_BYTE_TIMEOUT})
_COUNTS_DOUBLE_STATUS: Final = (401, 402)
_CONNECTION_FAILURES: Final = frozenset({FailureKind.CONNECT, FailureKind.CONNECT_TIMEOUT})
_REJECTED_KEY: Final = 401
_CONFLICT: Final = 409
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500


def points_of(failure: AttemptFailure) -> int:
    """The weight of a failure against its source: 0, 1 or 2."""
    if failure.kind is FailureKind.STATUS:
        return 0 if failure.status == _CONFLICT else 2 if failure.status in _COUNTS_DOUBLE_STATUS else 1
    return 2 if failure.kind in _COUNTS_DOUBLE else 1


def is_source_wide(failure: AttemptFailure) -> bool:
    """True for a failure that no request can provoke, and that says the same of every endpoint of the source."""
    if failure.kind is FailureKind.STATUS:
        return failure.status == _REJECTED_KEY
    return failure.nothing_came or failure.kind in _CONNECTION_FAILURES


class Circuit:
    """One circuit. `points` are those of the failures in a row; `open_until` is 0.0 while it is closed; `last` opened it.

    Whenever it may have opened or closed, it puts `key` into `changed`: whoever tells of it looks there.
    """

    __slots__ = (
        "_failures", "_is_hinted", "_successes", "changed", "counted_at", "is_trying", "key", "last", "open_until",
        "openings", "points",
    )  # fmt: skip

    def __init__(self, key: str = "", changed: set[str] | None = None) -> None:
        self.key = key
        self.changed = changed
        self.last: AttemptFailure | None = None
        self.points = 0
        self.openings = 0
        self.open_until = 0.0
        self.is_trying = False
        self._is_hinted = False
        self._successes = self._failures = 0.0
        self.counted_at = 0.0

    def passes(self, now: float) -> bool:
        """True if a request may pass: the circuit is closed, or it is half-open and nobody is trying."""
        return not self.open_until or (now >= self.open_until and not self.is_trying)

    def begin_trial(self) -> bool:
        """True if the request that passes now is the trial: the circuit is not closed, and nobody else is trying."""
        if not self.open_until or self.is_trying:
            return False
        self.is_trying = True
        return True

    def close(self) -> None:
        """A trial has shown that the source answers: what happened before counts no more."""
        self._note_change()
        self.is_trying = False
        self.open_until = 0.0
        self.points = self.openings = 0
        self._successes = self._failures = 0.0

    def count_success(self, now: float, *, is_trial: bool) -> None:
        """A request succeeded. Until it is closed only a trial's success counts: other answers may be about older times."""
        if is_trial:
            self.close()
        elif self.open_until:
            return
        self.points = 0
        self._decay(now)
        self._successes += 1.0

    def count_failure(
        self, now: float, failure: AttemptFailure, random: Callable[[], float], *, points: int, is_trial: bool,
        is_in_ratio: bool = True, opens_by_points: bool = True,
    ) -> None:  # fmt: skip
        """A request failed; `is_trial`: it was the trial, so the time that the circuit is open doubles.

        `is_in_ratio`: it counts among the recent attempts. Without `opens_by_points` neither points nor `Retry-After` open it.
        """
        self._note_change()
        self.last = failure
        self.points += points
        self._decay(now)
        if is_in_ratio:
            self._failures += 1.0
        may_hint = opens_by_points and (failure.status == _TOO_MANY_REQUESTS or failure.status >= _SERVER_ERROR)
        if failure.retry_after is not None and may_hint:
            self.open_until = max(self.open_until, now + min(max(failure.retry_after, 1), MAX_HINT_S))
            self._is_hinted = True
        elif (is_trial and now >= self.open_until) or (
            not self.open_until
            and ((opens_by_points and self.points >= OPENS_AT_POINTS) or (is_in_ratio and self._fails_often()))
        ):
            open_s = min(BASE_OPEN_S * 2.0**self.openings, MAX_OPEN_S)
            self.openings = min(self.openings + 1, _MAX_DOUBLINGS)
            self.open_until = now + open_s * (1.0 + _JITTER * random())
            self._is_hinted = False

    def adopt(self, open_until: float, openings: int, last: AttemptFailure | None, *, is_hinted: bool) -> None:
        """Another process has found the source open until then, for this failure: it is open here for as long at least."""
        self._note_change()
        if open_until > self.open_until:
            self.open_until, self.openings, self.last, self._is_hinted = open_until, openings, last, is_hinted

    @property
    def is_hinted(self) -> bool:
        """True if the source itself has said for how long it is open."""
        return self._is_hinted

    def _note_change(self) -> None:
        if self.changed is not None:
            self.changed.add(self.key)

    @property
    def may_bypass(self) -> bool:
        """True if the reason for which it is open says little about now: a connection that failed, was cut or was overtaken.

        A source that has been cut again after a trial stays excluded: each attempt sends it a prompt.
        """
        last = self.last
        if last is None or self._is_hinted:
            return False
        if last.kind is FailureKind.BROKEN:
            return self.openings <= 1
        return last.kind is FailureKind.CONNECT or last.kind is FailureKind.OVERTAKEN

    def _fails_often(self) -> bool:
        total = self._successes + self._failures
        return total >= RATIO_COUNTS_FROM and self._failures >= _OPEN_RATIO * total

    def _decay(self, now: float) -> None:
        left = math.exp((self.counted_at - now) * _DECAY_PER_S) if now > self.counted_at else 1.0
        self._successes *= left
        self._failures *= left
        self.counted_at = now


class AccountCircuit(Circuit):
    """The failures of one account at one endpoint, of a streak between two successes.

    `missing_answers` are those that say that the endpoint is missing; while `missing_until` the account is not let through.
    """

    __slots__ = ("missing_answers", "missing_until", "streak")

    def __init__(self, streak: int, key: str = "", changed: set[str] | None = None) -> None:
        super().__init__(key, changed)
        self.streak = streak
        self.missing_until = 0.0
        self.missing_answers = 0
