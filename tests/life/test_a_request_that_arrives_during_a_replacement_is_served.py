"""A request whose connection can't be handed over at a replacement is answered by the new process, which alone judges it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from tests.harness import DONE, LAST_CHUNK, Client, chunk, event, head
from tests.life.certificates import trusting, written_certificate
from tests.life.test_a_gateway_with_accounts_is_replaced import COST, RPM, TIERS, metered
from tests.serving_place import Place, ended, place
from tests.waiting import until

ALIAS = "aliases: {swift: m}\n"
BODY = b'{"model":"swift","messages":[]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n%bcontent-length: %d\r\n\r\n"
CALLERS = 5


@contextlib.asynccontextmanager
async def encrypted(directory: Path) -> AsyncIterator[Place]:
    """An address with TLS at which something may serve."""
    async with place(directory, more=written_certificate(directory)) as here:
        here.tls = trusting()
        yield here


async def plain_connection(here: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which no handshake has begun."""
    return await asyncio.open_connection(*here.listen.rsplit(":", 1))


class Handshake:
    """A TLS handshake on a connection, of which the caller decides when it goes on."""

    def __init__(self, here: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert here.tls is not None
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = here.tls.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def send_hello(self) -> None:
        """Send the first message, and wait until the answer to it begins."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self._writer.write(self._outgoing.read())
        self._incoming.write(await self._reader.readexactly(1))

    async def status_of(self, request: bytes) -> bytes:
        """Finish the handshake, send a request, and return the first line of its answer."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._writer.write(self._outgoing.read())
                self._incoming.write(await self._reader.read(65536))
        self._tls.write(request)
        self._writer.write(self._outgoing.read())
        while True:
            try:
                return self._tls.read(65536).partition(b"\r\n")[0]
            except ssl.SSLWantReadError:
                self._incoming.write(await self._reader.read(65536))

    def leave(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


async def test_no_caller_over_tls_is_refused_and_each_connection_closes_after_its_next_answer(tmp_path: Path) -> None:
    async with encrypted(tmp_path) as here, here.serving() as old:
        go_on = asyncio.Event()
        here.provider.plays(head() + chunk(event("one")), go_on, chunk(event("two")) + chunk(DONE) + LAST_CHUNK)
        streaming = await here.client()
        streaming.ask(stream=True)
        assert (await streaming.head()).status == 200
        assert await streaming.chunk() == event("one")
        idle = [await here.client() for _ in range(CALLERS)]
        for caller in idle:
            caller.ask()
            assert (await caller.answer()).status == 200
        idle += [await here.client() for _ in range(CALLERS)]  # the handshake is over, and nothing was asked
        silent = [Handshake(here, *await plain_connection(here)) for _ in range(CALLERS)]
        begun = [Handshake(here, *await plain_connection(here)) for _ in range(CALLERS)]
        for handshake in begun:
            await handshake.send_hello()
        here.text += ALIAS  # only the new process has it
        async with here.serving("--replace") as new:
            await until(lambda: "another process serves" in old.stderr)
            request = HEAD % (b"", len(BODY)) + BODY
            for handshake in [*silent, *begun]:
                assert await handshake.status_of(request) == b"HTTP/1.1 200 OK"
                handshake.leave()
            for caller in idle:
                caller.send(request)
                answer = await caller.answer()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                assert await caller.read_to_end() == b""
            assert not old.has_ended
            go_on.set()
            assert await streaming.rest() == event("two") + DONE
            streaming.send(request)
            assert (await streaming.answer()).status == 200
            assert await streaming.read_to_end() == b""
            assert await ended(old) == 0
            assert await here.ask() == 200
            assert old.stderr.count("Traceback") == new.stderr.count("Traceback") == 0


async def test_idle_callers_over_tls_are_told_at_once_if_the_new_process_ends(tmp_path: Path) -> None:
    async with encrypted(tmp_path) as here, here.serving() as old:
        idle = await here.client()
        idle.ask()
        assert (await idle.answer()).status == 200
        async with here.serving("--replace") as new:
            await until(lambda: "another process serves" in old.stderr)
            assert new.end() == 0
            assert await idle.read_to_end() == b""
            assert await ended(old) == 0


async def test_a_request_of_which_a_part_has_come_is_answered_by_the_new_process(tmp_path: Path) -> None:
    async with place(tmp_path) as here, here.serving() as old:
        request = HEAD % (b"", len(BODY)) + BODY
        cuts = (4, 40, len(request) - 9, len(request) - 1)
        callers = [await here.client() for _ in cuts]
        for caller, cut in zip(callers, cuts, strict=True):
            caller.ask()
            assert (await caller.answer()).status == 200
            caller.send(request[:cut])
        chunked = await here.client()
        chunked.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n" + BODY[:5])
        go_on = asyncio.Event()
        here.provider.plays(go_on, head() + chunk(event("one")) + chunk(DONE) + LAST_CHUNK)
        pipelining = await here.client()
        pipelining.ask(stream=True)
        await until(lambda: len(here.provider.received) == len(cuts) + 1)
        pipelining.send(request)
        here.text += ALIAS
        async with here.serving("--replace"):
            await until(lambda: "another process serves" in old.stderr)
            for caller, cut in zip(callers, cuts, strict=True):
                caller.send(request[cut:])
            chunked.send(b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) - 5, BODY[5:]))
            for caller in (*callers, chunked):
                assert (await caller.answer()).status == 200
            go_on.set()
            assert (await pipelining.answer()).body == event("one") + DONE
            assert (await pipelining.answer()).status == 200
            assert await ended(old) == 0


def request_of(secret: str, *, size: int = 0) -> bytes:
    """A metered request, whose body has at least so many bytes."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * size}]}).encode()
    return HEAD % (f"authorization: Bearer {secret}\r\n".encode(), len(body)) + body


async def test_a_request_that_arrives_meanwhile_counts_against_the_limits_of_the_new_process(tmp_path: Path) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old:
        caller = await at.caller()
        late = await at.here.client()
        request = request_of(caller.secret)
        late.send(request[:-7])
        async with at.here.serving("--replace"):
            await until(lambda: "another process serves" in old.stderr)
            late.send(request[-7:])
            answer = await late.answer()
            assert answer.status == 200
            assert answer.headers["x-ratelimit-remaining-requests"] == str(RPM - 1)
            caller = await at.caller()
            assert [(await caller.chat()).status for _ in range(RPM)] == [200] * (RPM - 1) + [429]
            assert await ended(old) == 0


async def test_a_key_that_only_the_new_process_knows_is_taken_on_connections_of_the_old_one(tmp_path: Path) -> None:
    async with metered(tmp_path, more=TIERS + written_certificate(tmp_path)) as at:
        at.here.tls = trusting()
        async with at.here.serving() as old:
            idle = [await at.here.client() for _ in range(2)]
            for one in idle:
                one.get("/v1/health")
                assert (await one.answer()).status == 200
            async with at.here.serving("--replace"):
                await until(lambda: "another process serves" in old.stderr)
                made = await (await at.caller()).ask("POST", "/v1/keys", {"name": "second"})
                request = request_of(made.json["api_key"], size=300_000)
                await sent_in_pieces(idle[0], request)
                assert (await idle[0].answer()).status == 200
                await sent_in_pieces(idle[1], request_of("ky-unknown", size=300_000))
                assert (await idle[1].answer()).json["error"]["code"] == "invalid_api_key"
                assert await ended(old) == 0
                await until(lambda: len(at.ledger()) == 1)


async def sent_in_pieces(client: Client, request: bytes) -> None:
    """Send a request in two pieces, so that its caller is judged before all of it has come."""
    client.send(request[:200])
    await client.is_read()
    client.send(request[200:])


async def test_what_an_account_owes_for_a_forwarded_request_is_charged_once(tmp_path: Path) -> None:
    async with metered(tmp_path, more=TIERS + written_certificate(tmp_path)) as at:
        at.here.tls = trusting()
        async with at.here.serving() as old:
            go_on = asyncio.Event()
            streaming = await at.begin_stream(go_on)
            async with at.here.serving("--replace"):
                await until(lambda: "another process serves" in old.stderr)
                go_on.set()
                assert (await streaming.client.rest()).endswith(DONE)
                second = asyncio.Event()
                second.set()
                at.here.provider.plays(head() + chunk(event("one")), second, chunk(DONE) + LAST_CHUNK)
                streaming.client.send(request_of(streaming.secret))
                assert (await streaming.client.answer()).status == 200
                assert await ended(old) == 0
                await until(lambda: len(at.ledger()) == 2)
                assert ("usage", -COST) in at.ledger()
                assert at.balance_on_disk() == await at.balance()
