"""A matrix: what goes wrong × when × dialect × stream or whole. Before the caller has a byte, another source answers, and the
header, the log and the attempts say so; afterwards the truth is told, and never a second answer. Nothing is left over.

(That connections, requests and watched deadlines are back to nothing is asserted when each gateway is closed.)
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.transcripts import TRANSCRIPTS, Transcript
from tests.harness import CLOSE, RESET, Client, Head, Provider, Step, both, configuration, gateway, providers, whole

TIMEOUTS = "{connect: 2s, first_byte: 200ms, idle: 200ms}"
GARBAGE = b"\x00\xff garbage \r\n\r\n"
FAULTS: dict[str, tuple[tuple[Step, ...], str]] = {
    "is closed": ((CLOSE,), "broken"),
    "is reset": ((RESET,), "broken"),
    "falls silent": ((), "first_byte_timeout"),
}
"""What happens, and the word for it where another source could still be asked."""

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
    """The head, what came of the body, and whether that is all of it."""
    head = await client.head()
    got = b""
    try:
        if head.headers.get("transfer-encoding") == "chunked":
            while piece := await client.chunk():
                got += piece
        else:
            async with asyncio.timeout(10):
                while len(got) < int(head.headers["content-length"]):
                    piece = await client.reader.read(65536)
                    if not piece:
                        return head, got, False
                    got += piece
    except (asyncio.IncompleteReadError, ConnectionError):
        return head, got, False
    return head, got, True


def has_committed(transcript: Transcript, at: int, *, is_within: bool) -> bool:
    """Whether the caller has had bytes of an answer that is cut at (or in) this piece: a stream's first event must be whole."""
    if transcript.streams:
        return at >= transcript.commits
    return at >= transcript.commits or (at == transcript.commits - 1 and is_within)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("transcript", "at", "is_within"), PHASES)
async def test_a_connection_that(tmp_path: Path, transcript: Transcript, at: int, is_within: bool, fault: str) -> None:
    steps, word = FAULTS[fault]
    half = transcript.pieces[at][: len(transcript.pieces[at]) // 2] if is_within else b""
    sent = b"".join(transcript.pieces[:at]) + half
    waits = asyncio.Event()
    async with both(tmp_path, 2, timeouts=TIMEOUTS, dialect=transcript.dialect) as (running, bad, good):
        bad.plays(*((sent,) if sent else ()), *(steps or (waits,)))
        good.plays(b"".join(transcript.pieces))
        client = await running.client()
        ask(client, transcript)
        head, got, is_whole = await answer_of(client)
        record = (await running.records())[0]
        assert head.status == 200
        if not has_committed(transcript, at, is_within=is_within):
            assert is_whole
            assert transcript.mark in got
            assert (head.headers["x-kyma-fallback"], head.headers["x-kyma-fallback-layer"]) == ("true", "1")
            assert (record["ending"], record["fallback_layer"]) == ("completed", 1)
            assert record["attempts"] == [f"p0:{word}", "p1:answered"]
            return
        assert good.received == []
        assert "x-kyma-fallback" not in head.headers
        if (
            transcript.streams and at == len(transcript.pieces) - 1
        ):  # it has said that it is whole: only its last chunk is missing
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
async def test_an_answer_that_is_none_leads_on(
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
@pytest.mark.parametrize("status", ["400 Bad", "405 No", "413 Large", "415 No", "422 No", "451 No"])
async def test_an_answer_that_no_other_source_can_mend_is_relayed(tmp_path: Path, transcript: Transcript, status: str) -> None:
    async with both(tmp_path, 2, dialect=transcript.dialect) as (running, first, second):
        first.plays(whole(b'{"error":"yours"}', status=status))
        client = await running.client()
        ask(client, transcript)
        answer = await client.answer()
        assert (answer.status, answer.body) == (int(status[:3]), b'{"error":"yours"}')
        assert second.received == []
        assert (await running.records())[0]["ending"] == "relayed_error"


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=[one.name for one in TRANSCRIPTS])
async def test_a_port_at_which_nobody_listens_leads_on(tmp_path: Path, transcript: Transcript, unused_tcp_port: int) -> None:
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
async def test_a_caller_who_leaves_ends_the_attempt_and_blames_nobody(
    tmp_path: Path, transcript: Transcript, when: str
) -> None:
    count = {"before the head": 0, "after the head": 1, "in the middle": 2}[when]
    async with both(tmp_path, 2, dialect=transcript.dialect) as (running, first, second):
        sent = b"".join(transcript.pieces[:count])
        first.plays(*((sent,) if sent else ()), asyncio.Event())
        client = await running.client()
        ask(client, transcript)
        await _until_sent(first, len(sent))
        if count == 2:
            await client.head()
        client.leave()
        record = (await running.records())[0]
        assert record["ending"] == "client_gone"
        assert second.received == []
        breaker = running.app.breakers.of("p0 real-0")
        assert (breaker.state, breaker.last) == ("closed", None)


async def _until_sent(provider: Provider, size: int) -> None:
    async with asyncio.timeout(10):
        while not provider.received or provider.written < size:
            await asyncio.sleep(0.002)


async def test_a_malformed_event_among_good_ones_is_nobodys_business(tmp_path: Path) -> None:
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
