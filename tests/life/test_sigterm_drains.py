"""SIGTERM drains: new connections are refused, requests may finish, and those that do not finish in time end visibly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import DONE, LAST_CHUNK, SILENCE, STREAM, Client, Provider, chunk, event, head, providers, whole
from tests.processes import GatewayProcess, free_port, relayed, serving
from tests.waiting import PATIENCE_S, until

STOPS = [signal.SIGTERM, signal.SIGINT]


class Life:
    """A gateway process, the scripted provider behind it, and the ports of both listeners."""

    def __init__(self, running: GatewayProcess, provider: Provider, port: int, admin: int) -> None:
        self.running = running
        self.provider = provider
        self.port = port
        self.admin = admin
        self._clients: list[Client] = []

    async def client(self, port: int | None = None) -> Client:
        """A new caller of the public listener, unless a port is given."""
        client = Client(*await asyncio.open_connection("127.0.0.1", port or self.port))
        self._clients.append(client)
        return client

    async def streaming(self) -> tuple[Client, asyncio.Event]:
        """A caller who has the first piece of a stream, which goes on once the event is set."""
        go_on = asyncio.Event()
        self.provider.plays(head() + chunk(event("one")), go_on, chunk(event("two")) + chunk(DONE) + LAST_CHUNK)
        client = await self.client()
        client.ask(stream=True)
        assert (await client.head()).status == 200
        assert await client.chunk() == event("one")
        return client, go_on

    async def ended(self) -> int:
        """The exit code, once the process has ended."""
        await until(lambda: self.running.has_ended)
        return self.running.end()

    def close(self) -> None:
        for client in self._clients:
            client.leave()


@contextlib.asynccontextmanager
async def living(directory: Path, *, drain: str = "30s", log: str | None = None) -> AsyncIterator[Life]:
    port, admin = free_port(), free_port()
    async with providers() as (provider,):
        text = configuration(
            provider.port,
            ProviderEntry(provider.port, "openai_images", "images"),
            pool=1,
            models="  - {id: pic, output_modalities: [image], pool: [{provider: images, model: real}]}\n",
            more=f"listen: 127.0.0.1:{port}\nadmin: {{listen: '127.0.0.1:{admin}'}}\ndrain: {drain}\n"
            f"access_log: {log or directory / 'access.log'}\n",
        )
        with serving(text, directory, f"http://127.0.0.1:{port}") as running:
            life = Life(running, provider, port, admin)
            try:
                yield life
            finally:
                life.close()


async def is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:  # reset, where it was waiting to be taken in as the door closed
        return True
    writer.transport.abort()
    return False


async def becomes_refused(port: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await is_refused(port):
            await asyncio.sleep(0.005)


async def status_of(client: Client, path: str) -> int:
    client.send(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    return (await client.answer()).status


@pytest.mark.parametrize("number", STOPS)
async def test_a_signal_ends_an_idle_gateway_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with living(tmp_path) as life:
        public, admin = await life.client(), await life.client(life.admin)
        assert await status_of(public, "/v1/health") == 200
        assert await status_of(admin, "/readyz") == 200
        life.running.signal(number)
        async with asyncio.timeout(2):
            assert await life.ended() == 0
        assert await public.read_to_end() == b""
        assert "Traceback" not in life.running.stderr


@pytest.mark.parametrize("number", STOPS)
async def test_a_stream_may_finish_while_new_connections_are_refused(tmp_path: Path, number: signal.Signals) -> None:
    async with living(tmp_path) as life:
        idle, admin = await life.client(), await life.client(life.admin)
        assert await status_of(idle, "/v1/health") == await status_of(admin, "/readyz") == 200
        client, go_on = await life.streaming()
        life.running.signal(number)
        await becomes_refused(life.port)
        assert await idle.read_to_end() == b""
        assert await status_of(admin, "/readyz") == 503
        assert await status_of(admin, "/livez") == 200
        assert not life.running.has_ended
        go_on.set()
        got = await client.read_to_end()
        assert event("two") + DONE in got
        assert got.endswith(LAST_CHUNK)
        assert await life.ended() == 0
        (record,) = life.running.records()
    assert record["ending"] == "completed"


async def test_a_stream_that_outlasts_the_drain_ends_with_an_error_event(tmp_path: Path) -> None:
    async with living(tmp_path, drain="300ms") as life:
        client, _ = await life.streaming()
        life.running.signal(signal.SIGTERM)
        last = await client.chunk()
        assert await client.read_to_end() == b""  # not even the last chunk: no client can take it for whole
        assert await life.ended() == 0
        (record,) = life.running.records()
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["code"] == "draining"
    assert (record["ending"], record["status"]) == ("drained", 200)


async def test_a_request_without_an_answer_at_the_end_of_the_drain_is_a_503(tmp_path: Path) -> None:
    async with living(tmp_path, drain="300ms") as life:
        life.provider.plays(SILENCE)
        client = await life.client()
        client.ask()
        await until(lambda: life.provider.received)
        life.running.signal(signal.SIGTERM)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (503, "draining")
        assert await life.ended() == 0
        (record,) = life.running.records()
    assert (record["ending"], record["status"]) == ("drained", 503)


@pytest.mark.parametrize("number", STOPS)
async def test_a_second_signal_ends_the_drain(tmp_path: Path, number: signal.Signals) -> None:
    async with living(tmp_path) as life:
        client, _ = await life.streaming()
        life.running.signal(number)
        await becomes_refused(life.port)
        life.running.signal(number)
        async with asyncio.timeout(3):
            assert b"draining" in await client.chunk()
            assert await life.ended() == 0
        (record,) = life.running.records()
    assert record["ending"] == "drained"


async def test_sigusr1_reopens_a_renamed_access_log_and_no_line_is_lost(tmp_path: Path) -> None:
    async with living(tmp_path) as life:
        log, renamed = tmp_path / "access.log", tmp_path / "access.log.1"
        client = await life.client()
        requests = 0

        async def ask() -> None:
            nonlocal requests
            life.provider.plays(STREAM)
            client.ask(stream=True)
            assert (await client.answer()).status == 200
            requests += 1

        await ask()
        life.running.records()
        log.rename(renamed)
        await ask()
        life.running.signal(signal.SIGUSR1)
        while not log.exists():
            await ask()
        await ask()
        life.running.signal(signal.SIGTERM)
        assert await life.ended() == 0
        records = relayed(renamed) + relayed(log)
    assert len({record["request_id"] for record in records}) == len(records) == requests


async def test_sigusr1_without_an_access_log_changes_nothing(tmp_path: Path) -> None:
    async with living(tmp_path, log="null") as life:
        life.running.signal(signal.SIGUSR1)
        client = await life.client()
        assert await status_of(client, "/v1/health") == 200
        life.running.signal(signal.SIGTERM)
        assert await life.ended() == 0


async def drawing(life: Life, gate: asyncio.Event) -> tuple[Client, str]:
    """A caller whose image job runs until the event is set, and the job's id."""
    life.provider.plays(gate, whole(b'{"created":1,"data":[{"url":"https://pictures.example/1"}]}'))
    client = await life.client()
    client.post(b'{"model":"pic","prompt":"a cat"}', path="/v1/images/generations")
    job = (await client.answer()).json
    await until(lambda: len(life.provider.received) == 1)
    return client, job["id"]


async def test_an_image_job_may_finish_and_a_caller_who_waits_for_it_is_answered_at_once(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with living(tmp_path) as life:
        client, ident = await drawing(life, gate)
        client.send(f"GET /v1/jobs/{ident} HTTP/1.1\r\nhost: a\r\nprefer: wait=60\r\n\r\n".encode())
        await client.is_read()
        life.running.signal(signal.SIGTERM)
        assert (await client.answer()).json["status"] == "processing"
        assert not life.running.has_ended
        gate.set()
        assert await life.ended() == 0
        (record,) = [one for one in relayed(life.running.log) if one["endpoint"] == "image.job"]
        assert (record["status"], record["ending"]) == (200, "completed")


async def test_an_image_job_that_outlasts_the_drain_is_lost_and_logged_as_drained(tmp_path: Path) -> None:
    async with living(tmp_path, drain="50ms") as life:
        await drawing(life, asyncio.Event())
        life.running.signal(signal.SIGTERM)
        assert await life.ended() == 0
        (record,) = [one for one in relayed(life.running.log) if one["endpoint"] == "image.job"]
        assert (record["status"], record["ending"]) == (503, "drained")
