"""This file lets callers who speak OpenAI be answered by sources that speak Anthropic. (Contract §2, §3.4, §4, §5)

How a request is put is `openai_to_anthropic_request` and, for its messages, `…_messages`; how an answer is, `…_answer` and, for
a stream, `…_stream`.
"""

from __future__ import annotations

from kyma_proxy.dialect.aggregate import completion_of
from kyma_proxy.dialect.anthropic import MESSAGES
from kyma_proxy.dialect.openai_to_anthropic.answer import Shown, failed, streamed, whole
from kyma_proxy.dialect.openai_to_anthropic.reading import read
from kyma_proxy.dialect.openai_to_anthropic.request import asked
from kyma_proxy.dialect.openai_to_anthropic.stream import ChunkStream
from kyma_proxy.dialect.translation import TranslatedAnswer, TranslatedRequest


class OpenAIToAnthropic:
    """One chat request's way to Anthropic and back; a `Translation`.

    `model` is the source's own id, `shown_model` the one that the caller sees in the answer; `default_max_tokens` is asked for
    where the caller names no number (Anthropic needs one: None is 4096); `created` is Unix time. Raises GatewayError for what
    can't be said to Anthropic.
    """

    __slots__ = ("_shown", "asked")

    def __init__(self, body: bytes, model: str, *, shown_model: str, default_max_tokens: int | None, created: int) -> None:
        request = read(body)
        self.asked = TranslatedRequest(MESSAGES, *asked(body, request, model, default_max_tokens))
        options = request.stream_options
        wants_usage = options is not None and options.include_usage is True
        self._shown = Shown(shown_model, created, request.is_legacy, wants_usage)

    def whole(self, status: int, body: bytes) -> TranslatedAnswer:
        """A whole answer, an error among them. Raises ValueError where a 2xx answer is no message."""
        if status >= 400:
            return failed(status, body)
        try:
            return whole(body, self._shown)
        except RecursionError:
            raise ValueError("an answer that is nested too deeply") from None

    def stream(self) -> ChunkStream:
        """For a 2xx answer that streams."""
        return ChunkStream(self._shown)

    def streamed(self, body: bytes) -> bytes:
        """The events that a whole answer amounts to. Raises ValueError where it is none."""
        return streamed(body)

    def folded(self, body: bytes) -> TranslatedAnswer:
        """The whole answer that a source's whole stream amounts to. Raises ValueError where it is none."""
        stream = ChunkStream(self._shown._replace(wants_usage=True))
        told = stream.feed(body) + stream.flush()
        if not stream.is_finished:
            raise ValueError("the stream is not whole")
        return TranslatedAnswer(200, completion_of(told), stream.usage)
