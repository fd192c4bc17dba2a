"""The path of a relayed request, from top to bottom: receive, identify, route, plan, admit, attempt, relay, settle.

One coroutine a request; it waits for a connection and for the answer's end, and for nothing else. What is decided is
decided by the pure functions of `core`; what flows, flows through `net.relay` without coming back here. Cancelling the
coroutine is how the caller's leaving arrives. `settle` never waits, so nothing can be lost on the way out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from kyma_proxy.accounting.meter import Meter, MeteredRequest
from kyma_proxy.config.snapshot import Route, Snapshot
from kyma_proxy.core.accounts.charging import NOTHING, bill
from kyma_proxy.core.accounts.estimate import estimated_prompt_tokens
from kyma_proxy.core.accounts.reservation import Reservation
from kyma_proxy.core.exchange import ABANDONED, Attempt, Event, Exchange, State
from kyma_proxy.core.http.answers import cors_lines, error_lines, id_lines, json_answer, listed
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.core.http.endpoints import RELAYED
from kyma_proxy.core.http.headers import KEEP_ALIVE
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.core.routing.breaker import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, exhausted
from kyma_proxy.core.routing.plan import Step, last_resort, open_breakers, plan
from kyma_proxy.core.routing.resolve import has_translated, route_of, unanswerable
from kyma_proxy.dialect.registry import DIALECTS
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.connection import DownstreamConnection
from kyma_proxy.net.relay.attempts import Attempts, wait_first
from kyma_proxy.net.relay.pump import Relay
from kyma_proxy.net.relay.translated import relay_of
from kyma_proxy.net.upstream.connection import UpstreamConnection, monotonic
from kyma_proxy.net.upstream.pool import DialError, UpstreamPool
from kyma_proxy.telemetry.counters import Counters
from kyma_proxy.telemetry.record import Log
from kyma_proxy.telemetry.recording import other_record, record_of

_log: Final = logging.getLogger("kyma-proxy")
_TELLS_OF_THE_MODEL: Final = frozenset({State.COMPLETED, State.RELAYED_ERROR, State.FAILED, State.BROKEN})


class Gateway:
    """Serves relayed requests. Everything it needs is handed to it; it keeps only who is being served."""

    def __init__(
        self,
        current: Callable[[], Snapshot],
        upstreams: UpstreamPool,
        counters: Counters,
        log: Log | None,
        *,
        health: BreakerTable,
        random: Callable[[], float],
        meter: Meter | None = None,
    ) -> None:
        """Requests are metered where there is a meter; where there is none, everybody may call."""
        self._current = current
        self._upstreams = upstreams
        self._health = health
        self._counters = counters
        self._log = log
        self._random = random
        self._meter = meter
        self._live: dict[Exchange, DownstreamConnection] = {}

    async def relay(self, inbound: Inbound, edge: DownstreamConnection) -> None:
        """Serve one request, whatever happens to it."""
        exchange = Exchange(inbound, RELAYED[inbound.path], self._current())
        self._live[exchange] = edge
        meter = self._meter
        try:
            if meter is not None:
                exchange.key = meter.identify(inbound.headers)
            route = self._route(exchange)
            steps = self._plan(exchange, route)
            if meter is not None:
                self._admit(exchange, meter, route)
            await self._attempt_all(exchange, route, steps, edge)
        except GatewayError as error:
            self._refuse(exchange, error, edge)
        except asyncio.CancelledError:
            self._leave(exchange, edge)
        except Exception:
            _log.exception("request %s failed inside the gateway", inbound.request_id)
            self._refuse(exchange, GatewayError(Kind.INTERNAL, "The gateway failed; its log has the request id."), edge)
        finally:
            self._settle(exchange)

    # ---- route and plan

    def _route(self, exchange: Exchange) -> Route:
        """What can answer for the model that the caller asks for, in the caller's dialect."""
        head = exchange.routing = read_routing_fields(exchange.inbound.body, is_metered=self._meter is not None)
        route, is_alias = route_of(exchange.snapshot, exchange.endpoint, head.model)
        if is_alias:
            exchange.alias = head.model
        exchange.route = route
        exchange.model = route.model
        return route

    def _plan(self, exchange: Exchange, route: Route) -> tuple[Step, ...]:
        steps = plan(route, self._health, monotonic(), self._random)
        if steps or not route.is_empty or (exchange.endpoint.is_estimated and has_translated(exchange.snapshot, route.model)):
            return steps
        raise unanswerable(route.model, exchange.endpoint.dialect)

    def _admit(self, exchange: Exchange, meter: Meter, route: Route) -> None:
        """Take a place in the caller's limits, and hold what the request may cost."""
        head, key, inbound = exchange.routing, exchange.key, exchange.inbound
        assert head is not None and key is not None  # noqa: S101, PT018  (routed, identified)
        assert head.written is not None  # noqa: S101  (metered)
        asked = MeteredRequest(exchange.endpoint, route.model, head.written)
        exchange.reservation = meter.admit(key, asked, inbound.body, exchange.snapshot, monotonic())

    # ---- attempt and relay

    async def _attempt_all(self, exchange: Exchange, route: Route, steps: tuple[Step, ...], edge: DownstreamConnection) -> None:
        """Ask one source after the other, or a slow one's successor beside it, until one has answered.

        Raises GatewayError when none has. Two run at once only where a model is hedged; the first to commit wins.
        """
        course = Attempts(steps, route, self._health, can_estimate=exchange.endpoint.is_estimated)
        running = course.running
        try:
            while True:
                if not running:
                    if course.is_left_to_estimate():
                        self._estimate(exchange, edge)
                        return
                    if not course.left:
                        self._last_resort(route, course)
                    self._start(exchange, course, edge)
                    continue
                relay = await wait_first(exchange, course)
                if relay is None:
                    self._start(exchange, course, edge)
                    continue
                running.remove(relay)
                if relay.failed is None:
                    self._conclude(exchange, relay, running)
                    return
                if relay.was_stale and not exchange.is_committed:
                    # The provider closed an idle connection in the moment in which it was chosen. (Contract §9.)
                    self._counters.stale_retries += 1
                    self._ask(exchange, relay.again(), course, edge, monotonic())
                    continue
                self._blame(exchange, relay, relay.failed, course)
        finally:
            for relay in running:
                relay.let_go()
            running.clear()  # it and its members refer to each other

    def _last_resort(self, route: Route, course: Attempts) -> None:
        """Who is asked when all others have failed. Raises GatewayError when there is nobody left."""
        now = monotonic()
        course.left += reversed(last_resort(route, self._health, now, course.tried))
        if not course.left:
            if course.unsupported is not None and not course.failures:
                raise course.unsupported
            raise exhausted(route.model.id, [*course.failures, *open_breakers(route, self._health, now, course.tried)])

    def _start(self, exchange: Exchange, course: Attempts, edge: DownstreamConnection) -> None:
        """Ask the next of the sources that are left, if it can still be asked."""
        step = course.left.pop()
        name = step.source.provider.name
        now = monotonic()
        if step.source.key in course.tried or not (step.bypass_breaker or step.health.admits(now)):
            return  # it stands in the plan twice, or has begun to rest since the plan was made
        course.tried.add(step.source.key)
        total = step.source.timeouts.total
        total_due = None if total is None else exchange.inbound.received + total
        if total_due is not None and now >= total_due:
            course.failures.append(AttemptFailure(FailureKind.TOTAL_TIMEOUT, name, "no time was left for it"))
            return
        attempt = Attempt(name, ABANDONED)
        exchange.attempts.append(attempt)
        try:
            relay = relay_of(exchange, step, edge, attempt, running=course.running, total_due=total_due,
                             is_last=course.is_last, added_head=self._added_head)  # fmt: skip
        except GatewayError as error:  # what the caller asks for can't be said in the source's dialect
            course.unsupported = error
            exchange.attempts.remove(attempt)
            return
        relay.is_trial = step.health.begin(now)
        self._ask(exchange, relay, course, edge, now)

    def _ask(self, exchange: Exchange, relay: Relay, course: Attempts, edge: DownstreamConnection, now: float) -> None:
        """Send the request to the relay's source: at once over an idle connection, or as soon as a fresh one is open."""
        connection = None if relay.needs_fresh else self._upstreams.take(relay.step.source.provider.origin)
        relay.is_reused = connection is not None
        relay.asked_at = now
        if not course.running:
            course.waits_since = now
        course.running.append(relay)
        if connection is not None:
            self._send(exchange, relay, connection, edge)
        else:
            self._dial(exchange, relay, course, edge, now)

    def _dial(self, exchange: Exchange, relay: Relay, course: Attempts, edge: DownstreamConnection, now: float) -> None:
        limit = relay.step.source.timeouts.connect
        if relay.total_due is not None:
            limit = relay.total_due - now if limit is None else min(limit, relay.total_due - now)

        def dialled(result: UpstreamConnection | DialError) -> None:
            ended = monotonic()
            if not exchange.sent:
                exchange.dialled_s += ended - course.waits_since
                course.waits_since = ended
            if isinstance(result, DialError):
                relay.unreachable(result.failure, result.detail)
            elif relay.is_over:  # nobody waits for it any more
                self._upstreams.put_back(result)
            else:
                try:
                    self._send(exchange, relay, result, edge)
                except Exception:
                    _log.exception("request %s failed inside the gateway", exchange.inbound.request_id)
                    result.abandon()
                    relay.unreachable(FailureKind.CONNECT, "the gateway failed")

        relay.dialling = self._upstreams.dial(relay.step.source.provider, limit, dialled)

    def _send(self, exchange: Exchange, relay: Relay, connection: UpstreamConnection, edge: DownstreamConnection) -> None:
        step = relay.step
        exchange.answering = relay
        edge.attach(relay)
        if not exchange.is_sent:
            exchange.step(Event.SEND)
        relay.begin(connection)
        connection.send(relay, relay.request(), step.source.timeouts, relay.total_due)
        if not exchange.sent:
            exchange.sent = connection.sent_at
            exchange.overhead_s += connection.sent_at - exchange.inbound.received - exchange.dialled_s

    def _blame(self, exchange: Exchange, relay: Relay, failed: AttemptFailure, course: Attempts) -> None:
        """A source has failed; where no other is being asked, the request is open again."""
        relay.attempt.result = failed.word
        relay.step.health.failed(monotonic(), failed, self._random, is_trial=relay.is_trial)
        course.failures.append(failed)
        if not course.running:
            exchange.step(Event.MOVE_ON)

    def _conclude(self, exchange: Exchange, relay: Relay, others: list[Relay]) -> None:
        """An answer is over. Who was asked before and was overtaken was slow; who broke an answer off has failed."""
        now = monotonic()
        exchange.usage = relay.usage()
        if relay.broke_by is not None and relay.broke_by is not FailureKind.TOTAL_TIMEOUT:
            failed = AttemptFailure(relay.broke_by, relay.step.source.provider.name, "stopped in the middle of an answer")
            relay.attempt.result = failed.word
            relay.step.health.failed(now, failed, self._random, is_trial=False, after_answer=True)
        for other in others:
            if other.was_dropped and other.waited_s > relay.waited_s and exchange.answered_by is not None:
                other.attempt.result = FailureKind.OVERTAKEN.value
                slow = AttemptFailure(FailureKind.OVERTAKEN, other.step.source.provider.name, "another was faster")
                other.step.health.failed(now, slow, self._random, is_trial=False)

    def _added_head(self, exchange: Exchange, step: Step) -> bytes:
        """The gateway's own lines of a relayed answer's head. (Contract §4.2.)"""
        inbound = exchange.inbound
        alias = b"" if exchange.alias is None else b"x-kyma-alias: %b\r\n" % exchange.alias.encode()
        fallback = b"" if not step.layer else b"x-kyma-fallback: true\r\nx-kyma-fallback-layer: %d\r\n" % step.layer
        if exchange.dropped:
            fallback += b"x-kyma-dropped: %b\r\n" % listed(exchange.dropped)
        return b"x-request-id: %b\r\nx-kyma-model: %b\r\n%b%b%b%b" % (
            inbound.request_id.encode(),
            step.model.id.encode(),
            alias,
            fallback,
            cors_lines(inbound.headers, exchange.snapshot.cors_origins),
            self._limit_lines(exchange),
        )

    def _limit_lines(self, exchange: Exchange) -> bytes:
        """How much of its limits a metered caller has left."""
        key, meter = exchange.key, self._meter
        return b"" if key is None or meter is None else meter.lines(key.account, exchange.snapshot.tiers, monotonic())

    # ---- the other ways out

    def _refuse(self, exchange: Exchange, error: GatewayError, edge: DownstreamConnection) -> None:
        """Answer with an error of the gateway's own; where an answer has begun, only the connection can tell."""
        if exchange.has_ended:
            return  # it has been answered, and the connection may serve another request already
        if exchange.answering is not None:
            exchange.answering.drop()
        if exchange.is_committed:
            exchange.step(Event.CUT)
            edge.abort()
            return
        if error.kind is Kind.DRAINING:
            exchange.step(Event.DRAIN)
        else:
            if exchange.is_sent:
                exchange.step(Event.MOVE_ON)
            was_tried = bool(exchange.attempts) or error.kind in (Kind.NO_SOURCE_AVAILABLE, Kind.PROVIDER_RATE_LIMITED)
            exchange.step(Event.EXHAUST if was_tried else Event.REJECT)
        exchange.status = error.kind.status
        inbound = exchange.inbound
        dialect = DIALECTS[exchange.endpoint.dialect]
        body = dialect.error_body(error, inbound.request_id)
        exchange.bytes_out = len(body)
        added = error_lines(error, inbound.request_id, dialect.id_field)
        added += cors_lines(inbound.headers, exchange.snapshot.cors_origins) + self._limit_lines(exchange)
        self._respond(exchange, edge, error.kind.status, body, added)

    def _estimate(self, exchange: Exchange, edge: DownstreamConnection) -> None:
        """Count a prompt's tokens for a model of which no source can do that: about, and marked so. (Contract §2.)"""
        inbound = exchange.inbound
        body = b'{"input_tokens":%d}' % estimated_prompt_tokens(inbound.body)
        exchange.step(Event.ANSWER)
        exchange.status, exchange.bytes_out = 200, len(body)
        own_field = DIALECTS[exchange.endpoint.dialect].id_field
        added = b"%bx-kyma-estimated: true\r\n" % id_lines(inbound.request_id, own_field)
        added += cors_lines(inbound.headers, exchange.snapshot.cors_origins) + self._limit_lines(exchange)
        self._respond(exchange, edge, 200, body, added)

    def _respond(self, exchange: Exchange, edge: DownstreamConnection, status: int, body: bytes, added: bytes) -> None:
        inbound = exchange.inbound
        close = not inbound.keep_alive or edge.will_close
        if inbound.is_http_10 and not close:
            added += KEEP_ALIVE
        edge.respond(json_answer(status, body, added, close=close), close=close)

    def _leave(self, exchange: Exchange, edge: DownstreamConnection) -> None:
        """It was cancelled: the caller has left, or the gateway is going down and can't wait any longer."""
        answering = exchange.answering
        if edge.is_open and not exchange.has_ended and not exchange.is_committed:
            self._refuse(exchange, GatewayError(Kind.DRAINING, "The gateway is going down; send the request again."), edge)
            return
        event = Event.DRAIN if edge.is_open else Event.LEAVE
        if answering is not None:
            answering.abandon(event)
            exchange.usage = answering.usage()
        if not exchange.has_ended:
            exchange.step(event)
        exchange.status = exchange.status or 499

    def drain(self) -> None:
        """End every request that is still being served, in a way that its caller can see. (Contract §4.4, §13.)"""
        for exchange, edge in list(self._live.items()):
            if exchange.is_committed and exchange.answering is not None:
                exchange.answering.abandon(Event.DRAIN)
            elif not exchange.has_ended:
                edge.cancel()

    @property
    def in_flight(self) -> int:
        """How many requests are being served."""
        return len(self._live)

    # ---- settle

    def _settle(self, exchange: Exchange) -> None:
        """Count and log what has ended. Never waits, and never fails."""
        now = monotonic()
        del self._live[exchange]
        try:
            if exchange.reservation is not None:
                self._charge(exchange, exchange.reservation)
            exchange.answering = None
            self._counters.count(exchange, now)
            if exchange.route is not None and exchange.state in _TELLS_OF_THE_MODEL:
                went_well = exchange.state not in (State.FAILED, State.BROKEN)
                self._health.of_model(exchange.route.model.id).add(now, went_well=went_well)
            if self._log is not None:
                self._log.write(record_of(exchange, time.time(), now))
        except Exception:
            _log.exception("request %s could not be logged", exchange.inbound.request_id)

    def _charge(self, exchange: Exchange, ticket: Reservation) -> None:
        """Give back what the request holds, and charge what it came to. (Contract §8.)"""
        answering, asked, answered, meter = exchange.answering, exchange.route, exchange.model, self._meter
        assert meter is not None and asked is not None and answered is not None  # noqa: S101, PT018  (admitted)
        due = NOTHING
        try:
            if exchange.endpoint.is_charged and answering is not None:
                due = bill(
                    exchange.state, is_answered=exchange.is_answered, usage=exchange.usage, prompt=ticket.prompt,
                    delivered=answering.delivered, asked=asked.model.price, answered=answered.price,
                )  # fmt: skip
        except Exception:  # what is held must be given back, whatever a provider has sent
            _log.exception("request %s could not be billed", exchange.inbound.request_id)
        exchange.usage = due.usage
        exchange.cost = due.amount
        meter.settle(ticket, due, answered.id, exchange.inbound.request_id, time.time())

    def reject(self, error: GatewayError, request_id: str) -> None:
        """Count and log a request that was refused at the door."""
        self._counters.reject(error.kind.code)
        if self._log is not None:
            self._log.write(other_record(request_id, "-", error.kind.status, time.time()))
