"""A large configuration is compiled in another process, and put together and freed in slices between which streams go on."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType

import pytest

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.outside_values import NoOutsideValues
from kyma_proxy.net.small_slices import in_slices
from kyma_proxy.ops.loading_apart import MIN_CHARACTERS, load_apart, short_turns
from kyma_proxy.ops.outside_values import OutsideStore
from kyma_proxy.ops.snapshot_pieces import free_in_slices, put_together, take_apart
from tests.configurations import configuration
from tests.factories import DEFAULT, SEVERAL, SEVERAL_KEYS, messages
from tests.harness import DONE, LAST_CHUNK, both, chunk, event, head
from tests.processes import ROOT
from tests.waiting import until

KEYS = {**SEVERAL_KEYS, "ALPHA_KEY": "secret-of-alpha", "TOKEN": "a-token-of-16-characters"}


def large(port: int, number: int = 1000) -> str:
    """A configuration that is compiled in another process."""
    models = "".join(f"  - {{id: m-{at}, pool: [{{provider: p0, model: real-{at}}}]}}\n" for at in range(number))
    text = configuration(port, models=models)
    assert len(text) > MIN_CHARACTERS
    return text


def assembled(snapshot: Snapshot) -> Snapshot:
    steps = put_together(take_apart(snapshot))
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Snapshot = stop.value
            return result


TEXTS = {
    "default": DEFAULT, "several": SEVERAL, "token": f"admin: {{token: '${{TOKEN}}'}}\n{DEFAULT}",
    "patterns": configuration(1, models="  - {id: 'p0/*', provider: p0}\n  - {id: '*', provider: p0}\n")
    + "aliases: {fast: p0/x}\nfallbacks: {m: [p0/y]}\n",
    **{path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "config").glob("*.yaml"))},
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_snapshot_is_the_same_after_it_was_taken_apart(name: str) -> None:
    environment = {**KEYS, "KYMA_SIMULATED_PORT": "1", "KYMA_LLM_PORT": "2", "OPENAI_API_KEY": "sk-of-openai"}
    before = load(TEXTS[name], environment)
    after = assembled(before)
    names = [one.name for one in fields(before)]
    kept = ("admin",) if name == "token" else ()  # a secret is like no other
    assert [field for field in names if field not in kept and getattr(before, field) != getattr(after, field)] == []
    assert [type(getattr(after, field)) for field in names] == [type(getattr(before, field)) for field in names]
    if name == "token":
        assert after.admin is not None
        assert after.admin.token is not None
        assert after.admin.token.reveal() == KEYS["TOKEN"]
    for endpoint, routes in after.routes.items():
        assert isinstance(routes, MappingProxyType)
        assert list(routes) == list(before.routes[endpoint])
        for route in routes.values():
            assert all(one.provider is after.providers[one.provider.name] for one in route.pool if not one.provider.keys > 1)
            assert route.model in after.entries
    assert all(model in after.entries for model in after.models.values())


def test_another_process_compiles_what_this_one_would(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-from-a-file\n")
    text = configuration(1, models="  - {id: n, pool: [{provider: file, model: x}]}\n").replace(
        "providers:\n", f"providers:\n  - {{name: file, base_url: http://f.example/v1, dialect: openai, api_key_file: {key}}}\n"
    )
    reading = OutsideStore().reading()
    steps = put_together(load_apart(text, {}, reading))
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            snapshot = stop.value
            break
    assert snapshot == load(text, {}, OutsideStore().reading())
    assert b"sk-from-a-file" in snapshot.providers["file"].header_lines
    assert list(reading.files) == [str(key)]


def test_problems_that_another_process_finds_are_told_as_if_this_one_had() -> None:
    text = configuration(1) + "drain: 30\nlisten: '0.0.0.0:1'\naliases: {a: '${NAME}'}\n"
    with pytest.raises(ConfigError) as here:
        load(text, {"NAME": "nothing-of-this-name"}, to_serve=True)
    with pytest.raises(ConfigError) as there:
        load_apart(text, {"NAME": "nothing-of-this-name"}, NoOutsideValues())
    assert (there.value.problems, there.value.warnings) == (here.value.problems, here.value.warnings)
    assert "there is no model ${NAME}" in messages(there.value.problems)


async def test_a_large_file_is_taken_while_a_stream_goes_on(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        go = asyncio.Event()
        provider.plays(head() + chunk(event("one")), go, chunk(event("two")), chunk(DONE) + LAST_CHUNK)
        client = await running.client()
        client.ask(stream=True)
        await client.head()
        running.file.write_text(large(provider.port))
        counting = asyncio.create_task(count())
        reloading = asyncio.create_task(running.configuration.reload("a test"))
        await until(lambda: turns > 100)
        go.set()
        assert await client.chunk() == event("one")
        assert await client.rest() == event("two") + DONE
        outcome = await reloading
        counting.cancel()
        assert (outcome.result, outcome.problems) == ("reloaded", ())
        assert turns > 100
        assert len(running.configuration.snapshot.models) == 1001
        client.ask("m-7")
        assert (await client.answer()).status == 200
        assert b'"real-7"' in provider.received[-1].body


async def test_a_large_file_that_is_wrong_changes_nothing(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        before = running.configuration.snapshot
        running.file.write_text(large(provider.port) + "drain: 30\n")
        outcome = await running.configuration.reload("a test")
        assert (outcome.result, [one.path for one in outcome.problems]) == ("failed", ["drain"])
        assert running.configuration.snapshot is before


async def test_where_no_process_can_be_started_the_file_is_taken_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with both(tmp_path) as (running, provider):
        for interpreter in (str(tmp_path / "missing"), "/bin/true"):
            monkeypatch.setattr(sys, "executable", interpreter)
            running.file.write_text(f"{large(provider.port)}# {interpreter}\n")
            with caplog.at_level(logging.WARNING, "kyma-proxy"):
                assert (await running.configuration.reload("a test")).result == "reloaded"
            assert "is read by the process that serves" in caplog.text
            caplog.clear()


async def test_a_computation_in_slices_lets_others_have_their_turns() -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count)

    def steps() -> Iterator[None]:
        for _ in range(100_000):
            yield

    count()
    await in_slices(steps())  # type: ignore[arg-type]
    assert turns > 10


async def test_a_snapshot_that_nobody_uses_any_more_is_freed_in_slices() -> None:
    snapshot = load(large(1), {})
    provider = snapshot.providers["p0"]
    route = snapshot.routes["chat"]["m-7"]
    gc.collect()
    held = sys.getrefcount(provider)
    free_in_slices(snapshot, asyncio.get_running_loop())
    del snapshot
    assert sys.getrefcount(provider) > held / 2  # most of it is there in this turn of the loop
    await until(lambda: sys.getrefcount(provider) < 10)
    assert route.pool[0].provider is provider  # what is in use stays


def test_a_thread_that_compiles_yields_more_often_and_only_for_that_time() -> None:
    usual = sys.getswitchinterval()
    with short_turns():
        assert sys.getswitchinterval() < usual
    assert sys.getswitchinterval() == usual


async def test_the_list_of_thousands_of_models_is_made_while_others_are_served(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        running.file.write_text(large(provider.port, 3000))
        assert (await running.configuration.reload("a test")).result == "reloaded"
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        clients = [await running.client() for _ in range(3)]
        for client in clients:
            client.get("/v1/models")
        counting = asyncio.create_task(count())
        answers = [await client.answer() for client in clients]
        counting.cancel()
        assert turns > 30
        assert [len(answer.json["data"]) for answer in answers] == [3001] * 3
        clients[0].get("/v1/models/m-7")
        assert (await clients[0].answer()).json["id"] == "m-7"
