"""Translates between callers who speak Responses and sources that speak chat completions, or Messages."""

from __future__ import annotations

from kyma_proxy.dialect.responses.chat_source import ResponsesToChat
from kyma_proxy.dialect.responses.messages_source import ResponsesToMessages
from kyma_proxy.dialect.responses.request import Target
from kyma_proxy.dialect.translation import Order


def to_chat(order: Order) -> ResponsesToChat:
    """Return the translation of a request. Raises GatewayError if a chat request can't express it."""
    field = order.max_tokens_field or "max_tokens"
    target = Target(order.model, field, None, order.asks_for_usage, order.thoughts, supports=order.supports)
    return ResponsesToChat(order.body, target, public_model=order.public_model, request_id=order.request_id, created=order.now)


def to_messages(order: Order) -> ResponsesToMessages:
    """Return the translation of a request. Raises GatewayError if Anthropic's dialect can't express it."""
    return ResponsesToMessages(order)
