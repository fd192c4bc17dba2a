"""A reload replaces the configuration as a whole; requests and connections go on, and a wrong file changes nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.ops.reload import Configuration
from tests.configurations import configuration
from tests.harness import DONE, LAST_CHUNK, Gateway, both, chunk, event, gateway, head, providers
from tests.processes import free_port, serving_simulated
from tests.waiting import until, wait_until

TOKEN = "a-token-for-the-admin-api"


def write(running: Gateway, text: str) -> None:
    running.file.write_text(text)


async def status_of(running: Gateway, model: str = "m") -> int:
    """The status of a request for a model."""
    client = await running.client()
    client.ask(model)
    status: int = (await client.answer()).status
    return status


async def test_a_new_configuration_applies_from_the_next_request_on(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        assert await status_of(running, "other") == 404
        write(running, configuration(provider.port).replace("id: m", "id: other"))
        outcome = await running.configuration.reload("a test")
        assert (outcome.result, outcome.problems, outcome.needs_restart) == ("reloaded", (), ())
        assert outcome.version == running.configuration.snapshot.version
        assert [await status_of(running, name) for name in ("other", "m")] == [200, 404]
        client = await running.client()
        client.send(b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\n\r\n")
        assert [model["id"] for model in (await client.answer()).json["data"]] == ["other"]


async def test_a_request_keeps_the_configuration_that_it_began_with(tmp_path: Path) -> None:
    async with providers(2) as (old, new), gateway(configuration(old.port), tmp_path) as running:
        go = asyncio.Event()
        old.plays(head() + chunk(event("one")), go, chunk(event("two")), chunk(DONE) + LAST_CHUNK)
        client = await running.client()
        client.ask(stream=True)
        await client.head()
        write(running, configuration(new.port))
        assert (await running.configuration.reload("a test")).result == "reloaded"
        assert await status_of(running) == 200
        go.set()
        assert await client.chunk() == event("one")
        assert await client.rest() == event("two") + DONE
        assert (len(old.received), len(new.received)) == (1, 1)


@pytest.mark.parametrize(("text", "message"), [
    ("providers: []\nmodels: []\n", "the list must not be empty"),
    ("{", ""),
    (configuration(1).replace("pool:", "pol:"), "did you mean pool?"),
    (configuration(1) + "aliases: {fast: nothing}\n", "there is no model nothing"),
])  # fmt: skip
async def test_a_wrong_file_changes_nothing_and_every_problem_is_named(tmp_path: Path, text: str, message: str) -> None:
    async with both(tmp_path) as (running, _):
        before = running.configuration.snapshot
        write(running, text)
        outcome = await running.configuration.reload("a test")
        assert (outcome.result, outcome.version) == ("failed", before.version)
        assert any(message in problem.message for problem in outcome.problems)
        assert running.configuration.snapshot is before
        assert running.configuration.reloads == {"failed": 1}
        assert await status_of(running) == 200


async def test_a_missing_file_changes_nothing(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, _):
        running.file.unlink()
        outcome = await running.configuration.reload("a test")
        assert outcome.result == "failed"
        assert "no such file" in str(outcome.message)
        assert await status_of(running) == 200


async def test_an_unchanged_file_is_reported_as_unchanged(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, _):
        before = running.configuration.snapshot
        assert (await running.configuration.reload("a test")).result == "unchanged"
        assert running.configuration.snapshot is before


async def test_what_needs_a_restart_is_named_and_kept_and_everything_else_applies(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        before = running.configuration.snapshot
        more = f"listen: 127.0.0.1:1\naccess_log: /elsewhere\nadmin: {{listen: 127.0.0.1:2, token: {TOKEN}}}\n"
        more += "limits: {max_body: 9B}\n"
        write(running, configuration(provider.port, more=more))
        outcome = await running.configuration.reload("a test")
        assert (outcome.result, outcome.needs_restart) == ("reloaded", ("listen", "access_log", "admin.listen"))
        after = running.configuration.snapshot
        assert (after.listen, after.access_log) == (before.listen, before.access_log)
        assert after.admin is not None
        assert before.admin is not None
        assert after.admin.listen == before.admin.listen
        assert after.admin.token is not None
        assert after.admin.token.reveal() == TOKEN
        assert await status_of(running) == 413


async def test_connections_and_circuit_breakers_survive_a_reload(tmp_path: Path, unused_tcp_port: int) -> None:
    async with providers(1) as (alive,), gateway(configuration(unused_tcp_port, alive.port), tmp_path) as running:
        for _ in range(2):
            assert await status_of(running) == 200
        assert running.source()["retry_in_s"]
        write(running, configuration(unused_tcp_port, alive.port, more="aliases: {fast: m}\n"))
        await running.configuration.reload("a test")
        assert await status_of(running, "fast") == 200
        assert running.source()["retry_in_s"]
        assert alive.connections == 1
        assert (await running.records(3))[2]["attempts"] == ["p1:answered"]
        write(running, configuration(alive.port))  # the source is mended: it has another address now
        await running.configuration.reload("a test")
        assert await status_of(running) == 200
        assert (await running.records(4))[3]["attempts"] == ["p0:answered"]


async def test_three_hundred_reloads_under_load_lose_no_request_and_leave_nothing_behind(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        texts = [configuration(provider.port, more=f"aliases: {{a{at}: m}}\n") for at in range(2)]
        statuses: list[int] = []
        is_over = False

        async def load() -> None:
            client = await running.client()
            while not is_over:
                client.ask()
                statuses.append((await client.answer()).status)

        callers = [asyncio.create_task(load()) for _ in range(4)]
        counts = []
        for number in range(300):
            write(running, texts[number % 2 - 1])
            assert (await running.configuration.reload("a test")).result == "reloaded"
            if number in (99, 299):
                provider.received.clear()
                gc.collect()
                counts.append(len(gc.get_objects()))
        is_over = True
        await asyncio.gather(*callers)
        assert set(statuses) == {200}
        assert len(statuses) > 100
        assert counts[1] - counts[0] < 1000  # five objects a reload


async def test_a_changed_file_is_reloaded_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(configuration(1))
    held = Configuration(path, {})
    reloaded = asyncio.Event()
    held.on_change(reloaded.set)
    watching = asyncio.create_task(held.watch(interval_s=0.01))
    draft = tmp_path / "draft"
    draft.write_text(configuration(2))
    draft.replace(path)  # as editors do
    await until(reloaded.is_set)
    assert held.reloads == {"reloaded": 1}
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


# ---- a process


def models_of(base: str) -> list[str]:
    with urllib.request.urlopen(f"{base}/v1/models", timeout=10) as answer:
        return [model["id"] for model in json.load(answer)["data"]]


def test_sighup_reloads_and_logs_the_result(tmp_path: Path) -> None:
    with serving_simulated(tmp_path) as running:
        path = tmp_path / "gateway.yaml"
        text = path.read_text()
        path.write_text(text.replace("id: vendor/sim", "id: renamed"))
        running.signal(signal.SIGHUP)
        wait_until(lambda: "is in force" in running.stderr)
        assert "renamed" in models_of(running.base)
        path.write_text("nonsense: true\n")
        running.signal(signal.SIGHUP)
        wait_until(lambda: "nothing has changed" in running.stderr)
        assert "unknown key" in running.stderr
        assert "renamed" in models_of(running.base)


def test_the_admin_api_reloads_and_answers_the_result(tmp_path: Path) -> None:
    admin = f"127.0.0.1:{free_port()}"
    with serving_simulated(tmp_path, admin=f"{{listen: {admin}, token: {TOKEN}}}"):
        path = tmp_path / "gateway.yaml"

        def post(token: str) -> tuple[int, Any]:
            request = urllib.request.Request(
                f"http://{admin}/admin/reload", method="POST", headers={"Authorization": f"Bearer {token}"}
            )
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        assert post("wrong")[0] == 401
        assert post(TOKEN)[1]["result"] == "unchanged"
        path.write_text(path.read_text() + "drain: 1s\n")
        assert post(TOKEN)[1] | {"version": ""} == {
            "result": "reloaded", "version": "", "message": None, "problems": [], "needs_restart": [], "warnings": [],
            "renewed": [],
        }  # fmt: skip
        path.write_text(path.read_text().replace("drain: 1s", "drian: 1s"))
        status, outcome = post(TOKEN)
        assert (status, outcome["result"], len(outcome["problems"])) == (422, "failed", 1)
        assert "did you mean drain?" in outcome["problems"][0]["message"]
        assert outcome["problems"][0]["line"] > 1
        with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'kyma_reloads_total{result="reloaded"} 1.0' in metrics
        assert 'kyma_reloads_total{result="failed"} 1.0' in metrics
        assert "kyma_breaker_open{" in metrics
