"""A matrix: fault × phase × dialect × stream or whole answer.

Before the caller has a byte, another source answers, and the header and the log say so. After that the caller sees that the
answer is truncated, and never gets a second one. When a gateway is closed, the harness asserts that no connection, request or
deadline is left over.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.faults.transcripts import TRANSCRIPTS, Transcript
from tests.harness import CLOSE, RESET, SILENCE, Client, Head, Step, both, gateway, providers, whole
from tests.waiting import PATIENCE_S, until

SHORT = "timeouts: {first_byte: 100ms, idle: 100ms}"
GARBAGE = b"\x00\xff garbage \r\n\r\n"
FAULTS: dict[str, tuple[Step, str, str]] = {
    "closed": (CLOSE, "broken", ""),
    "reset": (RESET, "broken", ""),
    "silent": (SILENCE, "first_byte_timeout", SHORT),
}
"""What the provider does, what the log says while another source can still be tried, and what the source's timeouts are."""

PHASES = [
    pytest.param(transcript, at, is_within, id=f"{transcript.name}, {'in' if is_within else 'before'} piece {at}")
    for transcript in TRANSCRIPTS
    for at in range(len(transcript.pieces))
    for is_within in (False, True)
]


def ask(client: Client, transcript: Transcript) -> None:
    stream = ',"stream":true' if transcript.streams else ""
    client.post(b'{"model":"m","max_tokens":5,"messages":[]%b}' % stream.encode(), path=transcript.path)


async def answer_of(client: Client) -> tuple[Head, bytes, bool]:
    """The head, the body as far as it came, and True if that is all of it."""
    head = await client.head()
    got = b""
    try:
        if head.headers.get("transfer-encoding") == "chunked":
            while piece := await client.chunk():
                got += piece
        else:
            async with asyncio.timeout(PATIENCE_S):
                while len(got) < int(head.headers["content-length"]):
                    piece = await client.reader.read(65536)
                    if not piece:
                        return head, got, False
                    got += piece
    except (asyncio.IncompleteReadError, ConnectionError):
        return head, got, False
    return head, got, True


def has_committed(transcript: Transcript, at: int) -> bool:
    """True if the caller gets bytes of an answer that is truncated at (or in) this piece."""
    return transcript.streams and at >= transcript.commits  # a whole answer goes out when it is there


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("transcript", "at", "is_within"), PHASES)
async def test_a_connection_fault_leads_to_the_next_source_before_the_first_byte_and_is_shown_after_it(
    tmp_path: Path, transcript: Transcript, at: int, is_within: bool, fault: str
) -> None:
    step, word, timeouts = FAULTS[fault]
    half = transcript.pieces[at][: len(transcript.pieces[at]) // 2] if is_within else b""
    sent = b"".join(transcript.pieces[:at]) + half
    async with contextlib.AsyncExitStack() as stack:
        bad, good = await stack.enter_async_context(providers(2))
        text = configuration(ProviderEntry(bad.port, source=timeouts), good.port, dialect=transcript.dialect)
        running = await stack.enter_async_context(gateway(text, tmp_path))
        bad.plays(*((sent,) if sent else ()), step)
        good.plays(b"".join(transcript.pieces))
        client = await running.client()
        ask(client, transcript)
        head, got, is_whole = await answer_of(client)
        record = (await running.records())[0]
        assert head.status == 200
        if not has_committed(transcript, at):
            assert is_whole
            assert transcript.mark in got
            assert (head.headers["x-kyma-fallback"], head.headers["x-kyma-fallback-layer"]) == ("true", "1")
            assert (record["ending"], record["fallback_layer"]) == ("completed", 1)
            assert record["attempts"] == [f"p0:{word}", "p1:answered"]
            return
        assert good.received == []
        assert "x-kyma-fallback" not in head.headers
        if transcript.streams and at == len(transcript.pieces) - 1:  # its last event is out: only its last chunk is missing
            assert is_whole
            assert got == b"".join(piece.split(b"\r\n", 1)[1].removesuffix(b"\r\n") for piece in transcript.pieces[1:-1])
            assert (record["ending"], record["attempts"], record["status"]) == ("completed", ["p0:answered"], 200)
            return
        assert not is_whole
        broken_by = word.replace("first_byte", "idle")
        assert (record["ending"], record["attempts"], record["status"]) == ("broken", [f"p0:{broken_by}"], 200)
        if transcript.streams:
            assert got.endswith(b"\n\n")
            assert b'"error"' in got
        else:
            assert transcript.mark != got


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=[one.name for one in TRANSCRIPTS])
@pytest.mark.parametrize(
    ("first", "word"),
    [
        ((GARBAGE, CLOSE), "broken"),
        *(
            ((whole(b"{}", status=f"{status} No"),), str(status))
            for status in (401, 402, 403, 404, 408, 409, 429, 500, 503, 529)
        ),
        ((whole(b"", status="302 There", more="location: /\r\n"),), "302"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_unusable_answer_leads_to_the_next_source(
    tmp_path: Path, transcript: Transcript, first: tuple[Step, ...], word: str
) -> None:
    async with both(tmp_path, 2, dialect=transcript.dialect) as (running, bad, good):
        bad.plays(*first)
        good.plays(b"".join(transcript.pieces))
        client = await running.client()
        ask(client, transcript)
        head, got, is_whole = await answer_of(client)
        assert (head.status, head.headers["x-kyma-fallback-layer"], is_whole) == (200, "1", True)
        assert transcript.mark in got
        assert (await running.records())[0]["attempts"] == [f"p0:{word}", "p1:answered"]


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=[one.name for one in TRANSCRIPTS])
@pytest.mark.parametrize("status", ["400 Bad", "406 No", "413 Large", "415 No", "422 No", "451 No"])
async def test_a_status_that_is_not_retryable_is_relayed(tmp_path: Path, transcript: Transcript, status: str) -> None:
    async with both(tmp_path, 2, dialect=transcript.dialect) as (running, first, second):
        first.plays(whole(b'{"error":"yours"}', status=status))
        client = await running.client()
        ask(client, transcript)
        answer = await client.answer()
        assert (answer.status, answer.body) == (int(status[:3]), b'{"error":"yours"}')
        assert second.received == []
        assert (await running.records())[0]["ending"] == "relayed_error"


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=[one.name for one in TRANSCRIPTS])
async def test_a_refused_connection_leads_to_the_next_source(
    tmp_path: Path, transcript: Transcript, unused_tcp_port: int
) -> None:
    async with providers(1) as (good,):
        text = configuration(unused_tcp_port, good.port, dialect=transcript.dialect)
        async with gateway(text, tmp_path) as running:
            good.plays(b"".join(transcript.pieces))
            client = await running.client()
            ask(client, transcript)
            head, got, is_whole = await answer_of(client)
            assert (head.headers["x-kyma-fallback-layer"], is_whole) == ("1", True)
            assert transcript.mark in got
            assert (await running.records())[0]["attempts"] == ["p0:connect", "p1:answered"]


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=[one.name for one in TRANSCRIPTS])
@pytest.mark.parametrize("when", ["before the head", "after the head", "in the middle"])
async def test_a_caller_who_disconnects_ends_the_attempt_and_is_no_failure(
    tmp_path: Path, transcript: Transcript, when: str
) -> None:
    count = {"before the head": 0, "after the head": 1, "in the middle": 2}[when]
    async with both(tmp_path, 2, dialect=transcript.dialect) as (running, first, second):
        sent = b"".join(transcript.pieces[:count])
        first.plays(*((sent,) if sent else ()), SILENCE)
        client = await running.client()
        ask(client, transcript)
        await until(lambda: first.received and first.written >= len(sent))
        if count == 2:
            await client.head()
        client.leave()
        record = (await running.records())[0]
        assert record["ending"] == "client_gone"
        assert second.received == []
        assert running.source()["availability_24h"] in (None, 1.0)


async def test_a_malformed_event_among_good_ones_passes_through(tmp_path: Path) -> None:
    transcript = TRANSCRIPTS[0]
    broken = b'12\r\ndata: {"choices":[\n\n\r\n'.replace(b"12", b"%x" % len(b'data: {"choices":[\n\n'))
    async with both(tmp_path) as (running, provider):
        provider.plays(b"".join((*transcript.pieces[:2], broken, *transcript.pieces[2:])))
        client = await running.client()
        ask(client, transcript)
        _, got, is_whole = await answer_of(client)
        assert is_whole
        assert b'data: {"choices":[\n\n' in got
        assert (await running.records())[0]["ending"] == "completed"
