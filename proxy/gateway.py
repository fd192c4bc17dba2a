"""The path of a relayed request, from top to bottom: receive, route, plan, attempt, relay, settle.

One coroutine a request; it waits for a connection and for the answer's end, and for nothing else. What is decided is
decided by the pure functions of `core`; what flows, flows through `net.relay` without coming back here. Cancelling the
coroutine is how the caller's leaving arrives. `settle` never waits, so nothing can be lost on the way out.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from proxy.config.snapshot import Model, Snapshot
from proxy.core.answers import cors_lines, error_lines, json_answer
from proxy.core.body import patched, read_head
from proxy.core.endpoints import RELAYED
from proxy.core.exchange import ABANDONED, ANSWERED, Attempt, Event, Exchange
from proxy.core.headers import KEEP_ALIVE, request_head
from proxy.core.inbound import Inbound
from proxy.core.outcome import Failed, Failure, exhausted
from proxy.core.plan import Step, plan
from proxy.dialect.known import DIALECTS
from proxy.errors import GatewayError, Kind
from proxy.net.edge import Edge
from proxy.net.pool import DialFailed, UpstreamPool
from proxy.net.relay import Relay
from proxy.net.turn import Outcome
from proxy.net.upstream import UpstreamConnection, monotonic
from proxy.telemetry.counters import Counters
from proxy.telemetry.record import Record
from proxy.telemetry.recording import other_record, record_of

_log: Final = logging.getLogger("kyma-proxy")
_MOST_COMPARED: Final = 20


class Log(Protocol):
    """Where records go."""

    def write(self, record: Record) -> None:
        """Take a record, at once."""


class Gateway:
    """Serves relayed requests. Everything it needs is handed to it; it keeps only who is being served."""

    def __init__(
        self,
        current: Callable[[], Snapshot],
        upstreams: UpstreamPool,
        counters: Counters,
        log: Log | None,
        random: Callable[[], float],
    ) -> None:
        self._current = current
        self._upstreams = upstreams
        self._counters = counters
        self._log = log
        self._random = random
        self._live: dict[Exchange, Edge] = {}

    async def relay(self, inbound: Inbound, edge: Edge) -> None:
        """Serve one request, whatever happens to it."""
        exchange = Exchange(inbound, RELAYED[inbound.path], self._current())
        self._live[exchange] = edge
        try:
            model = self._route(exchange)
            steps = self._plan(exchange, model)
            await self._attempt_all(exchange, model, steps, edge)
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

    def _route(self, exchange: Exchange) -> Model:
        """The model that the caller asks for."""
        head = exchange.head = read_head(exchange.inbound.body)
        snapshot = exchange.snapshot
        model = snapshot.models.get(head.model)
        if model is None:
            target = snapshot.aliases.get(head.model)
            if target is None:
                raise _unknown_model(head.model, snapshot)
            exchange.alias = head.model
            model = snapshot.models[target]
        exchange.model = model
        return model

    def _plan(self, exchange: Exchange, model: Model) -> tuple[Step, ...]:
        dialect = exchange.endpoint.dialect
        steps = plan(model, dialect, self._random)
        if steps:
            return steps
        if model.is_image:
            raise GatewayError(Kind.INVALID_REQUEST, f"{model.id} makes images and does not answer here.", param="model")
        others = {source.provider.dialect for source in model.pool if source.provider.off is None}
        if others:
            where = "/v1/messages" if "anthropic" in others else "/v1/chat/completions"
            raise GatewayError(
                Kind.INVALID_REQUEST, f"No source of {model.id} speaks {dialect}; ask for it at {where}.", param="model"
            )
        raise exhausted(model.id, ())

    # ---- attempt and relay

    async def _attempt_all(self, exchange: Exchange, model: Model, steps: tuple[Step, ...], edge: Edge) -> None:
        """Try one source after the other until one has answered. Raises GatewayError when none has."""
        failures = []
        for step in steps:
            attempt = Attempt(step.source.provider.name, ABANDONED)
            exchange.attempts.append(attempt)
            failed = await self._attempt(exchange, step, edge, is_last=step is steps[-1])
            if failed is None:
                attempt.result = ANSWERED
                return
            attempt.result = failed.word
            exchange.step(Event.MOVE_ON)
            failures.append(failed)
            if failed.failure is Failure.TOTAL_TIMEOUT:
                break
        raise exhausted(model.id, failures)

    async def _attempt(self, exchange: Exchange, step: Step, edge: Edge, *, is_last: bool) -> Failed | None:
        """Ask one source. Its failure, or None when the caller has been answered (or has left)."""
        source = step.source
        timeouts = source.timeouts
        total_due = None if timeouts.total is None else exchange.inbound.received + timeouts.total
        if total_due is not None and monotonic() >= total_due:
            return Failed(Failure.TOTAL_TIMEOUT, source.provider.name, "no time was left for it")
        connection = self._upstreams.take(source.provider.origin)
        while True:
            if connection is None:
                try:
                    connection = await self._dial(exchange, step, total_due)
                except DialFailed as error:
                    return Failed(error.failure, source.provider.name, error.detail)
            outcome: Outcome[Failed | None] = Outcome()
            relay = Relay(
                exchange, step, edge, connection, DIALECTS[exchange.endpoint.dialect],
                is_last=is_last, added_head=self._added_head, outcome=outcome,
            )  # fmt: skip
            exchange.answering = relay
            edge.attach(relay)
            if not exchange.is_sent:
                exchange.step(Event.SEND)
            connection.send(relay, self._request(exchange, step), timeouts, total_due)
            if not exchange.sent:
                exchange.sent = connection.sent_at
                exchange.overhead_s += connection.sent_at - exchange.inbound.received - exchange.dialled_s
            failed = await outcome
            if failed is None:
                exchange.usage = relay.usage()
                return None
            if not relay.was_stale:
                return failed
            # The provider closed an idle connection in the moment in which it was chosen. (Contract §9.)
            self._counters.stale_retries += 1
            connection = None

    def _request(self, exchange: Exchange, step: Step) -> list[bytes | memoryview]:
        """The bytes of the request to a source: its head, and the caller's body with one value replaced."""
        inbound, head, endpoint, source = exchange.inbound, exchange.head, exchange.endpoint, step.source
        assert head is not None  # noqa: S101  (routed)
        insertion = b""
        max_tokens = exchange.snapshot.max_tokens
        if max_tokens is not None and endpoint.takes_max_tokens and not head.has_max_tokens:
            member = source.max_tokens_field if endpoint.name == "chat/completions" else None
            insertion = b'"%b":%d,' % ((member or "max_tokens").encode(), max_tokens)
        body = patched(inbound.body, head, source.model_json, insertion)
        if len(body) == 1:
            return [b"".join((request_head(inbound, endpoint, source, len(body[0])), body[0]))]
        return [request_head(inbound, endpoint, source, sum(map(len, body))), *body]

    async def _dial(self, exchange: Exchange, step: Step, total_due: float | None) -> UpstreamConnection:
        began = monotonic()
        limit = step.source.timeouts.connect
        if total_due is not None:
            limit = total_due - began if limit is None else min(limit, total_due - began)
        try:
            return await self._upstreams.dial(step.source.provider, limit)
        finally:
            exchange.dialled_s += monotonic() - began

    def _added_head(self, exchange: Exchange, step: Step) -> bytes:
        """The gateway's own lines of a relayed answer's head. (Contract §4.2.)"""
        inbound = exchange.inbound
        model = exchange.model
        alias = b"" if exchange.alias is None else b"x-kyma-alias: %b\r\n" % exchange.alias.encode()
        fallback = b"" if not step.layer else b"x-kyma-fallback: true\r\nx-kyma-fallback-layer: %d\r\n" % step.layer
        return b"x-request-id: %b\r\nx-kyma-model: %b\r\n%b%b%b" % (
            inbound.request_id.encode(),
            b"" if model is None else model.id.encode(),
            alias,
            fallback,
            cors_lines(inbound.headers, exchange.snapshot.cors_origins),
        )

    # ---- the other ways out

    def _refuse(self, exchange: Exchange, error: GatewayError, edge: Edge) -> None:
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
            was_tried = bool(exchange.attempts) or error.kind is Kind.NO_SOURCE_AVAILABLE
            exchange.step(Event.EXHAUST if was_tried else Event.REJECT)
        exchange.status = error.kind.status
        inbound = exchange.inbound
        body = DIALECTS[exchange.endpoint.dialect].error_body(error, inbound.request_id)
        exchange.bytes_out = len(body)
        added = error_lines(error, inbound.request_id) + cors_lines(inbound.headers, exchange.snapshot.cors_origins)
        close = not inbound.keep_alive or edge.will_close
        if inbound.is_http_10 and not close:
            added += KEEP_ALIVE
        edge.respond(json_answer(error.kind.status, body, added, close=close), close=close)

    def _leave(self, exchange: Exchange, edge: Edge) -> None:
        """The task was cancelled: the caller has left, or the gateway is going down and can't wait any longer."""
        answering = exchange.answering
        if edge.is_open and not exchange.has_ended:
            self._refuse(exchange, GatewayError(Kind.DRAINING, "The gateway is going down; send the request again."), edge)
            return
        if answering is not None:
            answering.abandon(Event.LEAVE)
            exchange.usage = answering.usage()
            if exchange.answered_by is not None:
                exchange.attempts[-1].result = ANSWERED
        if not exchange.has_ended:
            exchange.step(Event.LEAVE)
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
        """Count and log what has ended. Never waits, and never fails the task."""
        now = monotonic()
        exchange.answering = None
        del self._live[exchange]
        try:
            self._counters.count(exchange, now)
            if self._log is not None:
                self._log.write(record_of(exchange, time.time(), now))
        except Exception:
            _log.exception("request %s could not be logged", exchange.inbound.request_id)

    def reject(self, error: GatewayError, request_id: str) -> None:
        """Count and log a request that was refused at the door."""
        self._counters.reject(error.kind.code)
        if self._log is not None:
            self._log.write(other_record(request_id, "-", error.kind.status, time.time()))


def _unknown_model(name: str, snapshot: Snapshot) -> GatewayError:
    # Comparing is slow, and the loop has streams to serve: only names that begin alike are looked at.
    alike = [known for known in (*snapshot.models, *snapshot.aliases) if known[:2].lower() == name[:2].lower()]
    close = difflib.get_close_matches(name[:64], alike[:_MOST_COMPARED], n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]}?" if close else ";"
    return GatewayError(Kind.MODEL_NOT_FOUND, f"There is no model {name}{hint} GET /v1/models lists them all.", param="model")
