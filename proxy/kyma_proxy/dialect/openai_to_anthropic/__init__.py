"""Translates between callers who speak OpenAI and sources that speak Anthropic."""

from __future__ import annotations

from kyma_proxy.config.snapshot import Model, Source
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic


def translate(exchange: Exchange, source: Source, model: Model, now: int) -> OpenAIToAnthropic:
    """Return the translation of a request. Raises GatewayError if Anthropic's dialect can't express the request."""
    return OpenAIToAnthropic(
        exchange.inbound.body, source.model, public_model=model.id, default_max_tokens=exchange.snapshot.max_tokens, created=now
    )
