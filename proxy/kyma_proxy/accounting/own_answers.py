"""Sends the gateway's own answers to relayed requests: errors, and the estimate of a prompt's tokens. (Contract §2, §5.)"""

from __future__ import annotations

from time import monotonic

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.config.snapshot import Route
from kyma_proxy.core.accounts.estimate import estimated_prompt_tokens
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.answers import error_lines, id_lines, json_answer
from kyma_proxy.core.http.headers import KEEP_ALIVE
from kyma_proxy.core.routing.resolve import is_answered, unanswerable
from kyma_proxy.dialect.registry import DIALECTS, MAIN_ENDPOINTS, RELAYED, asked_endpoints
from kyma_proxy.errors import GatewayError
from kyma_proxy.net.downstream.connection import DownstreamConnection


class OwnAnswers:
    """Sends answers that no provider wrote. `meter` is there if requests are metered."""

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter

    def send_error(self, exchange: Exchange, downstream: DownstreamConnection, error: GatewayError) -> None:
        """Answer with an error of the gateway's own, in the caller's dialect."""
        dialect, request_id = DIALECTS[exchange.endpoint.dialect], exchange.inbound.request_id
        body = dialect.error_body(error, request_id)
        self._send(exchange, downstream, dialect.status_of(error.kind), body, error_lines(error, request_id, dialect.id_field))

    def send_estimate(self, exchange: Exchange, downstream: DownstreamConnection) -> None:
        """Answer with an estimate of the prompt's tokens, which is marked as one."""
        body = b'{"input_tokens":%d}' % estimated_prompt_tokens(exchange.inbound.body)
        added = id_lines(exchange.inbound.request_id, DIALECTS[exchange.endpoint.dialect].id_field)
        self._send(exchange, downstream, 200, body, b"%bx-kyma-estimated: true\r\n" % added)

    def common_lines(self, exchange: Exchange) -> bytes:
        """The lines of every answer's head: cross-origin access, and what a metered caller has left of its limits."""
        lines, key = exchange.inbound.cors, exchange.key
        if key is None or self._meter is None:
            return lines
        return lines + self._meter.lines(key.account, exchange.snapshot.tiers, monotonic())

    def _send(self, exchange: Exchange, downstream: DownstreamConnection, status: int, body: bytes, added: bytes) -> None:
        """Send a whole answer; `added` holds lines of its head."""
        inbound = exchange.inbound
        exchange.status, exchange.bytes_out = status, len(body)
        added += self.common_lines(exchange)
        close = not inbound.keep_alive or downstream.will_close
        if inbound.is_http_10 and not close:
            added += KEEP_ALIVE
        downstream.respond(json_answer(status, body, added, close=close), close=close)


def check_is_estimated(exchange: Exchange, route: Route) -> None:
    """Raises GatewayError unless the gateway can answer by itself for a model that is answered elsewhere."""
    endpoint = exchange.endpoint
    if not (endpoint.is_estimated and is_answered(exchange.snapshot, MAIN_ENDPOINTS[endpoint.dialect], route.model)):
        others = (MAIN_ENDPOINTS[endpoint.dialect], *MAIN_ENDPOINTS.values(), *RELAYED.values())
        is_open = exchange.key is None
        raise unanswerable(route.model, endpoint, exchange.snapshot, others, asked_endpoints(endpoint), are_named=is_open)
