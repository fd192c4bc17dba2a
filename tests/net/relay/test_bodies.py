"""However an answer is cut into pieces, its caller gets the same bytes; an error at its beginning or a missing end is seen."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

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
from kyma_proxy.dialect.answers.facts import BadAnswer
from kyma_proxy.dialect.answers.reader import AnswerReader
from kyma_proxy.dialect.registry import DIALECTS, RELAYED
from kyma_proxy.net.relay.body import Body
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


class Relayed:
    """What the caller of an attempt gets, and what its reader has found; as the pump goes about it."""

    def __init__(self, name: str, *, streams: bool) -> None:
        """The request has been made, and the answer's head has come."""
        caller = name.partition(" ")[0]
        asked = json.dumps({"model": "m", "stream": streams, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
        path = PATHS[caller]
        inbound = Inbound(b"POST", path, b"", [], asked.encode(), "request-1", 100.0, False, True)
        exchange = Exchange(inbound, RELAYED[path], default_snapshot())
        exchange.routing = read_routing_fields(inbound.body, is_metered=True)
        model = default_snapshot().models[MODELS[source_of(name)]]
        source = replace(model.pool[0], endpoint=model.pool[0].main_endpoint)
        step = Step(model, source, 0, CircuitBreaker())
        if " to " in name:
            self.body: Body = TranslatedBody(exchange, step, DIALECTS[caller])
        else:
            if name.endswith("filtered"):
                exchange.reservation = reservation()
            self.body = PassthroughBody(exchange, step)
        self.body.request()
        kind = b"text/event-stream" if streams else b"application/json"
        self.head = AnswerHead(200, b"OK", [(b"content-type", kind)], {b"content-type": kind})
        self.reader = AnswerReader(DIALECTS[source_of(name)], self.body.endpoint)
        self.reader.begin(streams=streams, has_length=False, is_unframed=False)
        self.out: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        """A piece of the source's answer has come."""
        if self.reader.is_open:
            self.reader.add(piece)
            self.out.append((self.body.feed(piece) if self.body.changes else piece) or b"")
        elif self.reader.open(piece):
            self._let_out()

    def finish(self, *, is_certain: bool = True) -> bytes:
        """The answer has ended. Returns what the caller got."""
        is_held = not self.reader.is_open
        self.reader.finish(is_certain=is_certain, needs_usage=not self.body.is_translated)
        if is_held:
            self._let_out()
        self.out.append(self.body.finish())
        return re.sub(rb'"created":\d+', b'"created":0', b"".join(self.out))

    def _let_out(self) -> None:
        self.body.begin(self.head, streams=self.reader.streams)
        self.out.append(self.body.feed(self.reader.take()) or b"")


def answer_of(name: str, *, streams: bool) -> bytes:
    """What the source of such a body answers."""
    dialect = source_of(name)
    return b"".join(STREAMS[dialect]) if streams else json.dumps(WHOLE[dialect]).encode()


def passed(name: str, pieces: Sequence[bytes], *, streams: bool) -> tuple[bytes, AnswerReader]:
    """What the caller gets, and the reader of the answer."""
    relayed = Relayed(name, streams=streams)
    for piece in pieces:
        relayed.feed(piece)
    return relayed.finish(), relayed.reader


def every_split(data: bytes) -> list[list[bytes]]:
    """The data in two pieces, for every place between them, and in pieces of one byte."""
    return [[data[:at], data[at:]] for at in range(1, len(data))] + [[data[at : at + 1] for at in range(len(data))]]


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("name", BODIES)
def test_its_caller_gets_the_same_bytes_however_they_come(name: str, streams: bool) -> None:
    answer = answer_of(name, streams=streams)
    expected, _ = passed(name, [answer], streams=streams)
    assert (expected == answer) is (" " not in name or ("filtered" in name and not streams))
    for pieces in every_split(answer):
        got, reader = passed(name, pieces, streams=streams)
        assert got == expected
        assert (reader.usage().prompt, reader.usage().completion) == (7, 3)
        assert reader.is_complete is streams


@pytest.mark.parametrize("name", BODIES)
def test_an_error_that_comes_first_is_never_passed_on(name: str) -> None:
    for pieces in every_split(STREAM_ERRORS[source_of(name)]):
        with pytest.raises(BadAnswer) as bad:
            passed(name, pieces, streams=True)
        assert bad.value.kind is FailureKind.ERROR_EVENT


@pytest.mark.parametrize("name", BODIES)
def test_a_stream_that_its_connection_cuts_off_is_not_complete(name: str) -> None:
    events = STREAMS[source_of(name)]
    if source_of(name) == "openai":
        # With a reason and the usage the source has said all; to a translation the reason is enough.
        events = events[: 3 if name == "anthropic to openai" else 4]
    answer = b"".join(events)
    for at in range(1, len(answer) - len(events[-1])):
        relayed = Relayed(name, streams=True)
        relayed.feed(answer[:at])
        assert not relayed.reader.is_complete
        with pytest.raises(BadAnswer):
            relayed.finish(is_certain=False)
