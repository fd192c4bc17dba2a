"""Translates between callers who speak Responses and sources that speak chat completions. (Contract §2, §4, §5.)

The modules `request`, `items` and `functions` translate requests; `stream`, `output` and `response` translate answers.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.answer import answer_as_stream, decode
from kyma_proxy.dialect.openai import CHAT
from kyma_proxy.dialect.responses.errors import translate_error
from kyma_proxy.dialect.responses.request import Target, translate_request
from kyma_proxy.dialect.responses.response import answer_options
from kyma_proxy.dialect.responses.stream import ResponseAggregation, ResponseStream
from kyma_proxy.dialect.translation import TranslatedAnswer, TranslatedRequest

_EMPTY: Final = (b"null", b"[]", b"{}")


class _Message(msgspec.Struct, gc=False):
    annotations: Raw = Raw(b"null")
    audio: Raw = Raw(b"null")
    images: Raw = Raw(b"null")


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: Any = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice]


_answer: Final = msgspec.json.Decoder(_Answer).decode


class ResponsesToChat:
    """The `Translation` of one request; `created` is a Unix time. Raises GatewayError for what can't be translated."""

    __slots__ = ("_options", "request")

    def __init__(self, body: bytes, target: Target, *, public_model: str, request_id: str, created: int) -> None:
        translated = translate_request(body, target)
        self.request = TranslatedRequest(CHAT, translated.body, translated.dropped, translated.optional)
        self._options = answer_options(translated, public_model, request_id, created, target.thoughts)

    def answer(self, status: int, body: bytes) -> TranslatedAnswer:
        """Translate a whole answer or an error. Raises ValueError if a 2xx answer is none."""
        if status >= 400:
            return translate_error(status, body)
        whole = decode(_answer, body)
        if not whole.choices:
            raise ValueError("the answer has no choice")
        dropped = [
            f"answer.message.{name}"
            for name in _Message.__struct_fields__
            if bytes(getattr(whole.choices[0].message, name)) not in _EMPTY
        ]
        aggregation = self.aggregation()
        aggregation.feed(self.as_stream(body))
        return TranslatedAnswer(status, aggregation.finish().body, tuple(dropped))

    def stream(self) -> ResponseStream:
        """Return a translation for a 2xx answer that streams."""
        return ResponseStream(self._options)

    def as_stream(self, body: bytes) -> bytes:
        """Return a whole answer as a stream of chat completions. Raises ValueError if the body is none."""
        return answer_as_stream(body)

    def aggregation(self) -> ResponseAggregation:
        """Return what makes a stream one whole answer."""
        return ResponseAggregation(self._options)
