"""Chooses the next source for a request or an image job, and remembers which were tried and why they failed. (Contract §9.)"""

from __future__ import annotations

from collections.abc import Callable, Collection

from kyma_proxy.config.snapshot import Route, Source
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, Retry, exhausted
from kyma_proxy.core.routing.plan import Step, last_resort, only_first, plan, rest_of_plan, unasked
from kyma_proxy.errors import GatewayError, Kind


def candidates_of(
    route: Route, breakers: BreakerTable, now: float, random: Callable[[], float], account: str | None
) -> Candidates:
    """The sources to ask by a route's plan, as `plan` makes it."""
    first = only_first(route, breakers, now, account)
    if first is not None:
        return Candidates(route, breakers, (first,), account, undrawn=random)
    return Candidates(route, breakers, plan(route, breakers, now, random, account), account)


class Candidates:
    """The sources that can still be asked.

    `account` is who asks, None if there are no accounts. `tried` are the keys of those that were asked; `failures` say why they
    failed, by the same keys. `unsupported` is the error if a source's dialect could not express what the caller asks for.
    """

    __slots__ = ("_breakers", "_remaining", "_route", "_undrawn", "account", "failures", "tried", "unsupported")

    def __init__(
        self, route: Route, breakers: BreakerTable, steps: tuple[Step, ...], account: str | None = None, *,
        undrawn: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        """`steps` is the plan; if its rest has not been drawn yet, `undrawn` gives the numbers in [0, 1) for that."""
        self._route = route
        self._breakers = breakers
        self.account = account
        self._undrawn = undrawn
        self._remaining = [*steps]
        self._remaining.reverse()  # the next one last
        self.tried: set[str] = set()
        self.failures: dict[str, AttemptFailure] = {}
        self.unsupported: GatewayError | None = None

    def restart(self, steps: tuple[Step, ...], excluded: Collection[str]) -> None:
        """Begin anew with another plan, without the sources that are excluded; the failures are kept."""
        self._undrawn = None
        self._remaining = [*steps]
        self._remaining.reverse()
        self.tried = set(excluded)

    def next(self, now: float, *, is_last_resort: bool) -> Step | None:
        """The next source to ask, which counts as tried from now on; None if nobody is left.

        A source that is in the plan twice, or whose breaker has opened since, is left out. With `is_last_resort` the plan is
        followed by the sources that may be asked again by now, and those that may bypass their breaker.
        """
        if not is_last_resort:
            self._put_siblings_off(now)
        step = self._next(now)
        if step is None and is_last_resort:
            self._remaining = last_resort(self._route, self._breakers, now, self.tried, self.account)
            self._remaining.reverse()
            step = self._next(now)
        return step

    def fail(self, step: Step, failure: AttemptFailure, now: float) -> None:
        """Note why a source failed. Its other keys are worth asking only if the failure was about this one.

        One that only lacks the endpoint is asked at another one of its own, if a translation can do with that; but later than
        the rest of its pool or reserve, who may have it.
        """
        source = step.source
        if failure.retry is Retry.SAME_SOURCE_OTHER_REQUEST:
            self.tried.discard(source.key)
            self._remaining.append(step)  # the next one
            return
        if failure.is_missing and source.translated is not None and step.is_asked_elsewhere(now):
            self.tried.discard(source.key)
            later = sum([max(one.layer, 1) > max(step.layer, 1) for one in self._remaining])
            again = Step(step.model, source.translated, step.layer, self._breakers.of(source.translated))
            self._remaining.insert(later, again)
            return
        self.failures[source.key] = failure
        if source.siblings and not failure.is_of_key:
            self.tried.update(source.siblings)

    def has_more(self, now: float) -> bool:
        """True if the plan has another step."""
        return bool(self._drawn(now))

    def upcoming(self, now: float, source: Source) -> list[Step]:
        """The steps that would follow if this source, which is being asked, failed; not its own with another key."""
        excluded = self.tried.union(source.siblings)
        return [
            step
            for step in self._drawn(now)
            if step.source.key not in excluded and (step.bypass_breaker or step.breaker.allows(now, self.account))
        ]

    def _drawn(self, now: float) -> list[Step]:
        """The steps of the whole plan that remain."""
        random, self._undrawn = self._undrawn, None
        if random is not None:
            rest = [*rest_of_plan(self._route, self._breakers, now, random, self.account)]
            rest.reverse()
            self._remaining = rest + self._remaining
        return self._remaining

    def _put_siblings_off(self, now: float) -> None:
        """Let others go first: it is the source that is slow, and not its key."""
        remaining = self._drawn(now)
        asked = [step for step in remaining if not self.tried.isdisjoint(step.source.siblings)]
        if asked:
            self._remaining = asked + [step for step in remaining if step not in asked]

    def _next(self, now: float) -> Step | None:
        while self._remaining or self._drawn(now):
            step = self._remaining.pop()
            key = step.source.key
            if key not in self.tried and (step.bypass_breaker or step.breaker.allows(now, self.account)):
                self.tried.add(key)
                return step
        return None

    def skipped(self, now: float) -> list[AttemptFailure]:
        """A failure for each source that is not asked because its breaker is open."""
        return [one for one in self._unasked(now, self.tried) if not one.is_missing]

    def is_last(self, asked: Step, now: float) -> bool:
        """True if it is relayed that the source that is asked lacks the endpoint: nobody else could tell the caller more."""
        if asked.is_asked_elsewhere(now):
            return False
        others = [step for step in self._drawn(now) if self.tried.isdisjoint(step.source.siblings)]
        return not others and self._all_lack_it and not self.skipped(now)

    @property
    def _all_lack_it(self) -> bool:
        """True if every source that has failed lacks the endpoint, also if none has failed."""
        return all(failure.is_missing for failure in self.failures.values())

    def is_unserved(self, now: float) -> bool:
        """True if no source serves the endpoint: there is none, or all that were asked, now or of late, lack it."""
        return not self._drawn(now) and self._all_lack_it and (bool(self.failures) or not self.skipped(now))

    def error(self, now: float, *, is_expressible: bool = False) -> GatewayError:
        """The error for the caller when nobody is left. (Contract §5.)

        It names each source once, unless there are accounts: how it failed, or why it was never asked. With `is_expressible` it
        does not blame the request for what a source's dialect could not express: another source, not asked just now, could.
        """
        if self.unsupported is not None and not self.failures and not is_expressible:
            return self.unsupported.fresh()  # what is raised holds frames, which hold this
        failures = [*self.failures.values(), *self._unasked(now, {*self.tried, *self.failures})]
        error = exhausted(self._route.model.id, failures, are_named=self.account is None)
        if self.unsupported is not None and self.unsupported.kind is Kind.PROVIDER_ERROR:
            error.message = f"{error.message} {self.unsupported.message}"  # why no other source was asked
        return error

    def _unasked(self, now: float, tried: Collection[str]) -> list[AttemptFailure]:
        return unasked(self._route, self._breakers, now, tried, self.account)
