"""Lets a strict reader read whatever a translation writes in these tests, whole or streamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kyma_proxy.dialect.aggregate import StreamAggregation
from kyma_proxy.dialect.anthropic_to_openai.stream import MessageStream
from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.openai_to_anthropic.stream import ChunkStream
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.responses.chat_source import ResponsesToChat
from kyma_proxy.dialect.responses.stream import ResponseAggregation, ResponseStream
from kyma_proxy.dialect.sse import SseParser
from kyma_proxy.dialect.translation import TranslatedAnswer
from tests.strict_reader import check

_WHOLE = (AnthropicToOpenAI, OpenAIToAnthropic, ResponsesToChat)
_FOLDED = (StreamAggregation, ResponseAggregation)
_STREAMS = (MessageStream, ChunkStream, ResponseStream)


@pytest.fixture(autouse=True, scope="module")
def strict_reader() -> Iterator[None]:
    """Reads every answer, and every event, that a translation returns."""
    with pytest.MonkeyPatch.context() as patching:
        for kind in _WHOLE:
            patching.setattr(kind, "answer", _reading_whole(kind.answer))
        for aggregation in _FOLDED:
            if hasattr(aggregation, "__mypyc_attrs__"):
                continue
            patching.setattr(aggregation, "finish", _reading_whole(aggregation.finish))
        for stream in _STREAMS:
            if hasattr(stream, "__mypyc_attrs__"):  # compiled: nothing can stand between
                continue
            patching.setattr(stream, "feed", _reading_events(stream.feed))
            patching.setattr(stream, "flush", _reading_events(stream.flush))
        yield


def _reading_whole(method: Callable[..., TranslatedAnswer]) -> Callable[..., TranslatedAnswer]:
    def reading(*args: Any) -> TranslatedAnswer:
        answer = method(*args)
        if answer.status < 400:
            check(json.loads(answer.body))
        return answer

    return reading


def _reading_events(method: Callable[..., bytes]) -> Callable[..., bytes]:
    def reading(*args: Any) -> bytes:
        made = method(*args)
        for event in SseParser().feed(made):  # a translation writes whole events only
            if event.data.startswith(b"{"):
                check(json.loads(event.data))
        return made

    return reading
