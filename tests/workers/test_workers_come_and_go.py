"""Workers start together, are started again when they die, take a reload all or none, and end in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from tests.harness import DONE, LAST_CHUNK, Client, chunk, event, head
from tests.life.certificates import written_certificate
from tests.processes import GatewayProcess, command, relayed
from tests.serving_place import Place, ended, place
from tests.waiting import PATIENCE_S, until, until_true
from tests.workers.crews import WORKERS, asked, caller_of_each, get, is_alive, processes_of, scraped

TOKEN = "0123456789abcdef0123"


async def streaming(made: Place, client: Client) -> asyncio.Event:
    """Begin a stream with this caller; it goes on once the event is set."""
    go_on = asyncio.Event()
    made.provider.plays(head() + chunk(event("one")), go_on, chunk(event("two")) + chunk(DONE) + LAST_CHUNK)
    client.ask(stream=True)
    assert (await client.head()).status == 200
    assert await client.chunk() == event("one")
    return go_on


async def replaced(running: GatewayProcess, dead: int) -> None:
    """Wait until another worker is there in the place of a dead one."""
    await until(lambda: len(processes_of(running)) == 2 and dead not in processes_of(running))


async def test_a_worker_that_is_killed_loses_only_its_own_streams_and_no_connection_is_refused(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        one, other = (await caller_of_each(made)).values()
        events = [await streaming(made, one), await streaming(made, other)]
        dead = processes_of(running)[0]
        os.kill(dead, signal.SIGKILL)
        asking = [asyncio.create_task(made.ask()) for _ in range(30)]
        for go_on in events:
            go_on.set()
        answers = await asyncio.gather(rest_of(one), rest_of(other))
        assert sorted(b"[DONE]" in answer for answer in answers) == [False, True]
        assert await asyncio.gather(*asking) == [200] * 30
        await replaced(running, dead)
        assert len(await caller_of_each(made)) == 2
        assert "was ended by SIGKILL; its requests are cut, and another is started" in running.stderr


async def rest_of(client: Client) -> bytes:
    """The rest of a stream, however it ends."""
    got = b""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while LAST_CHUNK not in got and (piece := await client.reader.read(65536)):
                got += piece
        except ConnectionError:
            pass
    return got


async def test_while_workers_are_killed_again_and_again_nobody_is_refused_and_no_line_is_torn(
    tmp_path: Path,
) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        answered: list[int] = []
        cut = 0

        async def ask_three_times(client: Client) -> None:
            for _ in range(3):
                answer = await asked(client)
                answered.append(answer.status)

        async def keep_asking() -> None:
            nonlocal cut
            while True:
                client = await made.client()
                try:
                    await ask_three_times(client)
                except (ConnectionError, asyncio.IncompleteReadError):
                    cut += 1
                client.leave()

        asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
        for _ in range(4):
            count, dead = len(answered), processes_of(running)[0]
            await until(lambda count=count: len(answered) >= count + 50)  # type: ignore[misc]
            os.kill(dead, signal.SIGKILL)
            await replaced(running, dead)
        count = len(answered)
        await until(lambda: len(answered) >= count + 50)
        for task in asking:
            task.cancel()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in results)  # no connection was refused
        assert set(answered) == {200}
        assert cut <= 4 * 8
        running.signal(signal.SIGTERM)
        assert await ended(running) == 0
        ids = [json.loads(line)["request_id"] for line in (made.directory / "access.log").read_bytes().splitlines()]
        assert len(set(ids)) == len(ids)


async def test_while_the_supervisor_hangs_requests_are_relayed_and_no_line_is_lost(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        callers = await caller_of_each(made)
        running.signal(signal.SIGSTOP)
        try:
            for client in callers.values():
                assert (await asked(client)).status == 200
            assert await made.ask() == 200
            page = await made.client()
            page.get("/v1/models")
        finally:
            running.signal(signal.SIGCONT)
        assert (await page.answer()).status == 200
        count = len(made.provider.received)
        await until(lambda: len(relayed(made.directory / "access.log")) == count)


async def test_a_reload_is_taken_by_every_worker(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        callers = await caller_of_each(made)
        changed = made.text.replace("id: m,", "id: renamed,")
        (tmp_path / "1" / "gateway.yaml").write_text(changed)
        running.signal(signal.SIGHUP)
        await until(lambda: " is in force" in running.stderr)
        for client in callers.values():

            async def is_renamed(client: Client = client) -> bool:
                return (await asked(client, model="renamed")).status == 200

            await until_true(is_renamed)
            assert (await asked(client)).status == 404
        os.kill(processes_of(running)[0], signal.SIGKILL)  # the next one begins with the new configuration

        async def is_complete() -> bool:
            assert (await asked(await made.client(), model="renamed")).status == 200
            return (await scraped(made))["kyma_workers"] == 2

        await until_true(is_complete)
        assert (await asked(await made.client(), model="renamed")).status == 200


async def test_a_reload_that_is_wrong_changes_nothing_in_any_worker(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        callers = await caller_of_each(made)
        (tmp_path / "1" / "gateway.yaml").write_text(made.text.replace("dialect: openai", "dialect: latin"))
        running.signal(signal.SIGHUP)
        await until(lambda: "nothing has changed" in running.stderr)
        for client in callers.values():
            assert (await asked(client)).status == 200


async def test_a_renewed_certificate_is_taken_by_every_worker(tmp_path: Path) -> None:
    more = f"{WORKERS}{written_certificate(tmp_path)}"
    async with place(tmp_path, more=more) as made, made.serving() as running:
        written_certificate(tmp_path)
        running.signal(signal.SIGHUP)
        await until(lambda: "renewed: " in running.stderr)
        assert running.stderr.count("renewed: ") == 1


async def test_sigterm_drains_all_workers(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        callers = [*(await caller_of_each(made)).values()]
        events = [await streaming(made, client) for client in callers]
        pids = processes_of(running)
        running.signal(signal.SIGTERM)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)  # as a service manager does that tells every process

        async def is_refused() -> bool:
            try:
                await made.client()
            except ConnectionRefusedError:
                return True
            return False

        await until_true(is_refused)
        for go_on in events:
            go_on.set()
        for client in callers:
            assert b"[DONE]" in await rest_of(client)
        assert await ended(running) == 0
        assert not any(map(is_alive, pids))
        lines = (made.directory / "access.log").read_bytes().splitlines()
        assert [json.loads(line)["ending"] for line in lines] == ["completed"] * len(made.provider.received)


async def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        client = await made.client()
        await streaming(made, client)
        running.signal(signal.SIGTERM)
        await until(lambda: "draining: 1 requests" in running.stderr)
        running.signal(signal.SIGTERM)
        assert await ended(running) == 0
        assert b"[DONE]" not in await rest_of(client)


async def test_workers_whose_supervisor_dies_end_in_order(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        callers = [*(await caller_of_each(made)).values()]
        events = [await streaming(made, client) for client in callers]
        pids = processes_of(running)
        running.signal(signal.SIGKILL)
        await until(lambda: running.stderr.count("the supervisor has ended") == 2)
        for go_on in events:
            go_on.set()
        for client in callers:
            assert b"[DONE]" in await rest_of(client)
        await until(lambda: not any(map(is_alive, pids)))


async def test_a_worker_that_gets_sigterm_drains_and_another_takes_its_place(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        await caller_of_each(made)
        dead = processes_of(running)[0]
        os.kill(dead, signal.SIGTERM)
        await replaced(running, dead)
        assert len(await caller_of_each(made)) == 2


async def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving():
        (tmp_path / "again.yaml").write_text(made.text)
        result = await asyncio.to_thread(command, "serve", "--config", tmp_path / "again.yaml")
        assert result.returncode == 1
        assert "the address is in use" in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert await made.ask() == 200


async def test_the_configuration_shows_how_many_workers_there_are(tmp_path: Path) -> None:
    async with place(tmp_path, more="workers: auto\n") as made:
        made.text = made.text.replace(f"listen: '127.0.0.1:{made.admin}'", f"listen: '127.0.0.1:{made.admin}', token: {TOKEN}")
        count = len(os.sched_getaffinity(0))
        async with made.serving() as running:
            _, body = await get(made, "/admin/config", token=TOKEN)
            assert json.loads(body)["workers"] == count
            assert len(processes_of(running)) == (count if count > 1 else 0)
            result = await asyncio.to_thread(command, "check", tmp_path / "1" / "gateway.yaml")
            assert (f", {count} workers" in result.stdout) == (count > 1)
            status, body = await get(made, "/admin/reload", method="POST", token=TOKEN)
            assert (status, json.loads(body)["result"]) == (200, "unchanged")
