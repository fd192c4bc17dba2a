"""`serve --replace` with accounts: what requests cost, hold and count goes to the new process, once, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from kyma_proxy.core.accounts.accounts import Account
from kyma_proxy.ops import control_socket
from kyma_proxy.ops.accounts.handing_over import AccountsHandover, AccountsState
from kyma_proxy.ops.accounts.taking_over import read
from tests.accounts_harness import Caller, accounts_gateway
from tests.configurations import ProviderEntry
from tests.harness import DONE, LAST_CHUNK, chunk, event, head
from tests.jobs.drawing_provider import DrawingProvider, Stage
from tests.jobs.image_gateway import PATH, URL
from tests.processes import GatewayProcess, command
from tests.serving_place import Place, ended, place
from tests.waiting import until

RPM = 6
TIERS = (
    f"tiers: [{{tier: 0, min_purchased: 0, rpm: {RPM}, per_model_rpm: {RPM}, tpm: 9000000, max_request_tokens: 100000, "
    "image_concurrent: 4, image_queue: 9}]\n"
)
USAGE = b'{"id":"c","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":2000,"total_tokens":3000}}'
STREAMED = chunk(b"data: " + USAGE + b"\n\n") + chunk(DONE) + LAST_CHUNK
COST = 1000 * 1_000 + 2000 * 2_000
"""In nano-dollars, at $1 and $2 a million tokens."""
PICTURES = "  - {id: pic, output_modalities: [image], price: {image: 0.05}, pool: [{provider: drawing, model: %s}]}\n"


class Metered:
    """An address with accounts, one account, and its database."""

    def __init__(self, here: Place, database: Path) -> None:
        self.here = here
        self._database = database
        config = here.directory / "accounts.yaml"
        config.write_text(here.text)
        made = command("accounts", "create", "a@example.com", "--grant", "1", "--json", KYMA_CONFIG=str(config))
        self._secret = json.loads(made.stdout)["api_key"]

    async def caller(self) -> Caller:
        """A caller with the account's key, on a new connection."""
        return Caller(await self.here.client(), "", self._secret)

    async def balance(self) -> int:
        """The balance that whoever serves now knows, in nano-dollars."""
        caller = await self.caller()
        return round(float((await caller.balance())["balance"]) * 10**9)

    async def begin_stream(self, go_on: asyncio.Event) -> Caller:
        """A stream whose first event has come, and whose end waits for the event."""
        self.here.provider.plays(head() + chunk(event("one")), go_on, STREAMED)
        caller = await self.caller()
        document = {"model": "m", "stream": True, "max_tokens": 100_000, "messages": [{"role": "user", "content": "x"}]}
        body = json.dumps(document).encode()
        caller.client.send(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {caller.secret}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert (await caller.client.head()).status == 200
        assert await caller.client.chunk() == event("one")
        return caller

    def ledger(self) -> list[tuple[str, int]]:
        """The entries on disk after the first grant."""
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT kind, amount FROM entries ORDER BY id").fetchall()[1:]

    def version(self) -> int:
        """The version of the database."""
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            ((found,),) = connection.execute("PRAGMA user_version").fetchall()
        return int(found)

    def balance_on_disk(self) -> int:
        """The account's balance on disk; it must be the sum of the ledger."""
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            ((balance, total),) = connection.execute(
                "SELECT balance, (SELECT sum(amount) FROM entries) FROM accounts"
            ).fetchall()
        assert balance == total
        return int(balance)


@contextlib.asynccontextmanager
async def metered(directory: Path, *others: ProviderEntry, **how: str) -> AsyncIterator[Metered]:
    """An address with accounts at which something may serve."""
    database = directory / "kyma.db"
    more = f"accounts: {{required: true, database: 'sqlite:{database}'}}\n" + how.pop("more", TIERS)
    async with place(directory, "", *others, more=more, **how) as here:
        yield await asyncio.to_thread(Metered, here, database)


async def test_what_streams_cost_after_the_replacement_is_charged_once_by_the_new_process(tmp_path: Path) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old:
        go_on = asyncio.Event()
        streaming = await at.begin_stream(go_on)
        async with at.here.serving("--replace") as new:
            await until(lambda: "another process serves" in old.stderr)
            assert await at.balance() == 10**9
            go_on.set()
            assert (await streaming.client.rest()).endswith(DONE)
            assert await ended(old) == 0
            await until(lambda: at.ledger() == [("usage", -COST)])
            assert await at.balance() == 10**9 - COST == at.balance_on_disk()
            assert new.end() == 0
        assert at.ledger() == [("usage", -COST)]
        async with at.here.serving():  # the lock is free, and memory agrees with the disk
            assert await at.balance() == 10**9 - COST


async def test_what_running_requests_hold_and_have_counted_goes_with_the_accounts(tmp_path: Path) -> None:
    """A stream of 100,000 tokens holds $0.2; the grant of $1 pays for no more than four others beside it."""
    async with metered(tmp_path) as at, at.here.serving() as old:
        go_on = asyncio.Event()
        streaming = await at.begin_stream(go_on)
        async with at.here.serving("--replace"):
            await until(lambda: "another process serves" in old.stderr)
            caller = await at.caller()
            assert (await caller.chat(max_tokens=450_000)).json["error"]["code"] == "insufficient_credits"
            statuses = [(await caller.chat()).status for _ in range(RPM)]
            assert statuses == [200] * (RPM - 1) + [429]
            go_on.set()
            await streaming.client.rest()
            assert await ended(old) == 0
            await until(lambda: ("usage", -COST) in at.ledger())
            assert (await at.caller()).secret == caller.secret


async def test_keys_and_credits_change_in_the_new_process_only(tmp_path: Path) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old:
        go_on = asyncio.Event()
        streaming = await at.begin_stream(go_on)
        async with at.here.serving("--replace"):
            caller = await at.caller()
            made = await caller.ask("POST", "/v1/keys", {"name": "second"})
            assert made.status == 201
            caller.secret = made.json["api_key"]
            assert (await caller.chat()).status == 200
            go_on.set()
            await streaming.client.rest()
            assert await ended(old) == 0


@pytest.mark.parametrize("victim", ["old", "new"])
async def test_whichever_dies_nothing_is_lost_and_nothing_is_charged_twice(tmp_path: Path, victim: str) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old, contextlib.AsyncExitStack() as stack:
        events = [asyncio.Event(), asyncio.Event()]
        streams = [await at.begin_stream(one) for one in events]
        new = await stack.enter_async_context(at.here.serving("--replace"))
        await until(lambda: "another process serves" in old.stderr)
        events[0].set()
        await streams[0].client.rest()
        await until(lambda: at.ledger() == [("usage", -COST)])
        if victim == "new":
            await killed(new)
            events[1].set()
            assert (await streams[1].client.rest()).endswith(DONE)
            assert await ended(old) == 0
            assert at.ledger() == [("usage", -COST)] * 2
            await stack.enter_async_context(at.here.serving())
            assert await at.balance() == 10**9 - 2 * COST == at.balance_on_disk()
        else:
            await killed(old)
            assert await at.balance() == 10**9 - COST == at.balance_on_disk()
            await until(lambda: "which was replaced, has ended" in new.stderr)
            caller = await at.caller()
            assert (await caller.chat(max_tokens=450_000)).status == 200  # nothing is held any more


async def killed(process: GatewayProcess) -> None:
    """Kill it, and wait until it is gone."""
    process.signal(signal.SIGKILL)
    await until(lambda: process.has_ended)


async def test_a_new_process_that_fails_after_it_has_the_lock_changes_nothing(tmp_path: Path) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old:
        go_on = asyncio.Event()
        streaming = await at.begin_stream(go_on)
        config = tmp_path / "broken.yaml"
        config.write_text(at.here.text.replace(f"'127.0.0.1:{at.here.admin}'", "'192.0.2.1:1'"))
        result = await asyncio.to_thread(command, "serve", "--config", config, "--replace")
        assert (result.returncode, "192.0.2.1" in result.stderr) == (1, True)
        await until(lambda: "this one goes on" in old.stderr)
        caller = await at.caller()
        assert (await caller.ask("POST", "/v1/keys", {"name": "second"})).status == 201
        go_on.set()
        await streaming.client.rest()
        await until(lambda: at.ledger() == [("usage", -COST)])
        assert not old.has_ended
        again = asyncio.Event()
        streaming = await at.begin_stream(again)
        async with at.here.serving("--replace"):  # a later try is as the first one would have been
            await until(lambda: "another process serves" in old.stderr)
            again.set()
            await streaming.client.rest()
            assert await ended(old) == 0
            await until(lambda: at.ledger() == [("usage", -COST)] * 2)
            assert await at.balance() == 10**9 - 2 * COST == at.balance_on_disk()


@pytest.mark.parametrize(("dialect", "model"), [("openai_images", "any"), ("fal_queue", "owner/app/v1")])
async def test_image_jobs_go_on_and_their_pictures_are_with_the_new_process(tmp_path: Path, dialect: str, model: str) -> None:
    async with DrawingProvider.open() as drawing, contextlib.AsyncExitStack() as stack:
        entry = ProviderEntry(f"http://127.0.0.1:{drawing.port}/base", dialect, "drawing", "provider-key", None)
        at = await stack.enter_async_context(metered(tmp_path, entry, models=PICTURES % model))
        old = await stack.enter_async_context(at.here.serving())
        caller = await at.caller()
        jobs = [(await submit(caller, f"picture {number}"))["id"] for number in range(2)]
        await until(lambda: len(drawing.orders) == 2)
        drawing.orders[0].goes_on(Stage.DRAWN)
        await until(lambda: at.ledger().count(("usage", -50_000_000)) == 1)
        await stack.enter_async_context(at.here.serving("--replace"))
        await until(lambda: "another process serves" in old.stderr)
        caller = await at.caller()
        await delivered(caller, jobs[0])
        assert (await caller.ask("GET", f"/v1/jobs/{jobs[1]}")).json["status"] in {"pending", "processing"}
        drawing.orders[1].goes_on(Stage.DRAWN)
        await delivered(caller, jobs[1])
        assert await ended(old) == 0
        assert await at.balance() == 10**9 - 100_000_000 == at.balance_on_disk()
        assert drawing.drawn == 2


async def submit(caller: Caller, prompt: str) -> Any:
    """Submit a job."""
    answer = await caller.ask("POST", PATH, {"model": "pic", "prompt": prompt})
    assert answer.status == 202, answer.body
    return answer.json


async def delivered(caller: Caller, job: str) -> None:
    """Wait until a job's picture comes."""
    while True:
        answer = (await caller.ask("GET", f"/v1/jobs/{job}", headers="prefer: wait=5\r\n")).json
        if answer["status"] == "succeeded":
            assert answer["output"]["data"][0]["url"] == URL
            return
        assert answer["status"] in {"pending", "processing"}, answer


async def test_what_any_number_of_accounts_hold_is_one_message(tmp_path: Path) -> None:
    """Thousands of requests may end within a moment; a message has a bound, and a file that goes with it has none."""
    async with accounts_gateway(tmp_path, 1) as gateway:
        app, service = gateway.running.app, gateway.account_service
        held = [Account(f"acct_{number}", f"{number}@example.com", 0) for number in range(5_000)]
        for account in held:
            service.accounts.add_account(account)
            account.hold(1)
        assert app.meter is not None
        handover = AccountsHandover(service, app.meter, app.jobs, monotonic)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with here, there:
            await handover.begin(is_upgrade=False)
            await handover.write_all()
            handover.complete(functools.partial(control_socket.send, here))
            for account in held:
                account.release(1)
            handover.tick()
            received = [control_socket.receive(there) for _ in range(2)]
        handover.close()
        assert [message for message, _ in received] == [{"left": True}, {"holds": True}]
        (state,), (holds,) = (descriptors for _, descriptors in received)
        names = {account.id for account in held}
        assert read(state, AccountsState).holds == dict.fromkeys(names, (1, 0))
        assert read(holds, dict[str, tuple[int, int]]) == dict.fromkeys(names, (0, 0))
        for descriptor in (state, holds):
            os.close(descriptor)


async def test_what_a_stream_costs_reaches_whoever_serves_after_any_number_of_replacements(tmp_path: Path) -> None:
    """Each process between passes on what the one before it tells, so none ends before that one."""
    async with metered(tmp_path) as at, at.here.serving() as first, contextlib.AsyncExitStack() as stack:
        go_on = asyncio.Event()
        streaming = await at.begin_stream(go_on)
        between = [await stack.enter_async_context(at.here.serving("--replace")) for _ in range(3)]
        await until(lambda: "another process serves" in between[1].stderr)
        assert not between[0].has_ended, (between[0].end(), between[0].stderr, first.stderr)
        caller = await at.caller()
        assert (await caller.chat(max_tokens=450_000)).json["error"]["code"] == "insufficient_credits"
        go_on.set()
        assert (await streaming.client.rest()).endswith(DONE)
        assert [await ended(one) for one in (first, *between[:2])] == [0, 0, 0]
        await until(lambda: at.ledger() == [("usage", -COST)])
        assert await at.balance() == 10**9 - COST == at.balance_on_disk()
        assert (await streaming.chat()).status == 200  # its connection has gone all the way as well


async def test_a_signal_to_the_process_that_serves_ends_those_before_it_as_well(tmp_path: Path) -> None:
    async with metered(tmp_path, more=TIERS + "drain: 300ms\n") as at, at.here.serving() as first:
        streaming = await at.begin_stream(asyncio.Event())
        async with at.here.serving("--replace") as second, at.here.serving("--replace") as third:
            await until(lambda: "another process serves" in second.stderr)
            assert not first.has_ended
            third.signal(signal.SIGTERM)
            assert b"draining" in await streaming.client.chunk()
            assert [await ended(one) for one in (first, second, third)] == [0, 0, 0]
            assert at.balance_on_disk() < 10**9
