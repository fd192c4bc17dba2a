"""Serves a body that was sent to another endpoint as what it is. (Contract §2.)"""

from __future__ import annotations

from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body_shape import CONVERSATIONS
from kyma_proxy.dialect.registry import endpoint_of


def move_to(exchange: Exchange, key: str) -> None:
    """Let a request be one to the endpoint with this key, which its body is for: its answer is in that one's dialect."""
    if exchange.endpoint.key not in CONVERSATIONS:
        return
    endpoint = endpoint_of(key)
    exchange.asked_at = exchange.endpoint.name
    exchange.endpoint = endpoint
    exchange.inbound.path = b"/v1" + endpoint.path
