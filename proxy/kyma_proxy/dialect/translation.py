"""Declares what a translation between two dialects offers. (Contract §3.4, §4.)

A translation serves one attempt at one source. If caller and source speak the same dialect, there is none: bytes stay bytes.
A member that the other dialect can't express is dropped and its name reported, never silently.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from kyma_proxy.config.supports import UNSPECIFIED, Supports
from kyma_proxy.core.http.endpoints import Endpoint


class ThoughtRules(NamedTuple):
    """The way in which a source gives its thoughts, and what it must get back of them.

    `field` is the member in which it accepts earlier thoughts (None: it accepts none). `parser` names the tags between which it
    writes them in the text (None: it writes none). `calls_need` is what it refuses a call of an earlier turn without:
    NEEDS_REASONING or NEEDS_SIGNATURE. `source` identifies it: what it wants back goes to no other.
    """

    field: str | None = "reasoning_content"
    parser: str | None = None
    calls_need: str | None = None
    source: str = ""


NO_RULES: Final = ThoughtRules()
NEEDS_REASONING: Final = "reasoning"
"""Moonshot: "thinking is enabled but reasoning_content is missing in assistant tool call message"; a space is enough."""
NEEDS_SIGNATURE: Final = "thought_signature"
"""Gemini 3 (ai.google.dev/gemini-api/docs/thought-signatures): "Function call is missing a thought_signature"."""


class Order(NamedTuple):
    """A request to translate, and for whom: plain values, so that it may be done in another process.

    `model` is the source's own id, `public_model` the one that the caller sees. `max_tokens_field` is the member for the limit
    of an answer's tokens (None: the dialect's own); `default_max_tokens` is the limit if the caller sets none.
    `asks_for_usage` is True if a stream's usage must be requested. `reasoning_field` is the member in which the source accepts
    earlier thinking (None: it accepts none). `now` is a Unix time. `model_max_tokens` is the most that the model can write
    (None: not known). `supports` is what the source takes. The other members are those of `ThoughtRules`.
    """

    body: bytes
    model: str
    public_model: str
    max_tokens_field: str | None
    default_max_tokens: int | None
    asks_for_usage: bool
    reasoning_field: str | None
    request_id: str
    now: int
    model_max_tokens: int | None = None
    supports: Supports = UNSPECIFIED
    reasoning_parser: str | None = None
    calls_need: str | None = None
    source: str = ""

    @property
    def thoughts(self) -> ThoughtRules:
        """The rules for the thoughts of the source."""
        return ThoughtRules(self.reasoning_field, self.reasoning_parser, self.calls_need, self.source)


class TranslatedRequest(NamedTuple):
    """A request in the source's dialect: its endpoint, its body, and the paths of the caller's members that were dropped.

    `optional` names members of the body that could be left out, if the source refuses them.
    """

    endpoint: Endpoint
    body: bytes
    dropped: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


class TranslatedAnswer(NamedTuple):
    """A whole answer in the caller's dialect, and the paths of the source's members that were dropped."""

    status: int
    body: bytes
    dropped: tuple[str, ...] = ()


class StreamTranslation(Protocol):
    """Translates a source's stream for the caller, event by event. An event is held only while it needs a later one."""

    @property
    def is_finished(self) -> bool:
        """True if the source has ended its answer as its dialect prescribes."""

    @property
    def has_failed(self) -> bool:
        """True if the caller was sent an error event, so that the answer stays incomplete."""

    def feed(self, piece: bytes) -> bytes:
        """Return what can be sent to the caller after this piece of the source's stream; b"" if no event is complete yet."""

    def flush(self) -> bytes:
        """Return what is left to send when the source's stream has ended cleanly."""


class Aggregation(Protocol):
    """Makes one whole answer of a source's stream, while it comes."""

    def feed(self, piece: bytes) -> None:
        """Take a piece of the source's stream. Raises ValueError if it can't be read."""

    def finish(self) -> TranslatedAnswer:
        """Return the whole answer. Raises ValueError if the stream is incomplete or ended with an error."""


class Translation(Protocol):
    """Translates one request for a source of another dialect, and the source's answer for the caller.

    It can be pickled, for a request that is translated in another process.
    """

    request: TranslatedRequest
    """The request to send to the source."""

    def answer(self, status: int, body: bytes) -> TranslatedAnswer:
        """Translate a whole answer, or an error (status 400 and above). Raises ValueError if the body is neither."""

    def stream(self) -> StreamTranslation:
        """Return a translation for a 2xx answer that streams."""

    def as_stream(self, body: bytes) -> bytes:
        """Return a whole answer of the source as a stream, still in its dialect, if the caller asked for a stream.

        Raises ValueError if the body is no answer.
        """

    def aggregation(self) -> Aggregation:
        """Return what makes a stream of the source one whole answer, if the caller did not ask for a stream."""
