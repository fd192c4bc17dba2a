"""The access log's record of a request has exactly the documented fields, metadata only."""

from __future__ import annotations

import json
import re

import msgspec

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.exchange import Exchange, State
from kyma_proxy.core.http.body import RoutingFields, read_routing_fields
from kyma_proxy.telemetry.record import LOGGED_FIELDS, Record
from kyma_proxy.telemetry.recording import Recording, other_record
from tests.factories import BODY, attempt, exchange, inbound, routed


def fields(model: str, *, streams: bool = True) -> RoutingFields:
    """The routing fields of a request for this model."""
    return read_routing_fields(json.dumps({"model": model, "stream": streams}).encode())


def record_of(served: Exchange, wall: float, now: float) -> Record:
    """The record that the line of a request holds."""
    line = msgspec.json.encode(Recording().record_of(served, wall, now))
    assert list(msgspec.json.decode(line)) == list(LOGGED_FIELDS)
    return msgspec.json.decode(line, type=Record)


FIELDS = """
ts, request_id, account, key, endpoint, dialect, model_requested, model, provider, stream, status, ending, error_code,
fallback_layer, attempts, asked_at, ttft_ms, duration_ms, overhead_us, provider_request_id, bytes_in, bytes_out, prompt_tokens,
completion_tokens, cached_tokens, usage_source, cost_usd
"""


def test_the_record_has_exactly_the_documented_fields_in_their_order() -> None:
    assert list(LOGGED_FIELDS) == re.findall(r"\w+", FIELDS)
    assert list(msgspec.json.decode(msgspec.json.encode(other_record("r", "-", 400, 1.0)))) == list(LOGGED_FIELDS)


def test_the_record_of_a_served_request_is_complete() -> None:
    served = routed()
    served.state = State.COMPLETED
    served.status = 200
    served.layer = 1
    served.answered_by = served.snapshot.models["small"].pool[1]
    served.attempts = [attempt("503"), attempt("answered", at=1)]
    served.first_byte = 100.25
    served.overhead_s = 0.000123
    served.provider_request_id = "req-9"
    served.bytes_out = 1234
    served.usage = Usage(1000, 100, 400, "reported")
    assert record_of(served, 1_800_000_000.5, 101.5) == Record(
        ts=1_800_000_000.5,
        request_id="request-1",
        account=None,
        key=None,
        endpoint="chat/completions",
        dialect="openai",
        model_requested="fast",
        model="small",
        provider="beta",
        stream=True,
        status=200,
        ending="completed",
        error_code=None,
        fallback_layer=1,
        asked_at=None,
        attempts=["alpha:503", "beta:answered"],
        ttft_ms=250.0,
        duration_ms=1500.0,
        overhead_us=123,
        provider_request_id="req-9",
        bytes_in=len(BODY),
        bytes_out=1234,
        prompt_tokens=1000,
        completion_tokens=100,
        cached_tokens=400,
        usage_source="reported",
        cost_usd=(600 * 0.68 + 400 * 0.068 + 100 * 4.05) / 1e6,
    )


def test_the_record_of_a_request_that_could_not_be_read_has_no_model_and_no_cost() -> None:
    refused = exchange(b"/v1/messages")
    refused.state = State.REJECTED
    refused.status = 400
    record = record_of(refused, 1.0, 100.001)
    assert (record.endpoint, record.dialect, record.status, record.ending) == ("messages", "anthropic", 400, "rejected")
    assert (record.model_requested, record.model, record.provider, record.ttft_ms, record.cost_usd) == (None,) * 5
    assert (record.stream, record.attempts, record.duration_ms, record.usage_source) == (False, [], 1.0, "none")


def test_the_name_of_an_unknown_model_is_truncated() -> None:
    unknown = routed()
    unknown.routing = fields("x" * 256)
    unknown.model = None
    record = record_of(unknown, 1.0, 101.0)
    assert (record.model_requested, record.model) == ("x" * 128, None)


def test_the_record_of_a_request_without_usage_has_no_cost() -> None:
    assert record_of(routed(), 1.0, 101.0).cost_usd is None


def test_a_request_that_the_listener_refused_has_a_record() -> None:
    record = other_record("request-1", "-", 431, 1_800_000_000.0)
    assert (record.ts, record.request_id, record.status, record.ending) == (1_800_000_000.0, "request-1", 431, "rejected")
    assert (record.bytes_in, record.bytes_out, record.attempts, record.usage_source) == (0, 0, [], "none")
    assert (record.endpoint, record.dialect, record.stream) == ("-", "-", False)


def test_nothing_of_a_body_or_header_can_be_in_a_record() -> None:
    served = routed()
    served.inbound = inbound(headers=[(b"authorization", b"KEY")], query=b"QUERY")
    served.inbound.body = b'{"model":"fast","x":"PROMPT"}'
    line = msgspec.json.encode(Recording().record_of(served, 1.0, 101.0))
    assert not any(word in line for word in (b"PROMPT", b"KEY", b"QUERY"))


def test_a_line_tells_its_own_request_apart_from_all_that_were_written_before() -> None:
    recording = Recording()
    requests = []
    for change in range(12):
        served = routed()
        served.state, served.status = State.COMPLETED, 200
        served.answered_by = served.snapshot.models["small"].pool[0]
        served.attempts = [attempt("answered")]
        if change == 1:
            served.endpoint = exchange(b"/v1/messages").endpoint
        elif change == 2:
            served.routing = fields("small")
        elif change == 3:
            served.routing = fields("fast", streams=False)
        elif change == 4:
            served.model = served.snapshot.models["sonnet"]
        elif change == 5:
            served.answered_by = served.snapshot.models["small"].pool[1]
        elif change == 6:
            served.status = 201
        elif change == 7:
            served.state = State.BROKEN
        elif change == 8:
            served.error_code = "provider_error"
        elif change == 9:
            served.layer = 2
        elif change == 10:
            served.attempts = [attempt("answered", at=1)]
        elif change == 11:
            served.attempts = [attempt("abandoned")]
        requests.append(served)
    once = [msgspec.json.encode(recording.record_of(served, 1.0, 101.0)) for served in requests]
    again = [msgspec.json.encode(recording.record_of(served, 1.0, 101.0)) for served in requests]
    alone = [msgspec.json.encode(Recording().record_of(served, 1.0, 101.0)) for served in requests]
    assert once == again == alone
    assert len(set(once)) == len(requests)


def test_words_of_callers_take_a_bounded_memory() -> None:
    recording = Recording()
    for number in range(5000):
        unknown = exchange()
        unknown.state, unknown.status = State.REJECTED, 404
        unknown.routing = fields(f"{number:0256}")
        recording.record_of(unknown, 1.0, 101.0)
    assert recording.written_labels <= 1024
