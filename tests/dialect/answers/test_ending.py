"""A cut is never whole, and what its protocol has ended is."""

from __future__ import annotations

import itertools

import pytest

from kyma_proxy.dialect.answers.ending import Findings, is_whole
from kyma_proxy.dialect.answers.facts import BadAnswer
from kyma_proxy.dialect.openai import OPENAI
from tests.dialect.answers.reading import pieces_of, reader_of

EVERY = [*itertools.product((True, False), repeat=7)]


@pytest.mark.parametrize("row", EVERY)
def test_every_row_of_what_was_found_and_how_the_stream_ended(row: tuple[bool, ...]) -> None:
    answer, reason, usage, end, is_certain, always_ends, needs_usage = row
    found = Findings(answer, reason, usage, end)
    whole = is_whole(found, is_certain=is_certain, always_ends=always_ends, needs_usage=needs_usage)
    if not answer or not (reason or end):
        assert not whole  # neither silence nor a text without an end
    elif end or is_certain:
        assert whole
    else:
        assert whole == (not always_ends and (usage or not needs_usage))


DONE = b"data: [DONE]\n\n"
PING, ROLE = b": ping\n\n", b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'


@pytest.mark.parametrize("body", [
    PING * 9, PING * 9000, PING + DONE, PING * 9000 + DONE, ROLE + ROLE, b"data: {\n\n", b"data: half",
])  # fmt: skip
def test_a_stream_that_never_says_anything_is_no_answer_even_after_its_hold(body: bytes) -> None:
    reader = reader_of(OPENAI, [], streams=True)
    reader.open(PING)
    reader.let_go()
    reader.take()
    reader.add(body)
    with pytest.raises(BadAnswer):
        reader.finish(is_certain=True)


@pytest.mark.parametrize("body", [b'{"choices":null}', b"<html>", b"", b'{"a":1}'])
def test_a_slow_whole_answer_is_judged_at_its_end(body: bytes) -> None:
    reader = reader_of(OPENAI, [], streams=False)
    reader.open(b"  ")
    reader.let_go()
    reader.take()
    reader.add(body)
    with pytest.raises(BadAnswer):
        reader.finish(is_certain=True)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("opening", [b"", b"\xef\xbb\xbf", b"\n", b"\r\n\r\n", b":ping\n\n", b"event: x\n"])
def test_a_stream_of_another_type_is_one_however_it_is_cut(opening: bytes, size: int) -> None:
    body = opening + b'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    reader = reader_of(OPENAI, pieces_of(body, range(0, len(body), size)), streams=False)
    reader.finish(is_certain=False)
    assert reader.streams
