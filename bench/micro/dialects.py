"""Operations between two dialects: each function prepares one and gives it. In one direction callers speak Anthropic."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from bench.micro.material import LONG
from bench.micro.replies import stream
from kyma_proxy.core.accounts.estimate import estimated_prompt_tokens
from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.translation import Translation

_CREATED: Final = 1_783_330_200
_SOURCE_OF: Final = {"anthropic": "openai", "openai": "anthropic"}


def _long() -> bytes:
    """The long body as Anthropic's callers send it."""
    document = json.loads(LONG)
    system, *messages = document["messages"]
    tools = [
        {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} | {"description": "It looks it up."}
        for tool in document["tools"]
    ]
    own = {
        "model": "large",
        "max_tokens": 500,
        "system": system["content"],
        "messages": messages,
        "tools": tools,
        "stream": True,
    }
    return json.dumps(own, ensure_ascii=False, separators=(",", ":")).encode()


_BODIES: Final = {"openai": LONG, "anthropic": _long()}


def _translation(caller: str) -> Translation:
    body = _BODIES[caller]
    if caller == "anthropic":
        return AnthropicToOpenAI(body, "gpt-large", public_model="large", asks_for_usage=True)
    return OpenAIToAnthropic(body, "claude-large", public_model="large", default_max_tokens=4096, created=_CREATED)


def asking(caller: str) -> Callable[[], object]:
    """A long request is translated for a source of the other dialect."""
    return lambda: _translation(caller).request.body


def telling(caller: str) -> Callable[[], object]:
    """A text event in mid-stream is translated for a caller of this dialect."""
    events = stream(_SOURCE_OF[caller])
    under_way, word = _translation(caller).stream(), events[2]
    under_way.feed(b"".join(events[:2]))
    return lambda: under_way.feed(word)


def estimating() -> Callable[[], object]:
    """The tokens of a long prompt are estimated, where no source can count them."""
    body = _BODIES["anthropic"]
    return lambda: estimated_prompt_tokens(body)
