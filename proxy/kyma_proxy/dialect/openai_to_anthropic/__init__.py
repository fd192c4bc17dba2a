"""Translates between callers who speak OpenAI and sources that speak Anthropic."""

from __future__ import annotations

from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.translation import Order


def translate(order: Order) -> OpenAIToAnthropic:
    """Return the translation of a request. Raises GatewayError if Anthropic's dialect can't express the request."""
    return OpenAIToAnthropic(
        order.body, order.model, public_model=order.public_model, default_max_tokens=order.default_max_tokens,
        created=order.now, supports=order.supports,
    )  # fmt: skip
