"""A stream may be silent for as long as it likes, and send signs of life; a flood of events that say nothing ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kyma_proxy.dialect.answers.facts import BadAnswer
from kyma_proxy.dialect.answers.reader import AnswerReader
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import OPENAI
from tests.behaviour.translation import ask
from tests.harness import both, chunk, event, head

CHAT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}\n\n'
)
SAYS_NOTHING = {
    "no data": b"data:\n\n",
    "comments": b": OPENROUTER PROCESSING\n\n",
    "long comments": b": " + b"a" * 3000 + b"\n\n",
    "line feeds": b"\n",
    "returns": b"\r",
    "pings": b'event: ping\ndata: {"type":"ping"}\n\n',
    "no choices": b'data: {"choices":[]}\n\n',
    "an empty text": b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n',
    "no JSON": b"data: x\n\n",
    "other fields": b"retry: 10\n\n",
}
PIECE = 256_000
MANY = 400


def reader_of(dialect: Dialect, first: bytes) -> AnswerReader:
    """A reader of a stream that has begun with this event."""
    reader = AnswerReader(dialect, "messages" if dialect is ANTHROPIC else "chat/completions")
    reader.begin(streams=True, has_length=False, is_unframed=False)
    if not first:
        reader.let_go()
    elif not reader.open(first):
        raise AssertionError
    reader.take()
    return reader


def add_all(reader: AnswerReader, pieces: list[bytes]) -> None:
    for piece in pieces:
        reader.add(piece)


@pytest.mark.parametrize("kind", SAYS_NOTHING)
@pytest.mark.parametrize(("dialect", "first"), [(OPENAI, CHAT), (ANTHROPIC, DELTA)])
@pytest.mark.parametrize("is_cut", [False, True], ids=["whole events", "cut within events"])
def test_a_flood_of_events_that_say_nothing_is_no_answer(kind: str, dialect: Dialect, first: bytes, is_cut: bool) -> None:
    unit = SAYS_NOTHING[kind]
    piece = unit * (PIECE // len(unit))
    if is_cut:
        piece = piece[1:] + piece[:1]
    reader = reader_of(dialect, first)
    with pytest.raises(BadAnswer, match="without saying anything"):
        add_all(reader, [piece] * MANY)
    reader.usage()  # what there was of it can still be charged


@pytest.mark.parametrize("size", [7000, 16 * 1024])
def test_a_flood_before_the_first_text_is_no_answer_either(size: int) -> None:
    reader = reader_of(OPENAI, b"")
    with pytest.raises(BadAnswer, match="without saying anything"):
        add_all(reader, [b"data:\n\n" * (size // 7)] * (MANY * PIECE // size))


def test_an_event_that_never_ends_is_no_answer() -> None:
    reader = reader_of(OPENAI, CHAT)
    reader.add(b'data: {"choices":[{"delta":{"content":"')
    with pytest.raises(BadAnswer, match="without saying anything"):
        add_all(reader, [b"a" * PIECE] * MANY)


@pytest.mark.parametrize("kind", SAYS_NOTHING)
def test_signs_of_life_between_texts_are_welcome_however_many(kind: str) -> None:
    reader = reader_of(OPENAI, CHAT)
    unit = SAYS_NOTHING[kind]
    for _ in range(MANY):
        reader.add(unit * (10_000 // len(unit)))
        reader.add(CHAT * 200)


@pytest.mark.parametrize("kind", SAYS_NOTHING)
def test_signs_of_life_alone_are_welcome_one_at_a_time(kind: str) -> None:
    reader = reader_of(OPENAI, CHAT)
    for _ in range(20_000):
        reader.add(SAYS_NOTHING[kind])


def test_large_events_that_say_something_are_no_silence() -> None:
    reader = reader_of(OPENAI, CHAT)
    picture = b'data: {"type":"response.image_generation_call.partial_image","partial_image_b64":"' + b"A" * 20 * 2**20
    for _ in range(8):
        for at in range(0, len(picture), PIECE):
            reader.add(picture[at : at + PIECE])
        reader.add(b'"}\n\n')


@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_the_caller_of_a_silent_flood_is_told_and_its_provider_is_left(tmp_path: Path, caller: str) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(event("one")), *[chunk(b"data:\n\n" * 30_000)] * 200)
        client = await gateway.client()
        ask(client, caller, stream=True)
        reading = asyncio.ensure_future(client.answer())
        (record,) = await gateway.records()
        assert (record["ending"], record["attempts"]) == ("broken", ["p0:broken"])
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
