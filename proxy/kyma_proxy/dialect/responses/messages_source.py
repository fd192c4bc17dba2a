"""Translates between callers who speak Responses and sources that speak Messages, by way of a chat request. (Contract §2.)

Both steps exist for other callers, so each rule of either dialect stands in one place. Between them nothing is lost: the chat
request may hold images in the results of tools, and signed thoughts as the extension `thinking_blocks`, which come back the
same way.
"""

from __future__ import annotations

import re
from typing import Final

from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.responses.chat_source import ResponsesToChat
from kyma_proxy.dialect.responses.request import Target
from kyma_proxy.dialect.responses.stream import ResponseStream
from kyma_proxy.dialect.translation import Aggregation, Order, StreamTranslation, ThoughtRules, TranslatedAnswer
from kyma_proxy.errors import GatewayError

_DEFAULT_MAX_TOKENS: Final = 4096
_MESSAGE: Final = re.compile(r"messages(?:\[\d+\])?[\w.\[\]]*")
_RENAMED: Final = {
    "reasoning_effort": "reasoning.effort", "response_format": "text.format", "max_tokens": "max_output_tokens",
}  # fmt: skip


class ResponsesToMessages:
    """The `Translation` of one request."""

    __slots__ = ("_chat", "_messages", "request")

    def __init__(self, order: Order) -> None:
        """Translate the request. Raises GatewayError for what can't be translated.

        Messages demands a limit of tokens, and Responses has none by default: so it is the most that the model can write.
        """
        most = order.model_max_tokens or order.default_max_tokens or _DEFAULT_MAX_TOKENS
        target = Target(order.model, "max_tokens", most, True, ThoughtRules(None), is_signing=True)
        self._chat = ResponsesToChat(
            order.body, target, public_model=order.public_model, request_id=order.request_id, created=order.now
        )
        chat = self._chat.request
        try:
            self._messages = OpenAIToAnthropic(
                chat.body, order.model, public_model=order.public_model, default_max_tokens=most, created=order.now,
                supports=order.supports,
            )  # fmt: skip
        except GatewayError as error:
            param = error.param or ""
            raise GatewayError(
                error.kind, error.message.replace(f"`{param}`", f"`{_path(param)}`"), param=_path(param)
            ) from None
        made = self._messages.request
        dropped = dict.fromkeys([*chat.dropped, *map(_path, made.dropped)])
        self.request = made._replace(dropped=tuple(dropped))
        self._chat.request = chat._replace(body=b"")
        self._messages.request = made._replace(body=b"")

    def answer(self, status: int, body: bytes) -> TranslatedAnswer:
        """Translate a whole answer or an error. Raises ValueError if a 2xx answer is no message."""
        chat = self._messages.answer(status, body)
        whole = self._chat.answer(chat.status, chat.body)
        return whole._replace(dropped=(*chat.dropped, *whole.dropped))

    def stream(self) -> ChainedStream:
        """Return a translation for a 2xx answer that streams."""
        return ChainedStream(self._messages.stream(), self._chat.stream())

    def as_stream(self, body: bytes) -> bytes:
        """Return a whole answer as a stream of the source's dialect. Raises ValueError if the body is no message."""
        return self._messages.as_stream(body)

    def aggregation(self) -> Aggregation:
        """Return what makes a stream one whole answer."""
        return ChainedAggregation(self.stream())


class ChainedStream:
    """A `StreamTranslation` of two: what the first writes, the second reads."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: StreamTranslation, second: ResponseStream) -> None:
        self._first = first
        self._second = second

    @property
    def is_finished(self) -> bool:
        """True if the source has ended its answer."""
        return self._second.is_finished

    @property
    def has_failed(self) -> bool:
        """True if the caller was sent an error."""
        return self._second.has_failed

    @property
    def document(self) -> bytes:
        """The response, once the answer is complete."""
        return self._second.document

    def feed(self, piece: bytes) -> bytes:
        """Return the events that this piece of the source's stream completes."""
        return self._second.feed(self._first.feed(piece))

    def flush(self) -> bytes:
        """Return the last events when the source's stream has ended."""
        return self._second.feed(self._first.flush()) + self._second.flush()


class ChainedAggregation:
    """The `Aggregation` of such a stream."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ChainedStream) -> None:
        self._stream = stream

    def feed(self, piece: bytes) -> None:
        """Take a piece of the source's stream."""
        self._stream.feed(piece)

    def finish(self) -> TranslatedAnswer:
        """Return the response. Raises ValueError if the stream is incomplete or ended with an error."""
        self._stream.flush()
        if not self._stream.is_finished:
            raise ValueError("the stream is incomplete")
        return TranslatedAnswer(200, self._stream.document)


def _path(path: str) -> str:
    """The caller's name for a member of the chat request between the two steps."""
    return "input" if _MESSAGE.fullmatch(path) else _RENAMED.get(path, path)
