"""Callers who speak OpenAI, over sources that speak Anthropic."""

from __future__ import annotations

from kyma_proxy.config.snapshot import Model, Source
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic


def translate(exchange: Exchange, source: Source, model: Model, now: int) -> OpenAIToAnthropic:
    """A request's translation. Raises GatewayError for what has no place in Anthropic's dialect."""
    return OpenAIToAnthropic(
        exchange.inbound.body, source.model, shown_model=model.id, default_max_tokens=exchange.snapshot.max_tokens, created=now
    )
