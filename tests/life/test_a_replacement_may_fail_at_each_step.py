"""Whichever process dies at whichever step of `serve --replace`: no charge is lost or doubled, and whoever is left serves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kyma_proxy.store.sqlite.migrations import shipped
from tests.harness import DONE
from tests.life.held_start import STEPS
from tests.life.test_a_gateway_with_accounts_is_replaced import COST, Metered, killed, metered
from tests.processes import ROOT, GatewayProcess, environment, relayed
from tests.serving_place import ended
from tests.waiting import until

LEFT = ("after leave", "before follow")


class Held:
    """A new process that waits at a step of the replacement."""

    def __init__(self, process: GatewayProcess, pipe: Path) -> None:
        self.process = process
        self._pipe = pipe

    def go_on(self) -> None:
        """Let it go on."""
        with self._pipe.open("wb"):
            pass


@contextlib.contextmanager
def held_start(at: Metered, step: str, *, program: Path = ROOT / "proxy") -> Iterator[Held]:
    """A process that is to replace the one that serves, and waits at this step; `program` holds its package."""
    directory = at.here.directory / "held"
    directory.mkdir()
    pipe, config = directory / "pipe", directory / "gateway.yaml"
    os.mkfifo(pipe)
    config.write_text(at.here.text)
    line = [sys.executable, "-W", "error", "-m", "tests.life.held_start", step, str(pipe)]
    line += ["serve", "--config", str(config), "--replace"]
    path = os.pathsep.join((str(program), str(ROOT)))
    errors = directory / "stderr"
    with errors.open("wb") as stderr, subprocess.Popen(line, env=environment(PYTHONPATH=path), stderr=stderr) as process:
        running = GatewayProcess(process, "", directory / "access.log", errors)
        try:
            yield Held(running, pipe)
        finally:
            running.end()


@pytest.mark.parametrize("victim", ["old", "new"])
@pytest.mark.parametrize("step", STEPS)
async def test_no_charge_is_lost_or_doubled_and_whoever_is_left_serves(tmp_path: Path, step: str, victim: str) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old, contextlib.AsyncExitStack() as stack:
        events = [asyncio.Event(), asyncio.Event()]
        streams = [await at.begin_stream(one) for one in events]
        new = stack.enter_context(held_start(at, step))
        await until(lambda: f"held {step}" in new.process.stderr)
        events[0].set()
        assert (await streams[0].client.rest()).endswith(DONE)
        if step not in LEFT:  # the old process writes it, however long the new one takes
            await until(lambda: at.ledger() == [("usage", -COST)])
            assert await at.balance() == 10**9 - COST
        if victim == "new":
            await killed(new.process)
            events[1].set()
            assert (await streams[1].client.rest()).endswith(DONE)
            await until(lambda: at.ledger() == [("usage", -COST)] * 2)
            if step in LEFT:
                assert await ended(old) == 0
                await stack.enter_async_context(at.here.serving())
            assert await at.balance() == 10**9 - 2 * COST == at.balance_on_disk()
        else:
            # What it has not settled yet would be lost with any process that is killed.
            await until(lambda: relayed(at.here.directory / "access.log") != [])
            await killed(old)
            new.go_on()
            await until(lambda: " serves " in new.process.stderr)
            await until(lambda: at.ledger() == [("usage", -COST)])
            assert await at.balance() == 10**9 - COST == at.balance_on_disk()
            caller = await at.caller()
            assert (await caller.chat(max_tokens=450_000)).status == 200  # nothing is held any more
            assert (await caller.ask("POST", "/v1/keys", {"name": "second"})).status == 201


@pytest.mark.parametrize("step", STEPS)
async def test_sigterm_at_any_step_ends_the_old_process_and_the_new_one_serves(tmp_path: Path, step: str) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old:
        go_on = asyncio.Event()
        streaming = await at.begin_stream(go_on)
        with held_start(at, step) as new:
            await until(lambda: f"held {step}" in new.process.stderr)
            old.signal(signal.SIGTERM)
            go_on.set()
            assert (await streaming.client.rest()).endswith(DONE)
            assert await ended(old) == 0
            new.go_on()
            await until(lambda: " serves " in new.process.stderr)
            await until(lambda: at.ledger() == [("usage", -COST)])
            assert await at.balance() == 10**9 - COST == at.balance_on_disk()


# ---- the new program has to upgrade the database


def newer_program(directory: Path) -> Path:
    """A copy of the program with one more migration, which this one could not write to."""
    shutil.copytree(ROOT / "proxy", directory, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    number = len(shipped()) + 1
    sql = "ALTER TABLE entries RENAME COLUMN note TO remark; ALTER TABLE entries RENAME COLUMN remark TO note;"
    (directory / "kyma_proxy" / "store" / "sqlite" / f"{number:04}_later.sql").write_text(sql)
    return directory


@pytest.mark.parametrize("step", ["before prepare", "before leave", "before follow"])
async def test_a_newer_program_upgrades_the_database_while_requests_go_on(tmp_path: Path, step: str) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old:
        go_on = asyncio.Event()
        streaming = await at.begin_stream(go_on)
        with held_start(at, step, program=newer_program(tmp_path / "newer")) as new:
            await until(lambda: f"held {step}" in new.process.stderr)
            go_on.set()
            assert (await streaming.client.rest()).endswith(DONE)
            new.go_on()
            await until(lambda: " serves " in new.process.stderr)
            assert await ended(old) == 0
            await until(lambda: at.ledger() == [("usage", -COST)])
            assert await at.balance() == 10**9 - COST == at.balance_on_disk()
            assert at.version() == len(shipped()) + 1


async def test_a_newer_program_that_dies_after_the_upgrade_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    async with metered(tmp_path) as at, at.here.serving() as old:
        program = newer_program(tmp_path / "newer")
        go_on = asyncio.Event()
        streaming = await at.begin_stream(go_on)
        with held_start(at, "before leave", program=program) as new:
            await until(lambda: "held before leave" in new.process.stderr)
            await killed(new.process)
        go_on.set()
        assert (await streaming.client.rest()).endswith(DONE)
        await until(lambda: "was upgraded by a process that has ended" in old.stderr)
        caller = await at.caller()
        assert (await caller.chat()).json["error"]["code"] == "accounts_unavailable"
        assert at.ledger() == []
        shutil.rmtree(tmp_path / "held")
        with held_start(at, "before leave", program=program) as new:
            await until(lambda: "held before leave" in new.process.stderr)
            new.go_on()
            assert await ended(old) == 0
            await until(lambda: at.ledger() == [("usage", -COST)])
            assert await at.balance() == 10**9 - COST == at.balance_on_disk()
            assert (await (await at.caller()).chat()).status == 200
