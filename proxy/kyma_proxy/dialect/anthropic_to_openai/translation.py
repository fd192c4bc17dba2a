"""Translates between callers who speak Anthropic and sources that speak OpenAI. (Contract §2, §3.4, §4, §5.)

The modules `request` and `messages` translate requests; `answer`, `stream` and `errors` translate answers.
"""

from __future__ import annotations

from kyma_proxy.config.supports import UNSPECIFIED, Supports
from kyma_proxy.dialect.aggregate import MessageDocument, StreamAggregation
from kyma_proxy.dialect.anthropic_to_openai.answer import answer_as_stream, translate_answer
from kyma_proxy.dialect.anthropic_to_openai.errors import translate_error
from kyma_proxy.dialect.anthropic_to_openai.request import CALLER_NAMES, translate_request
from kyma_proxy.dialect.anthropic_to_openai.stream import MessageStream
from kyma_proxy.dialect.chat_fitting import ChatFitting
from kyma_proxy.dialect.openai import CHAT
from kyma_proxy.dialect.translation import ThoughtRules, TranslatedAnswer, TranslatedRequest


class AnthropicToOpenAI:
    """The `Translation` of one request.

    `model` is the source's own id, `public_model` the one that the caller sees. `max_tokens_field` is the member for the limit
    of an answer's tokens (None: `max_tokens`); `default_max_tokens` is the limit if the caller sets none. `asks_for_usage` is
    True if a stream's usage must be requested. `reasoning_field` is the member in which the source accepts earlier thinking
    (None: it accepts none); `reasoning_parser`, `calls_need` and `source` are those of `ThoughtRules`. Errors carry the
    `request_id`, unless that is "". `supports` is what the source takes. Raises GatewayError for what OpenAI's dialect can't
    express.
    """

    __slots__ = ("_public_model", "_request_id", "_stop_sequences", "_thoughts", "_tool_names", "request")

    def __init__(
        self, body: bytes, model: str, *, public_model: str, max_tokens_field: str | None = None,
        default_max_tokens: int | None = None, asks_for_usage: bool = False,
        reasoning_field: str | None = "reasoning_content", reasoning_parser: str | None = None, calls_need: str | None = None,
        source: str = "", request_id: str = "", supports: Supports = UNSPECIFIED,
    ) -> None:  # fmt: skip
        fitting = ChatFitting(supports, CALLER_NAMES)
        self._thoughts = ThoughtRules(reasoning_field, reasoning_parser, calls_need, source)
        translated, dropped, self._stop_sequences = translate_request(
            body, model, max_tokens_field=max_tokens_field, default_max_tokens=default_max_tokens,
            asks_for_usage=asks_for_usage, thoughts=self._thoughts, fitting=fitting,
        )  # fmt: skip
        self.request = TranslatedRequest(CHAT, translated, dropped, fitting.optional)
        self._tool_names = fitting.tool_names
        self._public_model = public_model
        self._request_id = request_id

    def answer(self, status: int, body: bytes) -> TranslatedAnswer:
        """Translate a whole answer or an error. Raises ValueError if a 2xx answer is malformed."""
        if status >= 400:
            return translate_error(status, body, self._request_id)
        return translate_answer(
            status, body, self._public_model, self._stop_sequences, self._thoughts, tool_names=self._tool_names
        )  # fmt: skip

    def stream(self) -> MessageStream:
        """Return a translation for a 2xx answer that streams."""
        return MessageStream(self._public_model, self._stop_sequences, self._request_id, self._thoughts, self._tool_names)

    def as_stream(self, body: bytes) -> bytes:
        """Return a whole answer as a stream of the source's dialect. Raises ValueError if the body is no answer."""
        return answer_as_stream(body)

    def aggregation(self) -> StreamAggregation:
        """Return what makes a stream one whole answer."""
        return StreamAggregation(self.stream(), MessageDocument())
