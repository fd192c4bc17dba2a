"""Operations on an answer and at the end of a request: each function prepares one and returns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from bench.micro import inputs
from bench.micro.provider_answers import ANSWER_HEADERS, stream, whole
from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.exchange import Exchange, State
from kyma_proxy.core.http.answers import error_lines, json_answer
from kyma_proxy.core.http.headers import AnswerHead, encode_answer_head
from kyma_proxy.dialect.answers.reader import AnswerReader
from kyma_proxy.dialect.registry import DIALECTS
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.telemetry.counters import Counters
from kyma_proxy.telemetry.recording import Recording

_ADDED: Final = b"x-request-id: 0123456789abcdef\r\nx-kyma-model: pooled\r\nx-kyma-alias: large\r\n"


def encode_head() -> Callable[[], object]:
    """Encode the head of a streamed answer for the caller."""
    fields = {name.lower(): value for name, value in ANSWER_HEADERS}
    head = AnswerHead(200, b"OK", ANSWER_HEADERS, fields)
    source = inputs.snapshot().models["pooled"].pool[0]
    return lambda: encode_answer_head(head, source, _ADDED, chunked=True, close=False)


def open_stream() -> Callable[[], object]:
    """Read the first events of a stream, until one says something."""
    events, dialect = stream("openai"), DIALECTS["openai"]

    def opened() -> object:
        reader = AnswerReader(dialect, "chat/completions")
        reader.begin(streams=True, has_length=False, is_unframed=False)
        return any(reader.open(event) for event in events)

    return opened


def read_answer(name: str, *, streams: bool) -> Callable[[], object]:
    """Read a whole answer, event by event, with its usage and its end."""
    dialect = DIALECTS[name]
    pieces = stream(name) if streams else whole(name)

    def read() -> Usage:
        reader = AnswerReader(dialect, dialect.endpoints[0].name)
        reader.begin(streams=streams, has_length=False, is_unframed=False)
        for piece in pieces:
            if reader.is_open:
                reader.add(piece)
            else:
                reader.open(piece)
        reader.finish(is_certain=True)
        return reader.usage()

    found = read()
    if (found.prompt, found.completion, found.cached) != (1000, 100, 400):
        raise ValueError("the usage is not that of the answer")
    return read


def encode_record() -> Callable[[], object]:
    """Make the access-log line of a request, with an encoder like the log's."""
    served, encode = _served(), msgspec.json.Encoder().encode
    record_of = Recording().record_of
    return lambda: encode(record_of(served, 1_783_330_200.123456, 102.5))


def count_request() -> Callable[[], object]:
    """Count a request in the metrics."""
    served, counters = _served(), Counters()

    def count() -> object:
        counters.count(served, 102.5)
        return counters.series

    return count


def encode_error(dialect: str) -> Callable[[], object]:
    """Encode an error of the gateway: its body, and the answer around it."""
    body_of = DIALECTS[dialect].error_body
    error = GatewayError(Kind.PROVIDER_RATE_LIMITED, "Every source of pooled is rate limited; try again later.", retry_after=7)

    def encode() -> object:
        added = error_lines(error, "0123456789abcdef")
        return json_answer(error.kind.status, body_of(error, "0123456789abcdef"), added, close=False)

    return encode


def _served() -> Exchange:
    served = inputs.routed_exchange()
    served.state, served.status = State.COMPLETED, 200
    served.answered_by = inputs.snapshot().models["pooled"].pool[0]
    served.first_byte, served.overhead_s, served.bytes_out = 100.312, 0.000123, 25_000
    served.provider_request_id = "req_0123456789abcdef0123456789abcdef"
    served.usage = Usage(1000, 100, 400, "reported")
    return served
