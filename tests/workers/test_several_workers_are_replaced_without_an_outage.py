"""`serve --replace` takes the place of several workers, or of one process: nobody is refused or cut."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from kyma_proxy.config.snapshot import TcpAddress
from kyma_proxy.ops.listening import open_sockets_for
from kyma_proxy.ops.workers.shared_listeners import dealt_out
from tests.harness import DONE, LAST_CHUNK, Client, chunk, event, head
from tests.life.certificates import trusting, written_certificate
from tests.processes import command, free_port
from tests.serving_place import Place, ended, place
from tests.waiting import until
from tests.workers.crews import WORKERS, asked, is_alive, processes_of

ONE = "workers: 1\n"
THREE = "workers: 3\n"
CALLERS = 10


async def begun_stream(here: Place, client: Client) -> asyncio.Event:
    """Begin a stream; it goes on once the event is set."""
    go_on = asyncio.Event()
    here.provider.plays(head() + chunk(event("one")), go_on, chunk(event("two")) + chunk(DONE) + LAST_CHUNK)
    client.ask(stream=True)
    assert (await client.head()).status == 200
    assert await client.chunk() == event("one")
    return go_on


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        pytest.param(WORKERS, WORKERS, "tcp", id="two-by-two"),
        pytest.param(WORKERS, WORKERS, "unix", id="unix"),
        pytest.param(WORKERS, THREE, "tcp", id="two-by-three"),
        pytest.param(THREE, WORKERS, "tcp", id="three-by-two"),
        pytest.param(ONE, WORKERS, "tcp", id="one-by-two"),
        pytest.param(WORKERS, ONE, "tcp", id="two-by-one"),
    ],
)
async def test_streams_end_whole_idle_callers_stay_connected_and_new_ones_are_never_refused(
    tmp_path: Path, before: str, after: str, kind: str
) -> None:
    listen = f"unix:{tmp_path}/kyma.sock" if kind == "unix" else ""
    async with place(tmp_path, listen, more=before) as here, here.serving() as old:
        streaming = [await here.client() for _ in range(2)]
        events = [await begun_stream(here, client) for client in streaming]
        idle = [await here.client() for _ in range(CALLERS)]
        for caller in idle:
            assert (await asked(caller)).status == 200
        idle += [await here.client() for _ in range(CALLERS)]  # these have said nothing yet
        statuses: list[int] = []

        async def keep_asking() -> None:
            while True:
                statuses.append(await here.ask())

        asking = [asyncio.create_task(keep_asking()) for _ in range(3)]
        here.text = here.text.replace(before, after)
        async with here.serving("--replace") as new:
            await until(lambda: "another process serves" in old.stderr)
            pids = processes_of(old)
            for caller in idle:
                assert (await asked(caller)).status == 200
            assert not old.has_ended
            for go_on, client in zip(events, streaming, strict=True):
                go_on.set()
                assert await client.rest() == event("two") + DONE
            assert await ended(old) == 0
            assert not any(map(is_alive, pids))
            for client in streaming:
                assert (await asked(client)).status == 200
            served = len(statuses)
            await until(lambda: len(statuses) > served + 3)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            assert set(statuses) == {200}
            await until(lambda: "which was replaced, has ended" in new.stderr)
            assert await here.ask() == 200
            assert "Traceback" not in new.stderr + old.stderr


async def test_a_request_over_tls_that_comes_meanwhile_is_served_by_the_new_workers(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS + written_certificate(tmp_path)) as here, here.serving() as old:
        here.tls = trusting()
        callers = [await here.client() for _ in range(4)]
        for caller in callers:
            assert (await asked(caller)).status == 200
        async with here.serving("--replace"):
            await until(lambda: "another process serves" in old.stderr)
            for caller in callers:
                answer = await asked(caller)
                assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await ended(old) == 0


async def test_workers_are_replaced_again_and_again_and_sigterm_ends_all(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as here, here.serving() as first:
        streaming = await here.client()
        await begun_stream(here, streaming)
        async with here.serving("--replace") as second, here.serving("--replace") as third:
            await until(lambda: "another process serves" in second.stderr)
            idle = await here.client()
            assert (await asked(idle)).status == 200
            assert not first.has_ended
            third.signal(signal.SIGTERM)
            await until(lambda: first.stderr.count("draining: 1 requests") == 1)
            third.signal(signal.SIGTERM)
            assert [await ended(one) for one in (third, second, first)] == [0, 0, 0]


async def test_new_workers_that_cannot_start_leave_the_old_ones_serving(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as here, here.serving() as old:
        (tmp_path / "wrong.yaml").write_text(here.text.replace("dialect: openai", "dialect: latin"))
        result = await asyncio.to_thread(command, "serve", "--replace", "--config", tmp_path / "wrong.yaml")
        assert result.returncode == 2
        assert await here.ask() == 200
        async with here.serving("--replace") as new:
            await until(lambda: "another process serves" in old.stderr)
            for pid in processes_of(new):
                assert is_alive(pid)
            new.signal(signal.SIGKILL)
            await until(lambda: old.has_ended)


@pytest.mark.parametrize("sockets", range(1, 6))
@pytest.mark.parametrize("workers", range(1, 6))
def test_each_socket_has_a_worker_and_each_worker_a_socket(sockets: int, workers: int) -> None:
    opened = [one for some in open_sockets_for(sockets, TcpAddress("127.0.0.1", 0)) for one in some]
    assert len({one.getsockname() for one in opened}) == 1
    for one in opened:
        one.setblocking(False)
    dealt = dealt_out(opened, workers)
    try:
        assert not any(os.get_blocking(one.fileno()) for one in opened)  # the process that has them too would hang
        inodes = [{os.fstat(one.fileno()).st_ino for one in some} for some in dealt]
        assert all(inodes)
        assert set[int]().union(*inodes) == {os.fstat(one.fileno()).st_ino for one in opened}
        assert len(dealt) == workers
        assert sum(map(len, dealt)) == max(workers, sockets)
    finally:
        for one in {id(one): one for some in [opened, *dealt] for one in some}.values():
            one.close()


def test_a_port_of_another_is_not_shared() -> None:
    address = TcpAddress("127.0.0.1", free_port())
    (opened, _) = open_sockets_for(2, address)
    with pytest.raises(Exception, match="the address is in use"):
        open_sockets_for(2, address)
    for one in opened + _:
        one.close()
