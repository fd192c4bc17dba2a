"""This file knows every dialect that is relayed, and how to get from one to another."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from kyma_proxy.config.snapshot import Model, Source
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.anthropic_to_openai.request import AnthropicToOpenAI
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.translation import Translation
from kyma_proxy.errors import GatewayError, Kind

_IMAGES: Final = (b'{"type":"image_url"', b'{"type":"image"')
"""How an image begins in a translated request; within a text the quotes would be escaped."""
_WRITTEN_IMAGE: Final = re.compile(rb'"type"[ \t\r\n]*:[ \t\r\n]*"(?:image|image_url|input_image)"')
"""How it is said that something is one, as callers write it."""

DIALECTS: Final = MappingProxyType({dialect.name: dialect for dialect in (OPENAI, ANTHROPIC)})


def translation(exchange: Exchange, source: Source, model: Model, now: int) -> Translation:
    """The translation for a source that speaks another dialect; `now` is Unix time.

    Raises GatewayError where what the caller asks for can't be said in the source's dialect.
    """
    body, tokens = exchange.inbound.body, exchange.snapshot.max_tokens
    made: Translation
    if source.provider.dialect == OPENAI.name:
        made = AnthropicToOpenAI(
            body, source.model, shown_model=model.id, max_tokens_field=source.max_tokens_field, default_max_tokens=tokens,
            asks_for_usage=source.stream_usage, reasoning_field=source.reasoning_field,
            request_id=exchange.inbound.request_id,
        )  # fmt: skip
    else:
        made = OpenAIToAnthropic(body, source.model, shown_model=model.id, default_max_tokens=tokens, created=now)
    if not _has_eyes(model) and any(mark in made.asked.body for mark in _IMAGES):
        raise _blind(model)
    return made


def refuse_blind(body: bytes, substitute: Model) -> None:
    """Raises GatewayError where a caller's prompt holds an image, and the model that would answer in another's place sees none.

    Who asks for the model by its name gets what its source says; here nobody has, and what the source says could not be mended.
    """
    if not _has_eyes(substitute) and _WRITTEN_IMAGE.search(body) is not None:
        raise _blind(substitute)


def _has_eyes(model: Model) -> bool:
    return "image" in model.input_modalities


def _blind(model: Model) -> GatewayError:
    return GatewayError(
        Kind.INVALID_REQUEST,
        f"{model.id} takes no images; GET /v1/models says which models do (`input_modalities`).",
        param="messages",
    )
