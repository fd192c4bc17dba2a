"""This file says how far a request's attempts have come, and waits for the first of those that run to end."""

from __future__ import annotations

import asyncio
from typing import Final

from kyma_proxy.config.snapshot import Route
from kyma_proxy.config.units import AUTO
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.routing.breaker import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure
from kyma_proxy.core.routing.plan import Step, open_breakers
from kyma_proxy.errors import GatewayError
from kyma_proxy.net.inline_coroutine import OneShotFuture
from kyma_proxy.net.relay.pump import Relay
from kyma_proxy.net.upstream.connection import monotonic

_HEDGED_SHARE: Final = 0.95
_MIN_AUTO_S: Final = 0.02
"""Below this a source's usual time says more of the machine than of the source."""


class Attempts:
    """How far a request has come: the sources that are left (the next one last), asked, at work, and why others failed."""

    __slots__ = ("_can_estimate", "_route", "_table", "failures", "left", "running", "tried", "unsupported", "waits_since")

    def __init__(self, steps: tuple[Step, ...], route: Route, table: BreakerTable, *, can_estimate: bool) -> None:
        self._can_estimate = can_estimate
        self._route = route
        self._table = table
        self.left = list(reversed(steps))
        self.tried: set[str] = set()
        self.running: list[Relay] = []
        self.failures: list[AttemptFailure] = []
        self.unsupported: GatewayError | None = None  # why a source of another dialect can't be told what the caller asks for
        self.waits_since = 0.0  # for a connection, while none has been found

    def is_last(self) -> bool:
        """Whether the source that is asked may tell the caller that there is no such model: nobody else could know better."""
        return (
            not self.left
            and not self._can_estimate
            and len(self.running) == 1
            and all(failed.status == 404 for failed in self.failures)
            and not open_breakers(self._route, self._table, monotonic(), self.tried)
        )

    def is_left_to_estimate(self) -> bool:
        """Whether the gateway may answer by itself: there is no source, or all have said that they can't (404)."""
        if not self._can_estimate or self.left:
            return False
        return all(failed.status == 404 for failed in self.failures) if self.failures else self._route.is_empty


async def wait_first(exchange: Exchange, course: Attempts) -> Relay | None:
    """Whichever source's answer is over first; None when one is so slow that the next is to be asked too."""
    running = course.running
    for relay in running:
        if relay.is_over and not relay.was_dropped:
            return relay
    ended: OneShotFuture[Relay | None] = OneShotFuture()
    for relay in running:
        relay.ended = ended
    delay = _hedge_delay(exchange, running[0]) if course.left and len(running) == 1 and not exchange.is_committed else None
    if delay is None:
        return await ended
    timer = asyncio.get_running_loop().call_later(delay, ended.tell, None)
    try:
        relay_or_none = await ended
    finally:
        timer.cancel()
    if relay_or_none is None and (exchange.is_committed or exchange.has_ended):  # it has begun in time
        return await wait_first(exchange, course)
    return relay_or_none


def _hedge_delay(exchange: Exchange, relay: Relay) -> float | None:
    """In how many seconds the next source is to be asked too; None: not at all, or not known yet."""
    after = relay.step.model.hedge_after
    if after is None:
        return None
    if after != AUTO:
        seconds: float | None = after
    else:
        streams = exchange.routing is not None and exchange.routing.streams
        known = relay.step.health.first_bytes_of(streams=streams).quantile_s(_HEDGED_SHARE)
        seconds = None if known is None else max(known, _MIN_AUTO_S)
    return None if seconds is None else max(0.0, relay.asked_at + seconds - monotonic())
