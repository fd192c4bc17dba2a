"""However an answer is cut into pieces, its caller gets the same bytes; an error at its beginning or a missing end is seen."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest

from kyma_proxy.core.accounts.accounts import Account, Key
from kyma_proxy.core.accounts.limits import Admission, Window
from kyma_proxy.core.accounts.reservation import Reservation
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.core.http.headers import AnswerHead
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.core.routing.breaker import CircuitBreaker
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.dialect.registry import DIALECTS, RELAYED
from kyma_proxy.net.relay.body import BadAnswer, Body
from kyma_proxy.net.relay.passthrough import PassthroughBody
from kyma_proxy.net.relay.translated import TranslatedBody
from tests.behaviour.translation import STREAMS, WHOLE
from tests.factories import default_snapshot

PATHS = {"openai": b"/v1/chat/completions", "anthropic": b"/v1/messages"}
MODELS = {"openai": "small", "anthropic": "sonnet"}
STREAM_ERRORS = {
    "openai": b'data: {"error":{"message":"no","type":"server_error"}}\n\n',
    "anthropic": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n',
}
BODIES = ("openai", "openai filtered", "anthropic", "openai to anthropic", "anthropic to openai")


def reservation() -> Reservation:
    """What a metered request has taken from its account."""
    key = Key("k", Account("a", "a@example.com", 0), b"digest", "ky-prefix", "key", 0)
    admission = Window("a").admit(0.0, "small", 1, default_snapshot().tiers[0])
    assert isinstance(admission, Admission)
    return Reservation(key, admission, 1, 1)


def source_of(name: str) -> str:
    """The dialect that the source of such a body speaks."""
    return name.removeprefix("openai to ").removeprefix("anthropic to ").removesuffix(" filtered")


def begun(name: str, *, streams: bool) -> Body:
    """A body whose request has been made and whose answer's head has come."""
    caller = name.partition(" ")[0]
    body = json.dumps({"model": "m", "stream": streams, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
    path = PATHS[caller]
    inbound = Inbound(b"POST", path, b"", [], body.encode(), "request-1", 100.0, False, True)
    exchange = Exchange(inbound, RELAYED[path], default_snapshot())
    exchange.routing = read_routing_fields(inbound.body, is_metered=True)
    model = default_snapshot().models[MODELS[source_of(name)]]
    step = Step(model, model.pool[0], 0, CircuitBreaker())
    made: Body
    if " to " in name:
        made = TranslatedBody(exchange, step, DIALECTS[caller])
    else:
        if name.endswith("filtered"):
            exchange.reservation = reservation()
        made = PassthroughBody(exchange, step, DIALECTS[caller])
    made.request()
    kind = b"text/event-stream" if streams else b"application/json"
    made.begin(AnswerHead(200, b"OK", [(b"content-type", kind)], {b"content-type": kind}))
    return made


def answer_of(name: str, *, streams: bool) -> bytes:
    """What the source of such a body answers."""
    dialect = source_of(name)
    return b"".join(STREAMS[dialect]) if streams else json.dumps(WHOLE[dialect]).encode()


def passed(body: Body, pieces: Sequence[bytes], *, is_certain: bool = True) -> bytes:
    """What the caller gets."""
    out = b"".join(body.feed(piece) or b"" for piece in pieces) + body.finish(is_certain=is_certain)
    return re.sub(rb'"created":\d+', b'"created":0', out)


def every_split(data: bytes) -> list[list[bytes]]:
    """The data in two pieces, for every place between them, and in pieces of one byte."""
    return [[data[:at], data[at:]] for at in range(1, len(data))] + [[data[at : at + 1] for at in range(len(data))]]


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("name", BODIES)
def test_its_caller_gets_the_same_bytes_however_they_come(name: str, streams: bool) -> None:
    answer = answer_of(name, streams=streams)
    expected = passed(begun(name, streams=streams), [answer])
    assert (expected == answer) is (" " not in name or ("filtered" in name and not streams))
    for pieces in every_split(answer):
        body = begun(name, streams=streams)
        assert passed(body, pieces) == expected
        assert (body.usage().prompt, body.usage().completion) == (7, 3)
        assert body.is_complete is streams


@pytest.mark.parametrize("name", BODIES)
def test_an_error_that_comes_first_is_never_passed_on(name: str) -> None:
    for pieces in every_split(STREAM_ERRORS[source_of(name)]):
        body = begun(name, streams=True)
        with pytest.raises(BadAnswer) as bad:
            passed(body, pieces)
        assert bad.value.kind is FailureKind.ERROR_EVENT
        assert not body.is_complete


@pytest.mark.parametrize("name", BODIES)
def test_a_stream_that_its_connection_cuts_off_is_not_complete(name: str) -> None:
    events = STREAMS[source_of(name)]
    if name == "anthropic to openai":
        events = events[:3]  # with the finish reason the source has said all
    answer = b"".join(events)
    for at in range(1, len(answer) - len(events[-1])):
        body = begun(name, streams=True)
        if body.feed(answer[:at]) is not None:
            assert not body.is_complete
        with pytest.raises(BadAnswer):
            body.finish(is_certain=False)
