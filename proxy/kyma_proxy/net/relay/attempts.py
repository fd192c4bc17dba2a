"""Holds one request's attempts: which run, which ends first, and whose answer goes out.

Two attempts run at once only if a model is hedged. Nothing here decides what an answer means; see `gateway`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from kyma_proxy.config.units import AUTO
from kyma_proxy.core.exchange import ANSWERED, AttemptRecord, Exchange
from kyma_proxy.core.http.headers import AnswerHead
from kyma_proxy.core.routing.breaker import Permit
from kyma_proxy.core.routing.candidates import Candidates
from kyma_proxy.core.routing.failures import MISSING_STATUSES, AttemptFailure, FailureKind, Retry, no_time_left, overtaken
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.net.downstream.connection import DownstreamConnection
from kyma_proxy.net.inline_coroutine import OneShotFuture
from kyma_proxy.net.relay.pump import Pump, PumpListener
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.pool import DialError, UpstreamPool

monotonic: Final = time.monotonic  # compiled, a constant is read without a look-up
_log: Final = logging.getLogger("kyma-proxy")
_HEDGED_QUANTILE: Final = 0.95
_TIMER_S: Final = 0.005
"""A timer of the loop may ring so much too early."""
_MIN_AUTO_S: Final = 0.02
"""Below this a source's usual time says more about the machine than about the source."""


def total_due(exchange: Exchange, step: Step) -> float | None:
    """The monotonic second at which the whole request must have ended, if a source sets a limit."""
    total = step.source.timeouts.total
    return None if total is None else exchange.inbound.received + total


class Attempt(AttemptRecord):
    """One source that is asked: its permit, its dial or connection, and the pump of its answer.

    It is over with its answer, its failure or `cancel`, whichever comes first.
    """

    __slots__ = ("connection", "dialling", "group", "is_over", "permit", "pump", "total_due")

    def __init__(self, group: Attempts, step: Step, permit: Permit) -> None:
        super().__init__(step)
        self.group = group
        self.permit = permit
        self.total_due = group.total_due
        self.pump: Pump[Attempt] | None = None
        self.connection: UpstreamConnection | None = None
        self.dialling: asyncio.Task[UpstreamConnection] | None = None
        self.is_over = False

    def connect(self, upstreams: UpstreamPool, *, is_fresh: bool = False) -> None:
        """Take an idle connection, or dial one (always, if it must be `is_fresh`). `on_connected` or `on_failed` follows."""
        group = self.group
        now = self.started = monotonic()
        if len(group.running) == 1:
            group.dial_started = now
        connection = None if is_fresh else upstreams.take(self.step.source.provider.origin)
        if connection is None:
            self._dial(upstreams, now)
        else:
            group.listener.on_connected(self, connection, is_reused=True)

    def _dial(self, upstreams: UpstreamPool, now: float) -> None:
        source, listener = self.step.source, self.group.listener
        limit = source.timeouts.connect
        if self.total_due is not None:
            limit = self.total_due - now if limit is None else min(limit, self.total_due - now)

        def dialled(result: UpstreamConnection | DialError) -> None:
            self.dialling = None
            if not self.is_over:
                self.group.note_dial()
                if isinstance(result, DialError):
                    listener.on_failed(self, self._dial_failure(result))
                    return
                try:
                    listener.on_connected(self, result, is_reused=False)
                except Exception:
                    _log.exception("request %s failed inside the gateway", self.group.exchange.inbound.request_id)
                    result.abort()
                    listener.on_crash(self)
            elif not isinstance(result, DialError):  # nobody waits for it
                upstreams.put_back(result)

        self.dialling = upstreams.dial(source.provider, limit, dialled)

    def _dial_failure(self, error: DialError) -> AttemptFailure:
        """The failure of a dial. If it was the request's own time that ended, the source's address is not to blame."""
        if (
            error.kind is FailureKind.CONNECT_TIMEOUT
            and self.total_due is not None
            and monotonic() >= self.total_due - _TIMER_S
        ):
            return no_time_left(self.provider)
        return AttemptFailure(error.kind, self.provider, error.detail)

    def win(self, now: float, head: AnswerHead) -> None:
        """Its answer is the one that goes out. Only an answer that is no error says how fast the source is."""
        self.result = ANSWERED
        if head.status in MISSING_STATUSES:
            self.permit.missing(now, head.status)
        else:
            first_byte_s = None if head.is_error else now - self.sent
            self.permit.success(now, streams=head.streams, first_byte_s=first_byte_s)

    def fail(self, failure: AttemptFailure, now: float, random: Callable[[], float]) -> None:
        """It is over, and the source has failed."""
        self.is_over = True
        self.result = failure.word
        if failure.retry is Retry.SAME_SOURCE_OTHER_REQUEST:
            self.permit.success(now)  # it has answered: the request is to blame
        else:
            self.permit.failure(now, failure, random)

    def cancel(self) -> None:
        """End the attempt at once, and close what it has opened; nobody is called back.

        It gives no verdict about the source; one that was given before stays valid.
        """
        if self.is_over:
            return
        self.is_over = True
        self.permit.release()
        if self.connection is not None:
            self.connection.abort()
        elif self.dialling is not None:
            self.dialling.cancel()


class Attempts:
    """One request's attempts. Also the flow control of its answer, once there is one."""

    __slots__ = (
        "_waiter", "answering", "candidates", "dial_started", "downstream", "exchange", "is_done", "listener", "postponed",
        "running", "total_due",
    )  # fmt: skip

    candidates: Candidates

    def __init__(self, exchange: Exchange, downstream: DownstreamConnection, listener: AttemptsListener) -> None:
        self.exchange = exchange
        self.downstream = downstream
        self.listener = listener
        self.running: list[Attempt] = []
        self.postponed: Step | None = None  # chosen, but its body takes long to be made
        self.total_due: float | None = None  # of the source that was chosen last
        self.answering: Attempt | None = None  # whose answer goes out, or will if nobody is faster
        self.is_done = False
        self.dial_started = 0.0  # since when there has been no connection
        self._waiter: OneShotFuture[bool] | None = None

    def note_dial(self) -> None:
        """A dial is over: until the request has been sent, the time that it took is no overhead of the gateway's."""
        exchange = self.exchange
        if not exchange.sent:
            ended = monotonic()
            exchange.dialled_s += ended - self.dial_started
            self.dial_started = ended

    # ---- the race

    async def wait_first(self) -> bool:
        """Wait until an attempt has failed, or the answer is over.

        True if instead the only attempt has been so slow that the next source is to be asked too (hedging).
        """
        waiter = self._waiter = OneShotFuture()
        delay = self._hedge_delay() if len(self.running) == 1 and not self.exchange.is_committed else None
        if delay is None:
            return await waiter
        timer = asyncio.get_running_loop().call_later(delay, waiter.resolve, True)
        try:
            is_slow = await waiter
        finally:
            timer.cancel()
        return is_slow and not self.exchange.is_committed and not self.is_done

    def wake(self) -> None:
        """An attempt is over, or the whole request."""
        waiter, self._waiter = self._waiter, None  # else the waiter and the coroutine form a cycle
        if waiter is not None:
            waiter.resolve(False)

    async def wait_woken(self, within_s: float | None) -> None:
        """Wait for so long until something wakes the request: a body that was prepared, an attempt that is over, the end."""
        waiter = self._waiter = OneShotFuture()
        timer = None if within_s is None else asyncio.get_running_loop().call_later(within_s, waiter.resolve, True)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()

    def is_too_late(self, step: Step, now: float) -> bool:
        """True if there is no time left to ask a source, which is its failure."""
        due = self.total_due = total_due(self.exchange, step)
        if due is None or now < due:
            return False
        self.candidates.fail(step, no_time_left(step.source.provider.name), now)
        return True

    def _hedge_delay(self) -> float | None:
        """In how many seconds the next source is to be asked too; None if never, or not known yet."""
        attempt = self.running[0]
        after = attempt.step.model.hedge_after
        if after is None or not self.candidates.has_more(monotonic()):
            return None
        if after != AUTO:
            seconds: float | None = after
        else:
            routing = self.exchange.routing
            streams = routing is not None and routing.streams
            known = attempt.step.breaker.first_bytes_of(streams=streams).quantile_s(_HEDGED_QUANTILE)
            seconds = None if known is None else max(known, _MIN_AUTO_S)
        return None if seconds is None else max(0.0, attempt.started + seconds - monotonic())

    def end_others(self, winner: Attempt, now: float, random: Callable[[], float], *, are_blamed: bool) -> None:
        """Cancel all other attempts: only one answer goes out. `are_blamed`: those that began before have been too slow."""
        if len(self.running) == 1:
            return
        for attempt in self.running:
            if attempt is not winner:
                if are_blamed and attempt.started < winner.started:
                    attempt.result = FailureKind.OVERTAKEN.value
                    attempt.permit.failure(now, overtaken(attempt.provider), random)
                attempt.cancel()
        self.running = [winner]

    def end(self) -> None:
        """Cancel what still runs, without calling back. The request has its answer, or needs none."""
        for attempt in self.running:
            attempt.cancel()
        self.running.clear()
        self.is_done = True
        self.wake()

    def release(self) -> None:
        """Let go of the attempts, which refer to their request; the garbage collector would find such a cycle late."""
        self.running.clear()
        self.answering = None
        for record in self.exchange.attempts:
            if isinstance(record, Attempt):
                record.pump = None
        self.exchange.attempts = []

    # ---- FlowControl

    def pause(self) -> None:
        """The caller is slow: let the provider wait."""
        if self.answering is not None and self.answering.connection is not None:
            self.answering.connection.pause()

    def resume(self) -> None:
        """The caller has caught up."""
        if self.answering is not None and self.answering.connection is not None:
            self.answering.connection.resume()

    def leave(self) -> None:
        """The caller has left."""
        self.listener.on_leave(self)


class AttemptsListener(PumpListener[Attempt]):
    """Decides what follows from what happens to a request's attempts."""

    __slots__ = ()

    @abstractmethod
    def on_connected(self, attempt: Attempt, connection: UpstreamConnection, *, is_reused: bool) -> None:
        """There is a connection over which the source can be asked."""

    @abstractmethod
    def on_leave(self, attempts: Attempts) -> None:
        """The caller has left."""
