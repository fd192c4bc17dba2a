"""Serves a body that was sent to another endpoint than its own. (Contract §2.)"""

from __future__ import annotations

from typing import Final

from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.core.http.body_shape import CHAT, CONVERSATIONS, RESPONSES, RESPONSES_OF_CHAT
from kyma_proxy.dialect.registry import endpoint_of
from kyma_proxy.dialect.responses.request import Target, translate_request
from kyma_proxy.dialect.translation import NO_RULES
from kyma_proxy.errors import GatewayError, Kind

MAX_BYTES: Final = 2 * 2**20
"""The largest body that is written anew at once: it takes some 10 ms."""


def serve_as(exchange: Exchange, shape: str) -> None:
    """Serve a request as one to the endpoint that its body is for: its answer is in that one's dialect.

    A body of Responses whose client reads chat completions becomes a chat request. Raises GatewayError if it can't.
    """
    asked = exchange.endpoint
    if asked.key not in CONVERSATIONS:
        return
    if shape == RESPONSES_OF_CHAT:
        if asked.key == RESPONSES:
            return
        if asked.key == CHAT:
            _become_chat(exchange)
            return
        shape = RESPONSES
    exchange.asked_at = asked.name
    exchange.endpoint = endpoint_of(shape)
    exchange.inbound.path = b"/v1" + exchange.endpoint.path


def _become_chat(exchange: Exchange) -> None:
    body, routing = exchange.inbound.body, exchange.routing
    if len(body) > MAX_BYTES:
        raise GatewayError(Kind.INVALID_REQUEST, "This is a body of Responses; send it to /v1/responses.", param="input")
    assert routing is not None  # noqa: S101  (its shape is known)
    request = translate_request(body, Target(routing.model, "max_tokens", None, True, NO_RULES))
    exchange.asked_at, exchange.lost = exchange.endpoint.name, request.dropped
    exchange.inbound.body = request.body
    is_metered, asks_usage = exchange.key is not None, exchange.snapshot.asks_usage
    exchange.routing = read_routing_fields(request.body, is_metered=is_metered, asks_usage=asks_usage)
