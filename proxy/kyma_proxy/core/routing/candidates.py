"""Chooses the next source for a request or an image job, and remembers which were tried and why they failed. (Contract §9.)"""

from __future__ import annotations

from collections.abc import Collection

from kyma_proxy.config.snapshot import Route
from kyma_proxy.core.routing.breaker import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, exhausted
from kyma_proxy.core.routing.plan import Step, last_resort, open_breakers
from kyma_proxy.errors import GatewayError


class Candidates:
    """The sources that can still be asked.

    `tried` are the keys of those that were; `failures` say why they failed, by the same keys. `unsupported` is the error if a
    source's dialect could not express what the caller asks for.
    """

    __slots__ = ("_breakers", "_route", "failures", "remaining", "tried", "unsupported")

    def __init__(self, route: Route, breakers: BreakerTable, steps: tuple[Step, ...]) -> None:
        """`steps` is the plan."""
        self._route = route
        self._breakers = breakers
        self.remaining = list(reversed(steps))  # the next one last
        self.tried: set[str] = set()
        self.failures: dict[str, AttemptFailure] = {}
        self.unsupported: GatewayError | None = None

    def restart(self, steps: tuple[Step, ...], excluded: Collection[str]) -> None:
        """Begin anew with another plan, without the sources that are excluded; the failures are kept."""
        self.remaining = list(reversed(steps))
        self.tried = set(excluded)

    def next(self, now: float, *, is_last_resort: bool) -> Step | None:
        """The next source to ask, which counts as tried from now on; None if nobody is left.

        A source that is in the plan twice, or whose breaker has opened since, is left out. With `is_last_resort` the plan is
        followed by the sources that may be asked again by now, and those that may bypass their breaker.
        """
        step = self._next(now)
        if step is None and is_last_resort:
            self.remaining = last_resort(self._route, self._breakers, now, self.tried)
            self.remaining.reverse()
            step = self._next(now)
        return step

    def _next(self, now: float) -> Step | None:
        while self.remaining:
            step = self.remaining.pop()
            key = step.source.key
            if key not in self.tried and (step.bypass_breaker or step.breaker.allows(now)):
                self.tried.add(key)
                return step
        return None

    def skipped(self, now: float) -> list[AttemptFailure]:
        """A failure for each source that is not asked because its breaker is open."""
        return open_breakers(self._route, self._breakers, now, self.tried)

    def is_last(self, now: float) -> bool:
        """True if a 404 of the source that is asked is relayed: nobody else could tell the caller more."""
        return not self.remaining and self.all_say_404 and not self.skipped(now)

    @property
    def all_say_404(self) -> bool:
        """True if every source that has failed has answered 404, also if none has failed."""
        return all(failure.status == 404 for failure in self.failures.values())

    @property
    def is_unserved(self) -> bool:
        """True if no source serves the endpoint: there is none, or all have answered 404."""
        return not self.remaining and (self.all_say_404 if self.failures else self._route.is_empty)

    def error(self, now: float, *, is_expressible: bool = False) -> GatewayError:
        """The error for the caller when nobody is left. (Contract §5.)

        It names each source once: how it failed, or why it was never asked. With `is_expressible` it does not blame the
        request for what a source's dialect could not express: another source, not asked just now, could.
        """
        if self.unsupported is not None and not self.failures and not is_expressible:
            return self.unsupported
        unasked = open_breakers(self._route, self._breakers, now, {*self.tried, *self.failures})
        return exhausted(self._route.model.id, [*self.failures.values(), *unasked])
