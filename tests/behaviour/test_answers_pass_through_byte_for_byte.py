"""The caller gets the provider's bytes, whatever they are and however they are split."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import DONE, LAST_CHUNK, OK, STREAM, both, chunk, event, head, whole
from tests.waiting import until

ROLE = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
FIRST = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


async def test_a_whole_answer_passes_through_unchanged(tmp_path: Path) -> None:
    body = b'{ "b":1.0 ,"a":"\\u00e9\xc3\xa9",  "a":2, "choices" : [ { "message":{} } ]}\n'
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(body, more="openai-processing-ms: 12\r\nset-cookie: s=1\r\nx-ratelimit-limit-requests: 9\r\n"))
        client = await gateway.client()
        client.ask()
        answer = await client.answer()
    assert answer.body == body
    assert answer.headers["openai-processing-ms"] == "12"
    assert answer.headers["x-kyma-model"] == "m"
    assert not {"set-cookie", "x-ratelimit-limit-requests", "x-kyma-alias", "x-kyma-fallback"} & set(answer.headers)


async def test_each_of_several_answers_with_the_same_fields_passes_with_its_own_values(tmp_path: Path) -> None:
    answers = [(f"req-{n}", b'{"choices":[{"message":{"content":"%b"}}]}' % (b"x" * n)) for n in (1, 2, 300, 0, 9)]
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for identity, body in answers:
            provider.plays(whole(body, more=f"x-request-id: {identity}\r\nopenai-processing-ms: {identity[4:]}\r\n"))
            client.ask()
            answer = await client.answer()
            assert answer.body == body
            assert answer.headers["openai-processing-ms"] == identity[4:]
        records = await gateway.records(len(answers))
    assert [record["provider_request_id"] for record in records] == [identity for identity, _ in answers]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(st.binary(min_size=1, max_size=400).map(lambda data: b"data: " + data + b"\n\n"), max_size=8),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
    framed=st.booleans(),
)
def test_a_stream_passes_through_unchanged_however_it_is_split(
    tmp_path: Path, events: list[bytes], cuts: list[int], framed: bool
) -> None:
    body = ROLE + FIRST + b"".join(events) + DONE
    if framed:
        wire = head() + b"".join(map(chunk, (ROLE, FIRST, *events, DONE))) + LAST_CHUNK
    else:
        wire = whole(body, kind="text/event-stream")
    places = sorted({cut % len(wire) for cut in cuts})
    pieces = [wire[a:b] for a, b in zip([0, *places], [*places, len(wire)], strict=True) if a < b]

    async def once() -> None:
        async with both(tmp_path) as (gateway, provider):
            provider.plays(*pieces)
            client = await gateway.client()
            client.ask(stream=True)
            assert (await client.answer()).body == body

    asyncio.run(once())


async def test_an_event_of_five_megabytes_passes_through_unchanged(tmp_path: Path) -> None:
    body = FIRST + b"data: " + b"x" * 5_000_000 + b"\n\n" + DONE
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(body) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        assert (await client.answer()).body == body


async def test_a_compressed_stream_passes_as_the_bytes_that_it_holds(tmp_path: Path) -> None:
    body = gzip.compress(ROLE + FIRST + DONE)
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head(more="content-encoding: gzip\r\n") + chunk(body[:30]) + chunk(body[30:]) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        answer = await client.answer()
    assert answer.body == ROLE + FIRST + DONE
    assert "content-encoding" not in answer.headers


async def test_a_malformed_event_in_mid_stream_passes_through_unchanged(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(FIRST) + chunk(b"data: {broken\n\n") + chunk(DONE) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        assert (await client.answer()).body == FIRST + b"data: {broken\n\n" + DONE
        assert (await gateway.records())[0]["ending"] == "completed"


async def test_each_event_goes_out_as_soon_as_it_comes_in(tmp_path: Path) -> None:
    gates = [asyncio.Event() for _ in range(4)]
    async with both(tmp_path) as (gateway, provider):
        steps: list[bytes | asyncio.Event] = [head()]
        for number, gate in enumerate(gates):
            steps += [chunk(event(f"piece {number}")), gate]
        provider.plays(*steps, chunk(DONE) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        assert (await client.head()).status == 200
        for number, gate in enumerate(gates):
            assert await client.chunk() == event(f"piece {number}")  # the provider says nothing more until it has come
            gate.set()
        assert await client.chunk() == DONE
        assert await client.chunk() == b""


SILENT = [b": keep-alive\n\n", ROLE, b"event: ping\ndata: {}\n\n", b'data: {"choices":[]}\n\n']


@pytest.mark.parametrize("hold", ["0", "50ms"])
@pytest.mark.parametrize("silent", SILENT)
async def test_what_says_nothing_goes_out_when_the_hold_is_over(tmp_path: Path, silent: bytes, hold: str) -> None:
    gate = asyncio.Event()
    async with both(tmp_path, hold=hold) as (gateway, provider):
        provider.plays(head() + chunk(silent), gate, chunk(FIRST) + chunk(DONE) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        await client.head()
        assert await client.chunk() == silent  # the provider says nothing more until it has come
        gate.set()
        assert (await client.rest()) == FIRST + DONE


@pytest.mark.parametrize("silent", SILENT)
async def test_what_says_nothing_goes_out_in_one_piece_with_what_follows(tmp_path: Path, silent: bytes) -> None:
    gate, later = asyncio.Event(), asyncio.Event()
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(silent), gate, chunk(FIRST), later, chunk(DONE) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        await until(lambda: provider.received)
        gate.set()
        await client.head()
        assert await client.chunk() == silent + FIRST
        later.set()
        assert await client.rest() == DONE


async def test_no_more_than_64_kib_are_held(tmp_path: Path) -> None:
    gate = asyncio.Event()
    ping = b": " + b"x" * 1020 + b"\n\n"
    async with both(tmp_path, hold="1h") as (gateway, provider):
        provider.plays(head() + chunk(ping * 65), gate, chunk(FIRST) + chunk(DONE) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        await client.head()
        assert await client.chunk() == ping * 65
        gate.set()
        assert await client.rest() == FIRST + DONE


async def test_a_first_event_is_held_until_it_is_complete(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(FIRST[:20]), gate, chunk(FIRST[20:]) + chunk(DONE) + LAST_CHUNK)
        client = await gateway.client()
        client.ask(stream=True)
        gate.set()
        assert (await client.answer()).body == FIRST + DONE


async def test_the_connection_to_the_provider_is_reused_after_an_answer(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(OK)
        provider.plays(STREAM)
        client = await gateway.client()
        for stream in (False, True, False):
            client.ask(stream=stream)
            assert (await client.answer()).status == 200
        assert provider.connections == 1
