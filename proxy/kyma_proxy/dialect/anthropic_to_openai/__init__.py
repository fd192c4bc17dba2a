"""Translates between callers who speak Anthropic and sources that speak OpenAI."""

from __future__ import annotations

from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.translation import Order


def translate(order: Order) -> AnthropicToOpenAI:
    """Return the translation of a request. Raises GatewayError if OpenAI's dialect can't express the request."""
    return AnthropicToOpenAI(
        order.body, order.model, public_model=order.public_model, max_tokens_field=order.max_tokens_field,
        default_max_tokens=order.default_max_tokens, asks_for_usage=order.asks_for_usage,
        reasoning_field=order.reasoning_field, reasoning_parser=order.reasoning_parser, calls_need=order.calls_need,
        source=order.source, request_id=order.request_id, supports=order.supports,
    )  # fmt: skip
