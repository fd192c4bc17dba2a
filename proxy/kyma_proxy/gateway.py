"""The path of a relayed request, from top to bottom: receive, identify, route, plan, admit, attempt, relay, settle.

One coroutine per request; it waits for an attempt to be over, or to be slow, and for nothing else. Decisions are pure functions
of `core`; an answer flows through `net.relay.pump`, which reports here. So every transition of a request (`Exchange.step`) is
made in this file. `settle` never waits, so every request that has ended is charged and logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.accounting.own_answers import OwnAnswers, check_is_estimated
from kyma_proxy.accounting.settlement import Settlement
from kyma_proxy.config.snapshot import Route, Snapshot
from kyma_proxy.core.exchange import Event, Exchange
from kyma_proxy.core.http.answers import relay_lines
from kyma_proxy.core.http.body import RoutingFields, read_routing_fields
from kyma_proxy.core.http.headers import AnswerHead
from kyma_proxy.core.http.inbound import Headers, Inbound
from kyma_proxy.core.http.request_head import RequestHead
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.candidates import candidates_of
from kyma_proxy.core.routing.failures import (
    MISSING_STATUSES,
    AttemptFailure,
    FailureKind,
    Retry,
    broken_off,
    moves_on,
    status_failure,
)
from kyma_proxy.core.routing.operators_errors import meaning_of
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.core.routing.resolve import Routes
from kyma_proxy.dialect.answers.errors import read_error
from kyma_proxy.dialect.answers.reader import AnswerReader
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.registry import DIALECTS, RELAYED
from kyma_proxy.dialect.wrong_endpoint import serve_as
from kyma_proxy.errors import GatewayError, Kind, draining, internal_error
from kyma_proxy.net.downstream.connection import DownstreamConnection
from kyma_proxy.net.inline_coroutine import ENDED
from kyma_proxy.net.relay.attempts import Attempt, Attempts, AttemptsListener
from kyma_proxy.net.relay.bodies import body_for
from kyma_proxy.net.relay.body import Body
from kyma_proxy.net.relay.large_bodies import SMALL_BYTES, LargeBodies, takes_long
from kyma_proxy.net.relay.pump import Pump
from kyma_proxy.net.relay.refusal import note_refusal
from kyma_proxy.net.upstream.connection import UpstreamConnection
from kyma_proxy.net.upstream.pool import UpstreamPool
from kyma_proxy.telemetry.counters import Counters
from kyma_proxy.telemetry.record import Log
from kyma_proxy.telemetry.recording import other_record

monotonic: Final = time.monotonic  # compiled, a constant is read without a look-up
_log: Final = logging.getLogger("kyma-proxy")
_CLIENT_CLOSED_REQUEST: Final = 499
_ABOUT_SOURCES: Final = (Kind.NO_SOURCE_AVAILABLE, Kind.PROVIDER_RATE_LIMITED)


class Gateway(AttemptsListener):
    """Serves relayed requests. It is given everything that it needs; it keeps only which requests are being served (`live`)."""

    def __init__(
        self, current: Callable[[], Snapshot], upstreams: UpstreamPool, counters: Counters, log: Log | None,
        *, breakers: BreakerTable, random: Callable[[], float], large_bodies: LargeBodies, meter: Meter | None = None,
    ) -> None:  # fmt: skip
        """Requests are metered if there is a meter; without one everybody may call."""
        self._current, self._upstreams, self._breakers = current, upstreams, breakers
        self._counters, self._log, self._meter, self._random, self._large_bodies = counters, log, meter, random, large_bodies
        self._own_answers, self._routes = OwnAnswers(meter), Routes()
        self._settlement = Settlement(counters, breakers, log, meter)
        self.live: set[Attempts] = set()

    def relay(self, inbound: Inbound, downstream: DownstreamConnection) -> Coroutine[Any, Any, None]:
        """Serve one request, whatever happens to it."""
        exchange = Exchange(inbound, RELAYED[inbound.path], self._current())
        attempts = Attempts(exchange, downstream, self)
        self.live.add(attempts)
        return self._serve(exchange, attempts)

    async def _serve(self, exchange: Exchange, attempts: Attempts) -> None:
        meter, inbound, snapshot = self._meter, exchange.inbound, exchange.snapshot
        try:
            if meter is not None:
                exchange.key = meter.identify_again(inbound.headers, attempts.downstream)
            if len(inbound.body) <= exchange.endpoint.at_once:
                fields = read_routing_fields(inbound.body, is_metered=meter is not None, asks_usage=snapshot.asks_usage)
            else:
                fields = await self._read_large(attempts)
            route = self._route(exchange, fields)
            self._plan(attempts, route)
            if meter is not None:
                exchange.reservation = meter.admit(exchange, monotonic())
            await self._attempt_all(attempts)
        except GatewayError as error:
            self._answer_error(attempts, error)
        except asyncio.CancelledError:
            self._cancelled(attempts)
        except Exception:
            _log.exception("request %s failed inside the gateway", exchange.inbound.request_id)
            self._answer_error(attempts, internal_error())
        finally:
            self._settle(attempts)
        await ENDED

    # ---- read, route and plan

    async def _read_large(self, attempts: Attempts) -> RoutingFields:
        """The routing fields of a large or measured body, read in slices, and only if its caller is in good standing."""
        exchange = attempts.exchange
        if self._meter is not None and exchange.key is not None:
            self._meter.check_standing(exchange.key.account, exchange.endpoint, exchange.snapshot, monotonic())
        return await self._large_bodies.read(attempts, self._answer_error, is_metered=self._meter is not None)

    def _route(self, exchange: Exchange, fields: RoutingFields) -> Route:
        """The sources that can answer for the model that the caller asks for, in the dialect of the body."""
        exchange.routing = fields
        if fields.shape and fields.shape != exchange.endpoint.key:
            serve_as(exchange, fields.shape)
        route, is_alias = self._routes.of(exchange.snapshot, exchange.endpoint, fields.model)
        exchange.alias = fields.model if is_alias else None
        exchange.route, exchange.model = route, route.model
        return route

    def _plan(self, attempts: Attempts, route: Route) -> None:
        """Choose the sources to ask, and their order. Raises GatewayError if there is none that could answer."""
        if not route.pool and route.is_empty:
            check_is_estimated(attempts.exchange, route)
        key = attempts.exchange.key
        account = None if key is None else key.account.id
        attempts.candidates = candidates_of(route, self._breakers, monotonic(), self._random, account)

    # ---- attempt

    async def _attempt_all(self, attempts: Attempts) -> None:
        """Ask one source after the other; if one is slow, the next in parallel. While one still runs, a failure starts nobody.

        Raises GatewayError if no source has answered.
        """
        attempts.downstream.attach(attempts)
        while not attempts.is_done:
            if attempts.postponed is not None:
                await self._start_large(attempts, attempts.postponed)
            elif attempts.running:
                if await attempts.wait_first():
                    self._start(attempts)
            elif self._is_estimated(attempts) or not self._start(attempts):
                if not self._is_estimated(attempts):  # the last candidates may have been left out
                    raise attempts.candidates.error(monotonic())
                attempts.exchange.step(Event.ANSWER)
                self._own_answers.send_estimate(attempts.exchange, attempts.downstream)  # no source can count them
                return

    def _is_estimated(self, attempts: Attempts) -> bool:
        return attempts.exchange.endpoint.is_estimated and attempts.candidates.is_unserved(monotonic())

    def _start(self, attempts: Attempts) -> bool:
        """Ask the next source, if there is one that can be asked. Returns False if there is none."""
        candidates, exchange, now = attempts.candidates, attempts.exchange, monotonic()
        step = candidates.next(now, is_last_resort=not attempts.running)
        if step is None:
            return False
        if attempts.is_too_late(step, now):
            return True
        dialect = DIALECTS[exchange.endpoint.dialect]
        if len(exchange.inbound.body) > SMALL_BYTES and takes_long(exchange, step):
            attempts.postponed = step
            return True
        try:
            body = body_for(exchange, step, dialect)
        except GatewayError as error:  # the source's dialect has no way to say what the caller asks for
            candidates.unsupported = error.fresh()
            return True
        self._ask(attempts, step, body, dialect, now)
        return True

    async def _start_large(self, attempts: Attempts, step: Step) -> None:
        """Ask a source when the body for it has been made, which takes long; unless nobody needs it any more."""
        attempts.postponed = None
        dialect = DIALECTS[attempts.exchange.endpoint.dialect]
        body = await self._large_bodies.prepared(attempts, step, dialect)
        if body is not None:
            self._ask(attempts, step, body, dialect, monotonic())

    def _ask(self, attempts: Attempts, step: Step, body: Body, dialect: Dialect, now: float) -> None:
        exchange = attempts.exchange
        attempt = Attempt(attempts, step, step.breaker.acquire(now, attempts.candidates.account))
        attempts.running.append(attempt)  # from here on whatever ends the request gives the permit back
        exchange.attempts.append(attempt)
        reader = AnswerReader(DIALECTS[step.source.provider.dialect] if body.is_translated else dialect, body.endpoint)
        attempt.pump = Pump(
            attempt, self, body, attempts.downstream, inbound=exchange.inbound, dialect=dialect, reader=reader,
            hold_s=exchange.snapshot.hold,
        )  # fmt: skip
        attempt.connect(self._upstreams, is_fresh=exchange.endpoint.takes_form and body.is_once)

    # ---- what an attempt and its pump report

    def on_connected(self, attempt: Attempt, connection: UpstreamConnection, *, is_reused: bool) -> None:
        """Send the request."""
        attempts, exchange, pump = attempt.group, attempt.group.exchange, attempt.pump
        assert pump is not None  # noqa: S101  (it is not over)
        attempts.answering = attempt
        attempt.connection = connection
        if not exchange.is_sent:
            exchange.step(Event.SEND)
        pump.begin(connection, is_reused=is_reused)
        connection.send(pump, pump.body.request(), attempt.step.source.timeouts, attempt.total_due)
        attempt.sent = connection.timers.sent_at
        if not exchange.sent:
            exchange.sent = attempt.sent
            exchange.overhead_s = attempt.sent - exchange.inbound.received - exchange.dialled_s

    def judge(self, attempt: Attempt, head: AnswerHead) -> AttemptFailure | None:
        """A status with which another source may succeed is a failure; every other answer is for the caller. (Contract §9.)"""
        status = head.status
        if moves_on(status, is_last=status in MISSING_STATUSES and self._is_last(attempt.group)):
            return status_failure(attempt.provider, status, head.fields, wall=time.time())
        return None

    def judge_error(self, attempt: Attempt, head: AnswerHead, body: bytes) -> AttemptFailure | None:
        """An error of the caller's is for the caller. One about the operator's account or quota is the source's failure."""
        source = attempt.step.source
        rules = (*source.move_on, *DIALECTS[source.provider.dialect].operators_errors)
        meaning = meaning_of(head.status, read_error(body), rules)
        if meaning is None:
            return note_refusal(attempt, head.status, body, monotonic())
        failure = status_failure(attempt.provider, meaning, head.fields, detail=f"answered {head.status}", wall=time.time())
        return failure._replace(written_status=head.status)

    def secrets(self, attempt: Attempt) -> tuple[bytes, ...]:
        """The credentials of the source's provider."""
        return attempt.step.source.provider.secrets

    def _is_last(self, attempts: Attempts) -> bool:
        """True if it is relayed that a source lacks the endpoint, as nobody else could tell the caller more."""
        is_alone = len(attempts.running) == 1 and not attempts.exchange.endpoint.is_estimated
        return is_alone and attempts.candidates.is_last(attempts.running[0].step, monotonic())

    def on_commit(self, attempt: Attempt, head: AnswerHead) -> bytes:
        """An answer begins to go out: the other attempts end, and the source has succeeded. Returns lines of its head."""
        attempts, step = attempt.group, attempt.step
        exchange, connection, pump = attempts.exchange, attempt.connection, attempt.pump
        assert connection is not None and pump is not None  # noqa: S101, PT018  (it brings an answer)
        attempts.answering = attempt
        attempts.end_others(attempt, connection.timers.read_at, self._random, are_blamed=not head.is_error)
        attempt.win(connection.timers.read_at, head)
        exchange.status = head.status
        exchange.answered_by = step.source
        exchange.model, exchange.layer = step.model, step.layer
        exchange.provider_request_id = head.provider_request_id
        exchange.dropped = exchange.lost + pump.body.dropped
        exchange.inbound.body = b""  # no other source is asked, so the prompt need not be kept
        attempts.downstream.buffered.release()
        lines = relay_lines(exchange.inbound.request_id, step.model.id, exchange.alias, step.layer, exchange.dropped)
        lines += self._own_answers.common_lines(exchange)
        exchange.step(Event.RELAY_ERROR if head.is_error else Event.COMMIT)  # last: nothing has gone out if the above fails
        return lines

    def on_done(self, attempt: Attempt) -> None:
        """An answer has been sent completely. If the source reported an error in it, it has failed all the same."""
        pump = attempt.pump
        assert pump is not None  # noqa: S101  (it has brought the answer)
        if pump.reader.error is None:
            attempt.group.exchange.step(Event.END)
        else:
            failure = AttemptFailure(FailureKind.ERROR_EVENT, attempt.provider, "reported an error in the middle of an answer")
            self._note_broken(attempt, failure)
            attempt.group.exchange.error_code = pump.reader.error.code
            attempt.group.exchange.step(Event.CUT)
        self._end(attempt)

    def on_failed(self, attempt: Attempt, failure: AttemptFailure) -> None:
        """A source has not answered. If no other is being asked, the request is open again."""
        attempts = attempt.group
        if failure.retry is Retry.SAME_SOURCE_FRESH_CONNECTION:
            # The provider closed an idle connection in the moment in which it was chosen. (Contract §9.)
            self._counters.stale_retries += 1
            attempt.connection = None
            attempt.sent = 0.0
            attempt.connect(self._upstreams, is_fresh=True)
            return
        attempt.fail(failure, monotonic(), self._random)
        attempts.candidates.fail(attempt.step, failure, monotonic())
        attempts.running.remove(attempt)
        if not attempts.running:
            attempts.exchange.step(Event.MOVE_ON)
        attempts.wake()

    def on_broken(self, attempt: Attempt, failure: AttemptFailure) -> None:
        """A source broke off its answer. The caller can always see that it is incomplete. (Contract §4.4.)"""
        pump = attempt.pump
        assert pump is not None  # noqa: S101  (it brings an answer)
        if failure.kind is not FailureKind.TOTAL_TIMEOUT:
            self._note_broken(attempt, failure._replace(detail="stopped in the middle of an answer"))
        exchange = attempt.group.exchange
        exchange.error_code = Kind.PROVIDER_ERROR.code if pump.reader.error is None else pump.reader.error.code
        exchange.step(Event.CUT)
        pump.cut_short(broken_off(failure, is_named=exchange.key is None))
        self._end(attempt)

    def _note_broken(self, attempt: Attempt, failure: AttemptFailure) -> None:
        attempt.result = failure.word
        attempt.step.breaker.record_broken(monotonic(), failure, self._random, account=attempt.permit.account)

    def on_crash(self, attempt: Attempt) -> None:
        """The gateway itself has failed: the request ends, and no source is blamed or asked again."""
        attempts = attempt.group
        if attempts.exchange.has_ended:
            attempts.end()
            attempts.downstream.abort()
        else:
            self._answer_error(attempts, internal_error())

    def _end(self, attempt: Attempt) -> None:
        attempt.is_over = True
        attempt.group.end()

    # ---- the other ways out

    def on_leave(self, attempts: Attempts) -> None:
        """The caller has left: stop paying for its answer at once. The source is not blamed. (Contract §4.5.)"""
        self._abandon(attempts, Event.LEAVE)

    def drain(self) -> None:
        """End every request that is still being served, in a way that its caller can see. (Contract §4.4, §13.)"""
        for attempts in list(self.live):
            if attempts.exchange.is_committed:
                self._abandon(attempts, Event.DRAIN)
            elif not attempts.exchange.has_ended:
                attempts.downstream.cancel()

    def _cancelled(self, attempts: Attempts) -> None:
        """The coroutine was cancelled: the gateway goes down. `on_leave` has already ended a request whose caller has left."""
        downstream = attempts.downstream
        if downstream.is_open and not attempts.exchange.is_committed:
            self._answer_error(attempts, draining())
        else:
            self._abandon(attempts, Event.DRAIN if downstream.is_open else Event.LEAVE)

    def _abandon(self, attempts: Attempts, event: Event) -> None:
        """End a request that nobody waits for any more (LEAVE), or for which there is no more time (DRAIN)."""
        exchange, answering = attempts.exchange, attempts.answering
        if exchange.has_ended:
            return
        attempts.end()
        if event is Event.DRAIN and exchange.is_committed and answering is not None and answering.pump is not None:
            answering.pump.cut_short(draining())
        exchange.step(event)
        exchange.status = exchange.status or _CLIENT_CLOSED_REQUEST

    def _answer_error(self, attempts: Attempts, error: GatewayError) -> None:
        """Answer with an error of the gateway's own; if an answer has begun, it shows only in the closed connection."""
        exchange = attempts.exchange
        if exchange.has_ended:
            return  # it has been answered, and the connection may serve another request already
        attempts.end()
        if exchange.is_committed:
            exchange.step(Event.CUT)
            attempts.downstream.abort()
            return
        if error.kind is Kind.DRAINING:
            exchange.step(Event.DRAIN)
        else:
            if exchange.is_sent:
                exchange.step(Event.MOVE_ON)
            sources_failed = error.kind in _ABOUT_SOURCES or (bool(exchange.attempts) and error.kind.status >= 429)
            exchange.step(Event.EXHAUST if sources_failed else Event.REJECT)
        exchange.error_code = error.kind.code
        self._own_answers.send_error(exchange, attempts.downstream, error)

    # ---- before a request is complete

    def screen(self, head: RequestHead, headers: Headers) -> int | None:
        """Refuse a request whose body would be read in vain. Returns the most bytes of the body; None for the usual limit."""
        return None if self._meter is None else self._meter.screen(head, headers, self._current(), monotonic())

    def reject(self, error: GatewayError, request_id: str) -> None:
        """Count and log a request that was refused before it could be served."""
        self._counters.reject(error.kind.code)
        if self._log is not None:
            self._log.write(other_record(request_id, "-", error.kind.status, time.time()))

    @property
    def in_flight(self) -> int:
        """The number of requests that are being served."""
        return len(self.live)

    # ---- settle

    def _settle(self, attempts: Attempts) -> None:
        self.live.discard(attempts)
        self._settlement.settle(attempts.exchange, attempts.answering, monotonic())
        attempts.release()
