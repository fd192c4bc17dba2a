"""Decides whether a source is asked at an endpoint, from how it has answered there: its circuit breaker. (Contract §9.)

Whose failure it was decides whom it keeps from asking:

- A connection that failed and a key that was rejected are nobody's but the source's: they count for all its endpoints.
- Everything else counts for its endpoint alone. A caller could have provoked it (a prompt that the source can't bear, or
  refuses), so with accounts it counts for the account alone, and for all only with another account's in the same streak.
- A 404, 405 or 501 says that the source lacks the endpoint, or the model there. It is no failure: the source is left out there
  for MISSING_S, unless it has answered at this endpoint within the last day; then a caller has asked for what there is not.
  A dialect's main endpoint is there by its definition, so there it takes MISSING_AT_MAIN such answers in a row.

Without accounts all callers are one. Time and chance are arguments; a breaker outlives reloads of the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from kyma_proxy.core.routing.circuit import AccountCircuit, Circuit, is_source_wide, points_of
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.history import STALE_S, FirstByteTimes, HourlyCounts
from kyma_proxy.core.routing.refused_params import RefusedParams

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"
MISSING_S: Final = 300.0
"""For how long a source is left out at an endpoint that it lacks."""
MISSING_AT_MAIN: Final = 4
MAX_ACCOUNTS: Final = 64
"""So many accounts have a circuit at one endpoint of a source; those that failed last."""
_IDLE_S: Final = 300.0
"""A closed circuit that counted nothing for so long has nothing left to say."""


class SourceCircuit(Circuit):
    """The failures that all endpoints of one source share: connections and rejected keys. `endpoints` has their breakers."""

    __slots__ = ("endpoints",)

    def __init__(self, key: str = "", changed: set[str] | None = None) -> None:
        super().__init__(key, changed)
        self.endpoints: dict[str, CircuitBreaker] = {}

    @property
    def asked_at(self) -> float:
        """When the source was last asked, at any endpoint; 0.0 if never."""
        return max([breaker.asked_at for breaker in self.endpoints.values()], default=0.0)


_NO_TRIAL: Final[tuple[Circuit, ...]] = ()


class Permit:
    """Permission to ask a source once. The first of `success`, `failure` and `release` counts; later calls do nothing.

    `account` is who asks, None if there are no accounts; `trials` are the circuits for which it is the trial.
    """

    __slots__ = ("_breaker", "account", "trials")

    def __init__(self, breaker: CircuitBreaker, account: str | None, trials: tuple[Circuit, ...]) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self.account = account
        self.trials = trials

    def success(self, now: float, *, streams: bool = True, first_byte_s: float | None = None, is_traffic: bool = True) -> None:
        """The source has begun to answer. `first_byte_s` is the time that this took; a health check is no traffic."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.record_success(
                now, account=self.account, trials=self.trials, streams=streams, first_byte_s=first_byte_s,
                is_traffic=is_traffic,
            )  # fmt: skip

    def failure(self, now: float, failure: AttemptFailure, random: Callable[[], float], *, is_traffic: bool = True) -> None:
        """The source has failed; its breaker may open. `random` gives numbers in [0, 1)."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.record_failure(
                now, failure, random, account=self.account, trials=self.trials, is_traffic=is_traffic
            )  # fmt: skip

    def missing(self, now: float, status: int) -> None:
        """The source has said, with this status, that it lacks the endpoint, or the model there."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.record_missing(now, status, account=self.account, trials=self.trials)

    def release(self) -> None:
        """The attempt says nothing about the source: the caller left, say. The next request may try."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            for circuit in self.trials:
                circuit.is_trying = False


class CircuitBreaker(Circuit):
    """The circuit breaker of one source at one endpoint, with the history that decides its state.

    It is itself the circuit of all callers; beside it count the one of the whole source and those of single accounts. While
    `_is_clear` nothing has failed since the last success, so nothing else need be looked at.
    """

    __slots__ = (
        "_accounts", "_culprit", "_failed_trial_of", "_is_clear", "_is_shared", "_last_culprit", "_missing_answers",
        "_missing_for", "_source", "_streak", "_streamed", "_whole", "asked_at", "has_siblings",
        "hours", "missing_at", "missing_status", "missing_until", "refused", "seen_missing_until",
    )  # fmt: skip

    def __init__(self, source: SourceCircuit | None = None, *, is_main: bool = False) -> None:
        self._source = SourceCircuit() if source is None else source
        super().__init__(self._source.key, self._source.changed)
        self.asked_at = 0.0
        self.has_siblings = False  # as Source has them; the plan sees it here at no cost
        self.hours = HourlyCounts()
        self.refused: RefusedParams | None = None  # kept here as it is forgotten with the source
        self._streamed, self._whole = FirstByteTimes(), FirstByteTimes()
        self._accounts: dict[str, AccountCircuit] = {}
        self._is_clear = not (self._source.points or self._source.open_until)
        # of the streak of failures since the last success
        self._streak, self._is_shared = 0, False
        self._culprit: str | None = None
        self._last_culprit: str | None = None  # of any streak
        self._failed_trial_of: str | None = None  # since it is half-open
        # the endpoint that the source lacks
        self.missing_status = 0
        self.missing_until = 0.0  # for everybody
        self.seen_missing_until = 0.0  # for somebody
        self._missing_for: str | None = None
        self._missing_answers, self.missing_at = 0, MISSING_AT_MAIN if is_main else 1

    # ---- asking

    def allows(self, now: float, account: str | None = None) -> bool:
        """True if the account may ask the source: nothing is open (or on trial) for it, and the endpoint is not missing."""
        return self._is_clear or (self._blocking(now, account) is None and not self.is_missing(now, account))

    def acquire(self, now: float, account: str | None = None) -> Permit:
        """Permission to ask the source once, for who has seen that it is allowed, or asks although it is open.

        The permit is the trial of each circuit that is not closed, unless another trial of it is under way.
        """
        self.asked_at = now
        if self._is_clear:
            return Permit(self, account, _NO_TRIAL)
        return Permit(self, account, tuple([circuit for circuit in self._circuits(account) if circuit.begin_trial()]))

    def may_be_bypassed(self, now: float, account: str | None = None) -> bool:
        """True if the reasons for which it is open say little about now (`Circuit.may_bypass`)."""
        if self.is_missing(now, account):
            return False
        return all(circuit.passes(now) or circuit.may_bypass for circuit in self._circuits(account))

    def is_missing(self, now: float, account: str | None = None) -> bool:
        """True if the source has said of late that it lacks the endpoint: to two accounts, or to this one."""
        if now < self.missing_until:
            return True
        mine = self._circuit_of(account)
        return mine is not None and now < mine.missing_until

    # ---- verdicts

    def record_success(
        self, now: float, *, account: str | None = None, trials: tuple[Circuit, ...] = _NO_TRIAL, streams: bool = True,
        first_byte_s: float | None = None, is_traffic: bool = True,
    ) -> None:  # fmt: skip
        """The source answered."""
        if is_traffic:
            self.hours.add(now, succeeded=True)
        if first_byte_s is not None:
            self.first_bytes_of(streams=streams).add(now, first_byte_s)
        if self._is_clear:
            self._decay(now)
            self._successes += 1.0
        else:
            self._recover(now, account, trials)

    def record_failure(
        self, now: float, failure: AttemptFailure, random: Callable[[], float], *, account: str | None = None,
        trials: tuple[Circuit, ...] = _NO_TRIAL, is_traffic: bool = True,
    ) -> None:  # fmt: skip
        """The source failed before it answered."""
        if failure.is_missing:
            if is_traffic and self.missing_at > 1:  # at the main endpoint it is a failed attempt, though no fault of the model
                self.hours.add(now, succeeded=False)
            self.record_missing(now, failure.status, account=account, trials=trials)
        elif not points_of(failure):  # the source answers again, though not this request
            for circuit in trials:
                circuit.close()
        else:
            # To be slower than another is no outage.
            is_traffic = is_traffic and failure.kind is not FailureKind.OVERTAKEN
            self._count(now, failure, random, account=account, trials=trials, is_traffic=is_traffic)

    def record_broken(
        self, now: float, failure: AttemptFailure, random: Callable[[], float], *, account: str | None = None
    ) -> None:
        """The source broke off an answer that had been counted as a success."""
        if points_of(failure):
            self.hours.take_back(now)
            self._count(now, failure, random, account=account, trials=_NO_TRIAL, is_traffic=True)

    def record_missing(
        self, now: float, status: int, *, account: str | None = None, trials: tuple[Circuit, ...] = _NO_TRIAL
    ) -> None:
        """The source says that it lacks the endpoint, or the model there: to one account alone, until it says so to another."""
        for circuit in trials:  # it answers again, though not this request
            circuit.close()
        if self.hours.sums(now)[0]:
            return
        self._is_clear = False
        self._missing_answers += 1
        is_known, until = self._missing_answers >= self.missing_at, now + MISSING_S
        if account is not None:
            mine = self._own_circuit(account)
            mine.missing_answers += 1
            if mine.missing_answers >= self.missing_at:
                mine.missing_until = until
        if is_known and (account is None or self._missing_for not in (None, account)):
            self.missing_until = until
        if is_known:
            self.seen_missing_until = until
        self._missing_for = account or self._missing_for
        self.missing_status = status

    def _count(
        self, now: float, failure: AttemptFailure, random: Callable[[], float], *, account: str | None,
        trials: tuple[Circuit, ...], is_traffic: bool,
    ) -> None:  # fmt: skip
        """Count a failure in every circuit that it is about."""
        for circuit in trials:
            circuit.is_trying = False
        if is_traffic:
            self.hours.add(now, succeeded=False)
        self._is_clear = False
        points, source = points_of(failure), self._source
        is_wide = is_source_wide(failure)
        # To be slower than another does not lengthen the time either.
        is_trial = self in trials and failure.kind is not FailureKind.OVERTAKEN
        if is_wide:
            source.count_failure(now, failure, random, points=points, is_trial=source in trials)
            for breaker in source.endpoints.values():
                breaker._is_clear = False
        elif source in trials:
            source.close()  # it can be reached
        if account is None:
            self.count_failure(now, failure, random, points=points, is_trial=is_trial)
            return
        mine = self._own_circuit(account)
        is_own_trial = (
            is_trial or (mine in trials and failure.kind is not FailureKind.OVERTAKEN) or (is_wide and source in trials)
        )
        mine.count_failure(now, failure, random, points=points, is_trial=is_own_trial)
        if is_wide:  # the points are the source's
            self.count_failure(now, failure, random, points=0, is_trial=is_trial, opens_by_points=False)
        else:
            self._count_shared(now, failure, random, account, points=points, is_trial=is_trial)

    def _count_shared(
        self, now: float, failure: AttemptFailure, random: Callable[[], float], account: str, *, points: int, is_trial: bool
    ) -> None:
        """Count a failure that its caller could have provoked: it takes another account's failure to keep everybody away."""
        if self._culprit is None:
            self._culprit = account
        elif self._culprit != account:
            self._is_shared = True
        fails_trial = is_trial and self._failed_trial_of is not None and self._failed_trial_of != account
        if is_trial:
            self._failed_trial_of = None if fails_trial else account
        # Of several failures of one account in a row one counts among the recent attempts: so it never is half of them alone.
        is_in_ratio = self._last_culprit != account
        self._last_culprit = account
        self.count_failure(
            now, failure, random, points=points, is_trial=fails_trial, is_in_ratio=is_in_ratio,
            opens_by_points=self._is_shared,
        )  # fmt: skip

    def _recover(self, now: float, account: str | None, trials: tuple[Circuit, ...]) -> None:
        """The source answered, and something had failed before."""
        source = self._source
        if source in trials:
            source.close()
            for breaker in source.endpoints.values():
                breaker.forgive()
        elif not source.open_until:
            source.points = 0
        self.missing_until = self.seen_missing_until = 0.0
        self._missing_answers = 0
        self._missing_for = None
        mine = self._circuit_of(account)
        if mine is not None:
            mine.missing_until, mine.missing_answers = 0.0, 0
            mine.count_success(now, is_trial=mine in trials)
        self.count_success(now, is_trial=self in trials)
        if self.open_until:
            return
        self._streak += 1
        self._culprit = self._failed_trial_of = None
        self._is_shared = False
        for name, circuit in list(self._accounts.items()):
            if not circuit.open_until and now - circuit.counted_at > _IDLE_S:
                del self._accounts[name]
        self._is_clear = not (self._accounts or source.open_until)

    def forgive(self) -> None:
        """The source can be reached again, and takes its key: what was open for that reason need not wait."""
        circuits: list[Circuit] = [self, *self._accounts.values()]
        for circuit in circuits:
            if circuit.open_until and circuit.last is not None and is_source_wide(circuit.last):
                circuit.close()

    def look_again(self) -> None:
        """One of the circuits may have been opened from outside."""
        self._is_clear = False

    # ---- the circuits of accounts

    def _circuit_of(self, account: str | None) -> AccountCircuit | None:
        """The circuit of an account; None if it has not failed of late. A success of anybody has taken its points back."""
        mine = None if account is None else self._accounts.get(account)
        if mine is not None and mine.streak != self._streak:
            mine.missing_until, mine.missing_answers = 0.0, 0
            if not mine.open_until:
                mine.points, mine.streak = 0, self._streak
        return mine

    def _own_circuit(self, account: str) -> AccountCircuit:
        """The circuit of an account that has failed, the youngest from now on; the oldest makes room for it."""
        mine = self._circuit_of(account)
        if mine is None:
            mine = AccountCircuit(self._streak, self.key, self.changed)
            if len(self._accounts) >= MAX_ACCOUNTS:
                del self._accounts[next(iter(self._accounts))]
        else:
            del self._accounts[account]
            mine.streak = self._streak
        self._accounts[account] = mine
        return mine

    def _circuits(self, account: str | None) -> list[Circuit]:
        """The circuits that decide about an account's request."""
        mine = self._circuit_of(account)
        return [self._source, self] if mine is None else [self._source, self, mine]

    def _blocking(self, now: float, account: str | None) -> Circuit | None:
        """The circuit that keeps an account from asking, and the longest; None if none does."""
        found: Circuit | None = None
        for circuit in self._circuits(account):
            if not circuit.passes(now) and (found is None or circuit.open_until > found.open_until):
                found = circuit
        return found

    # ---- what is known

    def _shown(self) -> list[Circuit]:
        """The circuits that the status shows: those of single accounts too, if nobody has had an answer since they failed."""
        mine = [one for one in self._accounts.values() if one.open_until and one.streak == self._streak]
        return [self._source, self, *mine]

    def state(self, now: float) -> str:
        """CLOSED, OPEN, or HALF_OPEN: from the end of its time until a trial closes it or opens it again."""
        until = max([circuit.open_until for circuit in self._shown()])
        return CLOSED if not until else OPEN if now < until else HALF_OPEN

    def open_for_s(self, now: float) -> float:
        """For how many seconds the source will not be asked; 0.0 if it may be, or a trial is under way."""
        return max(0.0, max([circuit.open_until for circuit in self._shown()]) - now)

    def reason(self) -> AttemptFailure | None:
        """The failure for which it is open or half-open, the longest; None if it is closed."""
        longest = max(self._shown(), key=lambda circuit: circuit.open_until)
        return longest.last if longest.open_until else None

    def skipped(self, now: float, provider: str, account: str | None = None) -> AttemptFailure:
        """The failure that explains why the source is skipped; it is like any other, but was not tried."""
        if self.is_missing(now, account):
            detail = f"lacks this endpoint, or the model there: answered {self.missing_status}"
            return AttemptFailure(FailureKind.STATUS, provider, detail, self.missing_status, was_tried=False)
        blocking = self._blocking(now, account) or self
        last = blocking.last or AttemptFailure(FailureKind.CONNECT, provider, "failed")
        seconds = max(0, math.ceil(blocking.open_until - now))
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
