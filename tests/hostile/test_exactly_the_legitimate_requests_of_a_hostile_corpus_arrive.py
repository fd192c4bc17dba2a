"""Of a corpus of hostile requests exactly the legitimate ones arrive, and each connection gets the answers that it must get.

Each is sent to a relayed endpoint and to the control plane, alone and behind a good request, a part also over TLS and byte by
byte. A recording provider says what arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.net.downstream.listener import Listener
from kyma_proxy.net.downstream.request_reader import RequestReader
from kyma_proxy.net.sweeper import Sweeper
from tests.configurations import configuration
from tests.factories import default_snapshot
from tests.harness import Client, Gateway, accepting, gateway
from tests.hostile.answers import Answer, Unfinished, read_answers
from tests.hostile.corpus import CASES, RELAYED, Case, good
from tests.hostile.recorder import Recorder, recorder
from tests.waiting import PATIENCE_S

AT_ONCE = 48
PROBE = b"GET /v1/health HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n"


class Way(NamedTuple):
    """How a case is sent."""

    name: str
    control: bool = False
    pipelined: bool = False
    tls: bool = False
    piece: int = 1 << 20


class Sent(NamedTuple):
    """What was sent, and what must arrive for it."""

    tag: str
    received: list[bytes]
    absent: frozenset[str]


class Run:
    """Sends cases to one gateway, and gathers what must have arrived."""

    def __init__(self, running: Gateway, tls_port: int, trust: ssl.SSLContext) -> None:
        self._running = running
        self._tls = (tls_port, trust)
        self._free = asyncio.Semaphore(AT_ONCE)
        self.sent: list[Sent] = []
        self.wrong: list[str] = []

    async def send_all(self, cases: Sequence[Case], way: Way) -> None:
        """Send these cases, many at the same time."""
        async with asyncio.TaskGroup() as group:
            for at, case in enumerate(cases):
                group.create_task(self._send_in_turn(case, way, f"{way.name}-{at}"))

    async def _send_in_turn(self, case: Case, way: Way, tag: str) -> None:
        async with self._free:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._send(case, way, tag)
            except (AssertionError, ValueError, Unfinished, TimeoutError, OSError) as error:
                self.wrong.append(f"{way.name} {case.name}: {type(error).__name__} {str(error).splitlines()[:1]}")

    async def _send(self, case: Case, way: Way, tag: str) -> None:
        expected = case.answers(control=way.control, pipelined=way.pipelined)
        self.sent.append(Sent(tag, [] if way.control else case.received(expected), case.entry.absent))
        before = b""
        if way.pipelined:
            before = good(f"{tag}-first")
            self.sent.append(Sent(f"{tag}-first", good_body(), frozenset()))
        client = await self._client(tls=way.tls)
        wire = before + case.wire(tag, control=way.control)
        for at in range(0, len(wire), way.piece):
            if client.writer.is_closing():
                break
            client.send(wire[at : at + way.piece])
            if at + way.piece < len(wire):
                with contextlib.suppress(ConnectionError):  # it has been closed meanwhile
                    await client.is_read()
        due = [200, *expected] if way.pipelined else expected
        closes = case.closes(expected)
        got = b""
        if not closes or (case.entry.half_close and due):
            got = await read_some(client, len(due), bodiless=case.entry.bodiless)
        if case.entry.half_close:
            client.writer.write_eof()
        elif not closes:
            client.send(PROBE)
            due = [*due, 200]
        got += await client.read_to_end()
        client.leave()
        if case.entry.bodiless:
            assert got.count(b"HTTP/1.1 ") == len(due), f"instead of {due}: {got[:600]!r}"
            return
        answers = read_answers(got)
        assert [one.status for one in answers] == due, f"instead of {due}: {got[:600]!r}"
        if closes and answers and not case.entry.half_close:
            assert answers[-1].fields.get("connection") == "close" or answers[-1].status == 200, f"no close: {got[:600]!r}"
        assert_in_place(answers, tag, way)

    async def _client(self, *, tls: bool) -> Client:
        if not tls:
            return await self._running.client()
        port, trust = self._tls
        opened = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
        return self._running.adopt(Client(*opened))


def good_body() -> list[bytes]:
    """What the provider gets of a good request."""
    return [b'{"model":"real-0"}']


async def read_some(client: Client, count: int, *, bodiless: bool) -> bytes:
    """Read until so many answers are there."""
    got = b""
    while True:
        if got.count(b"HTTP/1.") >= count:
            with contextlib.suppress(Unfinished):
                if bodiless or len(read_answers(got)) >= count:
                    return got
        piece = await client.reader.read(65536)
        assert piece, f"closed after {got[:600]!r}"
        got += piece


def assert_in_place(answers: list[Answer], tag: str, way: Way) -> None:
    """An answer that the provider made carries the tag of this connection's request, and no other."""
    for at, answer in enumerate(answers):
        document = json.loads(answer.body) if answer.body else {}
        if document.get("object") == "chat.completion":
            assert document["id"] == (f"{tag}-first" if way.pipelined and at == 0 else tag)


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[Run, Recorder, Gateway]]:
    """A gateway with a plain and a TLS listener, in front of a recorder."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with recorder() as provider, gateway(configuration(provider.port, more=ANY_HOST), directory) as made:
        over_tls, port = accepting(made.app.listener, made.app.downstream, tls=server)
        try:
            yield Run(made, port, trust), provider, made
        finally:
            over_tls.close()


def problems(run: Run, provider: Recorder) -> list[str]:
    """What arrived and should not, what did not arrive and should, and what arrived otherwise."""
    found = [f"malformed: {head!r}" for head in provider.malformed]
    arrived: dict[str, list[bytes]] = defaultdict(list)
    absent = {one.tag: one.absent for one in run.sent}
    for one in provider.arrivals:
        arrived[one.tag].append(one.body)
        names = [name for name, _ in one.fields]
        if one.values("content-length") != [str(len(one.body))] or "transfer-encoding" in names:
            found.append(f"framing: {one.head!r}")
        if one.values("host") != [f"127.0.0.1:{provider.port}"] or one.values("authorization") != ["Bearer provider-key-0"]:
            found.append(f"host or key: {one.head!r}")
        if not absent.get(one.tag, frozenset()).isdisjoint(names) or any("_" in name for name in names):
            found.append(f"fields: {one.head!r}")
        if b"forged" in one.head or not one.head.startswith(f"POST {RELAYED}?c={one.tag}".encode()):
            found.append(f"forged: {one.head!r}")
    due = {one.tag: one.received for one in run.sent if one.received}
    found += [
        f"{tag}: arrived {arrived.get(tag)} instead of {due.get(tag)}"
        for tag in {*due, *arrived}
        if arrived.get(tag) != due.get(tag)
    ]
    return found


ANY_HOST = "listen: '0.0.0.0:8080'\n"  # names are judged by their form here, not by their owner
ALONE = Way("alone")
# Whoever sends on after a close may lose the answer to a reset of the connection (RFC 9112 §9.6).
SOME_SMALL = [case for case in CASES[::9] if len(case.text) < 300 and not case.entry.closes]
NOT_HALF_CLOSED = [case for case in CASES if not case.entry.half_close]


@pytest.mark.timeout(60)
async def test_exactly_the_legitimate_requests_arrive(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path) as (run, provider, made):
        await run.send_all(CASES, ALONE)
        await run.send_all(CASES, Way("behind", pipelined=True))
        await run.send_all(CASES, Way("control", control=True))
        await run.send_all(CASES, Way("control-behind", control=True, pipelined=True))
        await run.send_all(NOT_HALF_CLOSED[::4], Way("tls", tls=True))
        await run.send_all(NOT_HALF_CLOSED[2::4], Way("tls-behind", tls=True, pipelined=True))
        await run.send_all(NOT_HALF_CLOSED[3::4], Way("tls-control", tls=True, control=True))
        await run.send_all(SOME_SMALL, Way("bytes", piece=1))
        assert "\n".join([*run.wrong, *problems(run, provider)]) == ""
        assert all(record["status"] < 500 for record in await made.records())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def read(data: bytes, size: int) -> list[tuple[bytes, ...] | int]:
    """What a reader makes of bytes that come in pieces of this size: requests, and the status of what ended the reading."""
    reader, seen = RequestReader(Listener(default_snapshot, Sweeper(lambda: 0.0), 2**30)), list[tuple[bytes, ...] | int]()
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        while reader.ready:
            item = reader.ready.pop(0)
            if not isinstance(item, Inbound):
                return [*seen, item.kind.status]
            seen.append((item.method, item.path, item.query, item.body, *(name for name, _ in item.headers)))
            if not item.keep_alive:
                return [*seen, 0]
    return seen


@pytest.mark.parametrize("first", [b"", good("a")], ids=["alone", "behind"])
def test_each_is_read_alike_byte_by_byte(first: bytes) -> None:
    for case in CASES:
        data = first + case.wire("a")
        if not (first and case.entry.pipelined):  # an upgrade that is offered behind another request is refused in one piece
            assert read(data, 1 if len(data) < 2000 else 173) == read(data, 65_536), case.name


def test_the_corpus_has_hundreds_of_requests_and_each_says_its_rule() -> None:
    assert len(CASES) >= 300
    assert len({case.name for case in CASES}) == len(CASES)
    assert all("RFC" in case.entry.rfc for case in CASES)
