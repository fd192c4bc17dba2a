"""The pieces in which an answer comes change nothing in what it says, and little in what it costs to read it."""

from __future__ import annotations

import time

import pytest

from kyma_proxy.dialect.answers.facts import Facts
from kyma_proxy.dialect.answers.last_events import KEPT_BYTES, MORE_EVENTS
from kyma_proxy.dialect.openai import OPENAI
from kyma_proxy.dialect.sse import BOM
from tests.dialect.answers.reading import pieces_of, reader_of

USAGE = b'"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17}'
EVENT = b'{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}],' + USAGE + b"}\n\n"
MAX_S = 10.0
"""Many times what it takes, and a fraction of what it would if each piece moved all others."""


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("line", [b"data: ", b": ping\n\ndata: ", b"event: x\ndata: ", b"retry: 9\ndata: ", b"id: 1\ndata: "])
def test_a_stream_without_its_type_is_known_in_whatever_pieces_it_comes(line: bytes, mark: bytes, size: int) -> None:
    body = mark + line + EVENT + b"data: [DONE]\n\n"
    reader = reader_of(OPENAI, pieces_of(body, range(0, len(body), size)), streams=False)
    reader.finish(is_certain=True)
    assert reader.streams
    assert reader.usage().completion == 7


def test_a_large_whole_answer_in_tiny_pieces_is_read_in_linear_time() -> None:
    filling = [b"x"] * 2_000_000
    pieces = [b'{"choices":[{"message":{"content":"', *filling, b'"}}],', USAGE, b"}"]
    started = time.process_time()
    reader = reader_of(OPENAI, pieces, streams=False, has_length=True)
    reader.finish(is_certain=True)
    assert reader.usage().completion == 7
    assert time.process_time() - started < MAX_S


@pytest.mark.parametrize("count", [40, 400])
def test_at_the_end_only_the_last_events_of_a_stream_are_read(count: int) -> None:
    read = []

    def read_event(name: bytes, data: bytes) -> Facts:
        read.append(data)
        return OPENAI.read_event(name, data)

    counting = OPENAI._replace(read_event=read_event)
    word = b'data: {"choices":[{"index":0,"delta":{"content":"a word of usual length"},"finish_reason":null}]}\n\n'
    reader = reader_of(counting, [*[word] * count, b"data: " + EVENT, b"data: [DONE]\n\n"], streams=True)
    read.clear()
    reader.finish(is_certain=True)
    assert reader.usage().completion == 7
    assert reader.is_complete
    assert 4 <= len(read) <= KEPT_BYTES // len(word) + MORE_EVENTS + 3
