"""This file knows every dialect that is relayed, and how to get from one to another."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from proxy.config.snapshot import Source
from proxy.core.exchange import Exchange
from proxy.dialect.anthropic import ANTHROPIC
from proxy.dialect.anthropic_to_openai import AnthropicToOpenAI
from proxy.dialect.openai import OPENAI
from proxy.dialect.openai_to_anthropic import OpenAIToAnthropic
from proxy.dialect.translation import Translation

DIALECTS: Final = MappingProxyType({dialect.name: dialect for dialect in (OPENAI, ANTHROPIC)})


def translation(exchange: Exchange, source: Source, shown_model: str, now: int) -> Translation:
    """The translation for a source that speaks another dialect; `now` is Unix time.

    Raises GatewayError where what the caller asks for can't be said in the source's dialect.
    """
    body, tokens = exchange.inbound.body, exchange.snapshot.max_tokens
    if source.provider.dialect == OPENAI.name:
        return AnthropicToOpenAI(
            body, source.model, shown_model=shown_model, max_tokens_field=source.max_tokens_field, default_max_tokens=tokens,
            asks_for_usage=source.stream_usage,
        )  # fmt: skip
    return OpenAIToAnthropic(body, source.model, shown_model=shown_model, default_max_tokens=tokens, created=now)
