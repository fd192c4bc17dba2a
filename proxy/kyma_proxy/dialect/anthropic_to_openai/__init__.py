"""Translates between callers who speak Anthropic and sources that speak OpenAI."""

from __future__ import annotations

from kyma_proxy.config.snapshot import Model, Source
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.dialect.anthropic_to_openai.request import AnthropicToOpenAI


def translate(exchange: Exchange, source: Source, model: Model, now: int) -> AnthropicToOpenAI:
    """Return the translation of a request. Raises GatewayError if OpenAI's dialect can't express the request."""
    return AnthropicToOpenAI(
        exchange.inbound.body, source.model, public_model=model.id, max_tokens_field=source.max_tokens_field,
        default_max_tokens=exchange.snapshot.max_tokens, asks_for_usage=source.stream_usage,
        reasoning_field=source.reasoning_field, request_id=exchange.inbound.request_id,
    )  # fmt: skip
