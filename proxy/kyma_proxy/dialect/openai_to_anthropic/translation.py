"""Translates between callers who speak OpenAI and sources that speak Anthropic. (Contract §2, §3.4, §4, §5.)

The modules `request` and `messages` translate requests; `answer`, `stream` and `errors` translate answers.
"""

from __future__ import annotations

from kyma_proxy.config.supports import UNSPECIFIED, Supports
from kyma_proxy.dialect.aggregate import CompletionDocument, StreamAggregation
from kyma_proxy.dialect.anthropic import MESSAGES
from kyma_proxy.dialect.openai_to_anthropic.answer import AnswerOptions, answer_as_stream, translate_answer
from kyma_proxy.dialect.openai_to_anthropic.chat_request import read_request
from kyma_proxy.dialect.openai_to_anthropic.errors import translate_error
from kyma_proxy.dialect.openai_to_anthropic.request import translate_request
from kyma_proxy.dialect.openai_to_anthropic.stream import ChunkStream
from kyma_proxy.dialect.translation import TranslatedAnswer, TranslatedRequest


class OpenAIToAnthropic:
    """The `Translation` of one chat request.

    `model` is the source's own id, `public_model` the one that the caller sees in the answer. `default_max_tokens` is the limit
    if the caller sets none (Anthropic requires one: None means 4096). `created` is a Unix time. `supports` is what the source
    takes. Raises GatewayError for what Anthropic's dialect can't express.
    """

    __slots__ = ("_options", "request")

    def __init__(
        self, body: bytes, model: str, *, public_model: str, default_max_tokens: int | None, created: int,
        supports: Supports = UNSPECIFIED,
    ) -> None:  # fmt: skip
        request = read_request(body)
        made, dropped, fitting = translate_request(body, request, model, default_max_tokens, supports)
        self.request = TranslatedRequest(MESSAGES, made, dropped, fitting.optional)
        options = request.stream_options
        wants_usage = options is not None and options.include_usage is True
        self._options = AnswerOptions(
            public_model, created, request.is_legacy, wants_usage, fitting.tool_names, fitting.asks_in_prompt
        )

    def answer(self, status: int, body: bytes) -> TranslatedAnswer:
        """Translate a whole answer or an error. Raises ValueError if a 2xx answer is no message."""
        if status >= 400:
            return translate_error(status, body)
        try:
            return translate_answer(body, self._options)
        except RecursionError:
            raise ValueError("the answer is nested too deeply") from None

    def stream(self) -> ChunkStream:
        """Return a translation for a 2xx answer that streams."""
        return ChunkStream(self._options)

    def as_stream(self, body: bytes) -> bytes:
        """Return a whole answer as a stream of the source's dialect. Raises ValueError if the body is no message."""
        return answer_as_stream(body)

    def aggregation(self) -> StreamAggregation:
        """Return what makes a stream one whole answer."""
        return StreamAggregation(ChunkStream(self._options._replace(wants_usage=True)), CompletionDocument())
