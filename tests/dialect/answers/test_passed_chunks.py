"""A stream whose chunks passed as they came is read as one whose pieces were seen."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from kyma_proxy.core.http.chunks import size_of_events
from kyma_proxy.dialect.answers.facts import BadAnswer
from kyma_proxy.dialect.answers.last_events import KEPT_BYTES
from kyma_proxy.dialect.answers.reader import AnswerReader
from kyma_proxy.dialect.openai import OPENAI

TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17}}\n\n'
ERROR = b'data: {"error":{"message":"overloaded","code":503}}\n\n'
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
ENDS = {"usage": [STOP, USAGE, DONE], "no usage": [STOP, DONE], "an error": [ERROR], "nothing": [], "pings": [STOP, PING, PING]}


def chunk(body: bytes) -> bytes:
    """The body as one chunk."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def findings(pieces: Sequence[bytes], passing: Sequence[bool]) -> tuple[Any, ...]:
    """What a reader finds of these pieces; those that are `passing` go past it as chunks."""
    reader = AnswerReader(OPENAI, OPENAI.endpoints[0].name)
    reader.begin(streams=True, has_length=False, is_unframed=False)
    reader.open(pieces[0])
    reader.take()
    for piece, passes in zip(pieces[1:], passing[1:], strict=True):
        if passes and size_of_events(chunk(piece)):
            passed = reader.passed_chunks()
            assert passed is not None
            passed.add(chunk(piece), len(piece))
        else:
            reader.add(piece)
    between = reader.is_between_events
    try:
        reader.finish(is_certain=True)
    except BadAnswer as bad:
        return between, bad.kind, bad.detail
    return between, reader.is_complete, reader.usage(), reader.error


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("events", [1, 3, 4, 15, 200])
def test_the_same_is_found(events: int, end: list[bytes]) -> None:
    chance = random.Random(events)
    pieces = [TEXT % (b"x" * chance.randint(1, 300)) for _ in range(events)] + end
    expected = findings(pieces, [False] * len(pieces))
    assert findings(pieces, [True] * len(pieces)) == expected
    for _ in range(20):
        assert findings(pieces, chance.choices([True, False], k=len(pieces))) == expected


def test_about_as_many_tokens_are_delivered() -> None:
    pieces = [TEXT % (b"word " * size) for size in itertools.islice(itertools.cycle([3, 1, 8]), 100)]
    delivered = []
    for passes in (True, False):
        reader = AnswerReader(OPENAI, OPENAI.endpoints[0].name)
        reader.begin(streams=True, has_length=False, is_unframed=False)
        reader.open(pieces[0])
        reader.take()
        for piece in pieces[1:]:
            passed = reader.passed_chunks() if passes else None
            if passed is not None:
                passed.add(chunk(piece), len(piece))
            else:
                reader.add(piece)
        delivered.append(reader.delivered())
    assert delivered[0] == pytest.approx(delivered[1], rel=0.02)


def test_few_chunks_are_kept_of_however_many() -> None:
    reader = AnswerReader(OPENAI, OPENAI.endpoints[0].name)
    reader.begin(streams=True, has_length=False, is_unframed=False)
    reader.open(TEXT % b"x")
    passed = reader.passed_chunks()
    assert passed is not None
    for _ in range(5_000):
        passed.add(chunk(TEXT % b"x"), len(TEXT % b"x"))
        assert len(passed.body()) <= 2 * KEPT_BYTES + len(TEXT)
    assert passed.size == 5_000 * len(TEXT % b"x")
