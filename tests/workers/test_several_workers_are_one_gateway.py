"""Several workers serve one address as one gateway: one log, one set of numbers, one status."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.harness import OK, whole
from tests.life.certificates import trusting, written_certificate
from tests.processes import free_port, relayed
from tests.serving_place import Place, ended, place
from tests.waiting import until, until_true
from tests.workers.crews import WORKERS, asked, caller_of_each, get, processes_of, scraped, worker_of

REQUESTS = 'kyma_requests_total{endpoint="chat/completions",model="m",provider="p0",status="200",ending="completed"}'


def log_of(made: Place) -> Path:
    return made.directory / "access.log"


@pytest.mark.parametrize("listen", ["tcp", "unix", "name"])
async def test_each_worker_takes_connections_of_one_address(tmp_path: Path, listen: str) -> None:
    address = {"tcp": "", "unix": f"unix:{tmp_path}/public.sock", "name": f"localhost:{free_port()}"}[listen]
    async with place(tmp_path, address, more=WORKERS) as made, made.serving() as running:
        callers = await caller_of_each(made)
        assert len(callers) == 2
        assert len(processes_of(running)) == 2
        for worker, client in callers.items():
            assert worker_of(await asked(client)) == worker
        running.signal(signal.SIGTERM)
        assert await ended(running) == 0
    assert not (tmp_path / "public.sock").exists()


async def test_each_worker_speaks_tls(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS + written_certificate(tmp_path)) as made, made.serving():
        made.tls = trusting()
        assert len(await caller_of_each(made)) == 2


async def test_no_two_workers_make_the_same_request_id_and_each_request_has_one_whole_line(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving():
        callers = await caller_of_each(made)

        async def ask_often(count: int) -> None:
            client = await made.client()
            for _ in range(count):
                assert (await asked(client)).status == 200

        await asyncio.gather(*(ask_often(20) for _ in range(8)))
        for client in callers.values():
            client.get("/v1/models")
            assert (await client.answer()).status == 200
        await until(lambda: len(relayed(log_of(made))) >= 160)
        await until(lambda: log_of(made).read_bytes().count(b'"endpoint":"models"') == 2)
        records = [json.loads(line) for line in log_of(made).read_bytes().splitlines()]
        ids = [one["request_id"] for one in records]
        assert len(set(ids)) == len(ids)
        assert {one["ending"] for one in records} == {"completed"}


async def test_what_workers_count_is_added_up_and_stays_when_one_dies(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        callers = await caller_of_each(made)
        for client in callers.values():
            for _ in range(3):
                await asked(client)
        count = len(made.provider.received)
        samples = await scraped(made)
        assert samples[REQUESTS] == count
        assert samples["kyma_workers"] == 2
        assert samples["kyma_connections"] >= 2
        assert samples['kyma_duration_seconds_count{endpoint="chat/completions",model="m",provider="p0"}'] == count
        (first, _) = processes_of(running)
        os.kill(first, signal.SIGKILL)
        await until(lambda: first not in processes_of(running) and len(processes_of(running)) == 2)
        assert (await scraped(made))[REQUESTS] == count


async def test_the_status_is_that_of_all_workers_on_both_listeners(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving():
        callers = await caller_of_each(made)
        count = len(made.provider.received)

        async def is_counted() -> bool:
            _, body = await get(made, "/v1/status")
            client = next(iter(callers.values()))
            client.get("/v1/status")
            answer = await client.answer()
            statuses = json.loads(body), answer.json
            return [one["models"][0]["requests_24h"] for one in statuses] == [count, count]

        await until_true(is_counted)


async def test_a_circuit_that_opens_in_one_worker_is_open_in_all_and_closes_in_all(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        one, other = (await caller_of_each(made)).values()
        busy = whole(b"{}", status="503 Service Unavailable", more="retry-after: 2\r\n")
        made.provider.plays(busy)
        assert (await asked(one)).status == 502
        asked_before = len(made.provider.received)
        await until(lambda: " is not asked for " in running.stderr)  # the supervisor knows; it has told the others before

        assert (await asked(other)).status == 503
        assert len(made.provider.received) == asked_before
        assert running.stderr.count(" is not asked for ") == 1
        samples = await scraped(made)
        assert [value for name, value in samples.items() if name.startswith("kyma_breaker_open{")] == [1]
        made.provider.plays(OK)

        async def is_closed() -> bool:
            return (await asked(one)).status == 200

        await until_true(is_closed)
        await until(lambda: " is asked again, " in running.stderr)
        assert (await asked(other)).status == 200
        assert running.stderr.count(" is asked again, ") == 1


async def test_the_log_is_opened_again_once_for_all_workers(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving() as running:
        callers = await caller_of_each(made)
        count = len(made.provider.received)
        await until(lambda: len(relayed(log_of(made))) == count)
        log_of(made).rename(tmp_path / "old.log")
        running.signal(signal.SIGUSR1)
        await until(log_of(made).exists)
        for client in callers.values():
            assert (await asked(client)).status == 200
        await until(lambda: len(relayed(log_of(made))) == 2)
        assert len(relayed(tmp_path / "old.log")) == count


async def test_one_plain_process_serves_with_one_worker(tmp_path: Path) -> None:
    async with place(tmp_path, more="workers: 1\n") as made, made.serving() as running:
        assert await made.ask() == 200
        assert processes_of(running) == []


async def test_a_page_and_a_relayed_request_mix_on_one_connection(tmp_path: Path) -> None:
    async with place(tmp_path, more=WORKERS) as made, made.serving():
        client = await made.client()
        for _ in range(3):
            client.get("/v1/models")
            models = await client.answer()
            assert [one["id"] for one in models.json["data"]] == ["m"]
            assert (await asked(client)).status == 200


async def test_readiness_and_health_are_those_of_the_whole_gateway(tmp_path: Path) -> None:
    async with place(tmp_path, more=f"{WORKERS}shutdown_delay: 30s\n") as made, made.serving() as running:
        client = await made.client()
        assert (await asked(client)).status == 200
        assert await get(made, "/readyz") == (200, b'{"status":"ok"}')
        running.signal(signal.SIGTERM)

        async def is_leaving() -> bool:
            return (await get(made, "/readyz"))[0] == 503

        await until_true(is_leaving)
        client.get("/v1/health")
        assert (await client.answer()).json == {"status": "draining"}
        assert await made.ask() == 200  # it still serves
        running.signal(signal.SIGTERM)
        assert await ended(running) == 0
