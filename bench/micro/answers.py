"""Operations on an answer and on a request's end: each function prepares one and gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from bench.micro import material
from bench.micro.replies import ANSWER_HEADERS, stream, whole
from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.exchange import Exchange, State
from kyma_proxy.core.http.answers import error_lines, json_answer
from kyma_proxy.core.http.headers import AnswerHead, encode_answer_head
from kyma_proxy.core.http.sample import Sample
from kyma_proxy.dialect import sse
from kyma_proxy.dialect.registry import DIALECTS
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.telemetry.counters import Counters
from kyma_proxy.telemetry.recording import record_of

_ADDED: Final = b"x-request-id: 0123456789abcdef\r\nx-kyma-model: pooled\r\nx-kyma-alias: large\r\n"


def heading_to_caller() -> Callable[[], object]:
    """The head of a streamed answer is made for the caller."""
    fields = {name.lower(): value for name, value in ANSWER_HEADERS}
    head = AnswerHead(200, b"OK", ANSWER_HEADERS, fields)
    return lambda: encode_answer_head(head, _ADDED, chunked=True, close=False)


def judging_first_event() -> Callable[[], object]:
    """A stream's first event is found, and is no error."""
    first, dialect = stream("openai")[0], DIALECTS["openai"]

    def judge() -> object:
        event = sse.first_event(first)
        return event and not dialect.is_error(event)

    return judge


def sampling() -> Callable[[], object]:
    """A whole stream is sampled while it passes, event by event."""
    events = stream("openai")

    def sample() -> object:
        taken = Sample()
        for event in events:
            taken.add(event)
        return taken.tail

    return sample


def reading_usage(dialect: str, *, streams: bool) -> Callable[[], object]:
    """Usage is read from what the sample of an answer has kept."""
    sample, read = Sample(), DIALECTS[dialect].read_usage
    for piece in stream(dialect) if streams else whole(dialect):
        sample.add(piece)
    if read(sample.opening, sample.tail) != Usage(1000, 100, 400, "reported"):
        raise ValueError("usage is not what the answer says")
    return lambda: read(sample.opening, sample.tail)


def recording() -> Callable[[], object]:
    """The log's line of a served request is made, with an encoder like the log's own."""
    served, encode = _served(), msgspec.json.Encoder().encode
    return lambda: encode(record_of(served, 1_783_330_200.123456, 102.5))


def counting() -> Callable[[], object]:
    """A served request is counted."""
    served, counters = _served(), Counters()

    def count() -> object:
        counters.count(served, 102.5)
        return counters.requests

    return count


def refusing(dialect: str) -> Callable[[], object]:
    """A request is refused: the error's body, and the answer around it."""
    body_of = DIALECTS[dialect].error_body
    error = GatewayError(Kind.PROVIDER_RATE_LIMITED, "Every source of pooled is rate limited; try again later.", retry_after=7)

    def refuse() -> object:
        added = error_lines(error, "0123456789abcdef")
        return json_answer(error.kind.status, body_of(error, "0123456789abcdef"), added, close=False)

    return refuse


def _served() -> Exchange:
    served = material.exchange()
    served.state, served.status = State.COMPLETED, 200
    served.answered_by = material.snapshot().models["pooled"].pool[0]
    served.first_byte, served.overhead_s, served.bytes_out = 100.312, 0.000123, 25_000
    served.provider_request_id = "req_0123456789abcdef0123456789abcdef"
    served.usage = Usage(1000, 100, 400, "reported")
    return served
