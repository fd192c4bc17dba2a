"""Operations of translation: each function prepares one and returns it. `caller` is the dialect of the caller."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from bench.micro.inputs import LONG
from bench.micro.provider_answers import stream
from kyma_proxy.core.accounts.estimate import estimated_prompt_tokens
from kyma_proxy.dialect import responses
from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.translation import Order, Translation

_CREATED: Final = 1_783_330_200
_RESPONSES: Final = b'{"model":"large","input":"hi","stream":true}'
_EVENTS_OF_A_STREAM: Final = 10_000
_SOURCE_OF: Final = {"anthropic": "openai", "openai": "anthropic"}


def _long() -> bytes:
    """The long body as Anthropic's clients send it."""
    document = json.loads(LONG)
    system, *messages = document["messages"]
    tools = [
        {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} | {"description": "It looks it up."}
        for tool in document["tools"]
    ]
    translated = {
        "model": "large",
        "max_tokens": 500,
        "system": system["content"],
        "messages": messages,
        "tools": tools,
        "stream": True,
    }
    return json.dumps(translated, ensure_ascii=False, separators=(",", ":")).encode()


_BODIES: Final = {"openai": LONG, "anthropic": _long()}


def _translation(caller: str) -> Translation:
    body = _BODIES[caller]
    if caller == "anthropic":
        return AnthropicToOpenAI(body, "gpt-large", public_model="large", asks_for_usage=True)
    return OpenAIToAnthropic(body, "claude-large", public_model="large", default_max_tokens=4096, created=_CREATED)


def request(caller: str) -> Callable[[], object]:
    """Translate a long request for a source of the other dialect."""
    return lambda: _translation(caller).request.body


def event(caller: str) -> Callable[[], object]:
    """Translate one text event of a stream for a caller of this dialect."""
    events = stream(_SOURCE_OF[caller])
    translation, text_event = _translation(caller).stream(), events[2]
    translation.feed(b"".join(events[:2]))
    return lambda: translation.feed(text_event)


def event_of_responses(source: str) -> Callable[[], object]:
    """Translate one text event of a source's stream for a caller of Responses. What is kept of a stream is bounded."""
    events = stream(source)
    translate = responses.to_chat if source == "openai" else responses.to_messages
    translation = translate(Order(_RESPONSES, "large", "large", None, 4096, True, None, "request-1", _CREATED))
    beginning, text_event = b"".join(events[:2]), events[2]
    count, feed = 0, translation.stream().feed

    def operation() -> object:
        nonlocal count, feed
        if not count % _EVENTS_OF_A_STREAM:
            feed = translation.stream().feed
            feed(beginning)
        count += 1
        return feed(text_event)

    return operation


def estimate_tokens() -> Callable[[], object]:
    """Estimate the tokens of a long prompt, as is done if no source can count them."""
    body = _BODIES["anthropic"]
    return lambda: estimated_prompt_tokens(body)
