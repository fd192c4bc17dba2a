"""A translated answer begins with its first event, in the form that was asked for, and is complete after its last."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.translation import OTHER, STREAMS, WHOLE, WHOLE_ANSWERS, ask, text_of_answer, text_of_stream
from tests.harness import CLOSE, LAST_CHUNK, TURN, both, chunk, head, whole
from tests.waiting import passes

SAYS_NOTHING = {
    "openai": {
        "malformed JSON": b"data: {nope\n\n",
        "an event without content": b'data: {"foo":1}\n\n',
        "an HTML page": b"<html>\n\n",
        "an error with a name only": b"event: error\ndata: {}\n\n",
        "an error": b'data: {"error":{"message":"x","code":500}}\n\n',
    },
    "anthropic": {
        "malformed JSON": b"data: {nope\n\n",
        "an event without content": b'data: {"type":"future"}\n\n',
        "an HTML page": b"<html>\n\n",
        "an error with a name only": b"event: error\ndata: {}\n\n",
        "an error": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n',
    },
}


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("ends", [CLOSE, LAST_CHUNK], ids=["cut", "ended"])
@pytest.mark.parametrize("what", SAYS_NOTHING["openai"])
async def test_a_stream_that_begins_with_nothing_usable_leads_to_the_next_source(
    tmp_path: Path, dialect: str, ends: Any, what: str
) -> None:
    other = OTHER[dialect]
    async with both(tmp_path, 2, dialect=other) as (running, odd, fine):
        odd.plays(head() + chunk(SAYS_NOTHING[other][what]), ends)
        fine.plays(head() + b"".join(map(chunk, STREAMS[other])) + LAST_CHUNK)
        client = await running.client()
        ask(client, dialect, stream=True)
        answer = await client.answer()
        assert answer.headers["x-kyma-fallback-layer"] == "1"
        assert text_of_stream(dialect, answer.body) == "one two"
        assert b'"error"' not in answer.body
        assert (await running.records())[0]["ending"] == "completed"
        await running.is_at_rest()


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_comment_commits_the_answer_to_its_source_when_the_hold_is_over(tmp_path: Path, dialect: str) -> None:
    other = OTHER[dialect]
    async with both(tmp_path, dialect=other, hold="50ms") as (running, source):
        gate = asyncio.Event()
        source.plays(head() + chunk(b": waiting\n\n"), gate, CLOSE)
        client = await running.client()
        ask(client, dialect, stream=True)
        assert (await client.head()).status == 200
        gate.set()
        assert b'"error"' in await client.read_to_end()
        assert (await running.records())[0]["ending"] == "broken"


@pytest.mark.parametrize("dialect", OTHER)
async def test_an_error_after_the_first_event_does_not_lead_to_another_source(tmp_path: Path, dialect: str) -> None:
    other = OTHER[dialect]
    async with both(tmp_path, 2, dialect=other) as (running, odd, fine):
        odd.plays(head() + b"".join(map(chunk, STREAMS[other][:3])), chunk(SAYS_NOTHING[other]["an error"]) + LAST_CHUNK)
        client = await running.client()
        ask(client, dialect, stream=True)
        opening = await client.head()
        assert "x-kyma-fallback" not in opening.headers
        got = await client.read_to_end()
        assert got.count(b'"error":') == 1
        if dialect == "anthropic":
            (error,) = [json.loads(line[6:]) for line in got.splitlines() if line.startswith(b'data: {"type":"error"')]
            assert error["request_id"] == opening.headers["x-request-id"]
        assert fine.received == []


@pytest.mark.parametrize("speaks", OTHER)
@pytest.mark.parametrize("dialect", OTHER)
async def test_a_stream_whose_last_event_has_gone_out_is_complete_however_its_connection_ends(
    tmp_path: Path, dialect: str, speaks: str
) -> None:
    async with both(tmp_path, 2, dialect=speaks) as (running, source, _spare):
        source.plays(head() + b"".join(map(chunk, STREAMS[speaks])), CLOSE)
        client = await running.client()
        for _ in range(2):
            source.plays(head() + b"".join(map(chunk, STREAMS[speaks])), CLOSE)
            ask(client, dialect, stream=True)
            answer = await client.answer()  # with its last chunk
            assert "x-kyma-fallback" not in answer.headers  # the source is not blamed
            assert text_of_stream(dialect, answer.body) == "one two"
            assert b'"error"' not in answer.body
        records = await running.records()
        assert [(one["ending"], one["completion_tokens"]) for one in records] == [("completed", 3)] * 2
        await running.is_at_rest()


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_caller_who_asks_for_a_whole_answer_gets_one_though_the_source_streams(tmp_path: Path, dialect: str) -> None:
    other = OTHER[dialect]
    async with both(tmp_path, dialect=other) as (running, source):
        source.plays(head() + b"".join(map(chunk, STREAMS[other])) + LAST_CHUNK)
        client = await running.client()
        ask(client, dialect)
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert text_of_answer(dialect, answer) == "one two"
        record = (await running.records())[0]
        assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (7, 3, "completed")


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_truncated_stream_is_no_whole_answer_either(tmp_path: Path, dialect: str) -> None:
    other = OTHER[dialect]
    async with both(tmp_path, 2, dialect=other) as (running, odd, fine):
        odd.plays(head() + b"".join(map(chunk, STREAMS[other][: 3 if other == "anthropic" else 2])) + LAST_CHUNK)
        fine.plays(WHOLE_ANSWERS[other])
        client = await running.client()
        ask(client, dialect)
        answer = await client.answer()
        assert (answer.headers["x-kyma-fallback-layer"], text_of_answer(dialect, answer)) == ("1", "one two")


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("kind", ["application/octet-stream", "application/json", None])
async def test_a_stream_is_recognized_by_its_content_not_by_its_content_type(
    tmp_path: Path, dialect: str, streams: bool, kind: str | None
) -> None:
    other = OTHER[dialect]
    opening = head(kind=kind) if kind else head().replace(b"content-type: text/event-stream\r\n", b"")
    async with both(tmp_path, dialect=other) as (running, source):
        source.plays(opening + b"".join(map(chunk, STREAMS[other])) + LAST_CHUNK)
        client = await running.client()
        ask(client, dialect, stream=streams)
        answer = await client.answer()
        assert answer.headers["content-type"] == ("text/event-stream" if streams else "application/json")
        assert (text_of_stream(dialect, answer.body) if streams else text_of_answer(dialect, answer)) == "one two"


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("streams", [True, False])
async def test_a_byte_order_mark_is_no_part_of_an_answer(tmp_path: Path, dialect: str, streams: bool) -> None:
    other = OTHER[dialect]
    async with both(tmp_path, dialect=other) as (running, source):
        source.plays(whole(b"\xef\xbb\xbf" + json.dumps(WHOLE[other]).encode()))
        client = await running.client()
        ask(client, dialect, stream=streams)
        answer = await client.answer()
        assert (text_of_stream(dialect, answer.body) if streams else text_of_answer(dialect, answer)) == "one two"


@pytest.mark.parametrize("streams", [True, False])
async def test_what_translation_drops_from_the_answer_is_named_with_what_it_drops_from_the_request(
    tmp_path: Path, streams: bool
) -> None:
    block = {"type": "text", "text": "one two", "citations": [{"cited_text": "q"}]}
    async with both(tmp_path, dialect="anthropic") as (running, source):
        source.plays(whole(json.dumps(WHOLE["anthropic"] | {"content": [block, {"type": "server_tool_use"}]}).encode()))
        client = await running.client()
        ask(client, "openai", seed=1, stream=streams)
        answer = await client.answer()
        assert answer.headers["x-kyma-dropped"] == "seed, answer.content[0].citations, answer.content[1].server_tool_use"


@pytest.mark.parametrize("dialect", OTHER)
async def test_a_stream_without_its_last_event_is_not_complete(tmp_path: Path, dialect: str) -> None:
    async with both(tmp_path, dialect=dialect) as (running, source):
        source.plays(head() + b"".join(map(chunk, STREAMS[dialect][:-1])), CLOSE)
        client = await running.client()
        ask(client, dialect, stream=True)
        await client.head()
        assert b'"error"' in await client.read_to_end()
        assert (await running.records())[0]["ending"] == "broken"


@pytest.mark.parametrize(
    ("dialect", "words", "events"), [("openai", b"message_stop", 2), ("anthropic", b"response.completed", 4)]
)
async def test_the_words_of_an_end_in_the_answers_text_are_no_end(
    tmp_path: Path, dialect: str, words: bytes, events: int
) -> None:
    async with both(tmp_path, dialect=dialect) as (running, source):
        source.plays(head() + b"".join(chunk(one.replace(b"two", words)) for one in STREAMS[dialect][:events]), CLOSE)
        client = await running.client()
        ask(client, OTHER[dialect], stream=True)
        await client.head()
        got = await client.read_to_end()
        assert b'"%b"' % words in got
        assert b'"error"' in got
        assert not got.endswith(LAST_CHUNK)
        assert (await running.records())[0]["ending"] == "broken"


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("sizes", [(10, 100_000), (100_000, 100_000), (10, 20)], ids=["grows", "large", "small"])
async def test_a_slow_whole_answer_is_translated_once_whatever_was_held_of_it(
    tmp_path: Path, dialect: str, sizes: tuple[int, int]
) -> None:
    other = OTHER[dialect]
    body = b" " * 200_000 + json.dumps(WHOLE[other]).encode()
    first, second = sizes
    async with both(tmp_path, dialect=other, hold="50ms") as (running, source):
        gate = asyncio.Event()
        opening = head(kind="application/json") + chunk(body[:first])
        source.plays(opening, TURN, chunk(body[first : first + second]), gate, chunk(body[first + second :]), LAST_CHUNK)
        client = await running.client()
        ask(client, dialect)
        await passes(0.2)
        gate.set()
        answer = await client.answer()
        assert (answer.status, text_of_answer(dialect, answer)) == (200, "one two")
        assert (await running.records())[0]["attempts"] == ["p0:answered"]


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_half_a_surrogate_pair_spoils_nothing_else(tmp_path: Path, dialect: str, stream: bool) -> None:
    other = OTHER[dialect]
    body = json.dumps(WHOLE[other]).encode().replace(b"two", b"\\ud83d")
    chunks = [event.replace(b"two", b"\\ud83d") for event in STREAMS[other]]
    async with both(tmp_path, dialect=other) as (running, source):
        source.plays(head() + b"".join(map(chunk, chunks)) + LAST_CHUNK if stream else whole(body))
        client = await running.client()
        ask(client, dialect, stream=stream)
        answer = await client.answer()
        text = text_of_stream(dialect, answer.body) if stream else text_of_answer(dialect, answer)
        assert text == "one \ufffd"
        assert (await running.records())[0]["ending"] == "completed"
