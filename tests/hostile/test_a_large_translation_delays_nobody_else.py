"""A request that takes long to be changed for its source waits by itself: other callers' events pass, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.dialect.anthropic_to_openai.translation import AnthropicToOpenAI
from kyma_proxy.dialect.openai_to_anthropic.translation import OpenAIToAnthropic
from kyma_proxy.dialect.thinking_signature import without_unsigned
from tests.behaviour.translation import OTHER, PATHS, WHOLE_ANSWERS
from tests.configurations import TIMEOUTS, ProviderEntry, configuration
from tests.harness import DONE, LAST_CHUNK, Client, Gateway, Provider, Step, chunk, event, gateway, head, providers
from tests.waiting import until

MESSAGES = 8_000
EVENTS = 25


def dense(dialect: str, *, messages: int = MESSAGES, more: str = "") -> bytes:
    """A request of many small messages."""
    listed = ",".join(['{"role":"user","content":"x"},{"role":"assistant","content":"y"}'] * (messages // 2))
    return f'{{"model":"m","max_tokens":5,"messages":[{listed}]{more}}}'.encode()


@contextlib.asynccontextmanager
async def running(path: Path, dialect: str, **how: Any) -> AsyncIterator[tuple[Gateway, Provider, Provider]]:
    """A gateway whose model `m` is at a provider of this dialect; the model `n` is at another, which speaks OpenAI."""
    neighbour = "  - {id: n, pool: [{provider: p1, model: real-1}]}\n"
    async with providers(2) as (provider, other):
        entries = (ProviderEntry(provider.port, dialect), ProviderEntry(other.port, "openai"))
        async with gateway(configuration(*entries, pool=1, models=neighbour, **how), path) as made:
            yield made, provider, other


@contextlib.asynccontextmanager
async def stopped_worker(made: Gateway) -> AsyncIterator[int]:
    """Wait until a worker has begun, and let it stand still in the meantime. It is the process of this id."""
    await until(lambda: made.app.worker.pid)
    pid = made.app.worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


class Neighbour:
    """A caller whose provider sends each event only when the one before has arrived."""

    def __init__(self, client: Client, other: Provider) -> None:
        self.client = client
        self.events = [asyncio.Event() for _ in range(EVENTS)]
        steps: list[Step] = [head()]
        for one in self.events:
            steps += [one, chunk(event("one"))]
        other.plays(*steps, chunk(DONE) + LAST_CHUNK)
        client.ask("n", stream=True)

    async def reads_all(self) -> None:
        """Let one event after the other come."""
        self.events[0].set()
        await self.client.head()
        for one in self.events[1:]:
            await self.client.chunk()
            one.set()
        await self.client.rest()


@pytest.mark.parametrize("caller", ["anthropic", "openai"])
async def test_a_neighbours_stream_runs_to_its_end_while_a_dense_request_is_translated(tmp_path: Path, caller: str) -> None:
    body = dense(caller, messages=12_000)
    async with running(tmp_path, OTHER[caller]) as (made, provider, other):
        provider.plays(WHOLE_ANSWERS[OTHER[caller]])
        neighbour = Neighbour(await made.client(), other)
        client = await made.client()
        client.post(body, path=PATHS[caller])
        async with stopped_worker(made):
            await neighbour.reads_all()
            assert not provider.received
        assert (await client.answer()).status == 200
        (received,) = provider.received
        if caller == "anthropic":
            translated = AnthropicToOpenAI(body, "real-0", public_model="m", asks_for_usage=True).request
        else:
            translated = OpenAIToAnthropic(body, "real-0", public_model="m", default_max_tokens=None, created=1).request
        assert received.body == translated.body
        record = (await made.records(2))[1]
        assert (record["ending"], record["status"]) == ("completed", 200)


async def test_many_unsigned_thoughts_are_removed_while_a_neighbours_stream_runs(tmp_path: Path) -> None:
    thought = '{"type":"thinking","thinking":"hm","signature":"kyma-unsigned"}'
    content = ",".join([thought] * 20_000 + ['{"type":"text","text":"so"}'])
    body = f'{{"model":"m","max_tokens":5,"messages":[{{"role":"assistant","content":[{content}]}}]}}'.encode()
    async with running(tmp_path, "anthropic") as (made, provider, other):
        neighbour = Neighbour(await made.client(), other)
        client = await made.client()
        client.post(body, path="/v1/messages")
        async with stopped_worker(made):
            await neighbour.reads_all()
            assert not provider.received
        assert (await client.answer()).status == 200
        (received,) = provider.received
        assert received.body == without_unsigned(body)[0].replace(b'"m"', b'"real-0"', 1)


def long_text(characters: str) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": characters}]}).encode()


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        (dense("openai", messages=1_500), 0),
        (long_text("some prose, with commas; " * 40_000), 0),
        (long_text('a "quoted", {word} ' * 20_000), 0),
        (dense("openai", messages=8_000), 1),
        (long_text("x" * 3 * 2**20), 1),
        (long_text('"' * 200_000), 0),
    ],
    ids=["few messages", "prose", "quotes", "many messages", "a very long text", "very many quotes"],
)
async def test_only_what_takes_long_is_translated_elsewhere(tmp_path: Path, body: bytes, calls: int) -> None:
    async with running(tmp_path, "anthropic") as (made, provider, _):
        client = await made.client()
        client.post(body)
        assert (await client.answer()).status == 200
        assert made.app.worker.calls == calls
        translated = OpenAIToAnthropic(body, "real-0", public_model="m", default_max_tokens=None, created=1)
        assert provider.received[0].body == translated.request.body


async def test_a_body_of_more_values_than_anybody_can_translate_is_refused(tmp_path: Path) -> None:
    body = b'{"model":"m","messages":[' + b",".join([b"[]"] * 1_000_001) + b"]}"
    async with running(tmp_path, "anthropic") as (made, provider, _):
        client = await made.client()
        client.post(body)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
        assert "send fewer" in answer.json["error"]["message"]
        assert not provider.received


async def test_what_the_other_dialect_cannot_express_is_refused_from_elsewhere_too(tmp_path: Path) -> None:
    async with running(tmp_path, "anthropic", model="input_modalities: [text]") as (made, provider, _):
        client = await made.client()
        client.post(dense("openai", more=',"n":2'))
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["param"]) == (400, "n")
        image = b'[{"type":"image_url","image_url":{"url":"https://a.example/b.png"}}]'
        client.post(dense("openai").replace(b'"x"', image, 1))
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["param"]) == (400, "messages")
        assert not provider.received


async def test_a_worker_that_is_killed_costs_its_request_a_503_and_the_next_one_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, "anthropic") as (made, provider, _):
        client, next_client = await made.client(), await made.client()
        client.post(dense("openai"))
        async with stopped_worker(made) as pid:
            next_client.post(dense("openai"))
            await until(lambda: made.app.worker.waiting == 2)
            os.kill(pid, signal.SIGKILL)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) > 0
        assert (await next_client.answer()).status == 200
        assert made.app.worker.pid != pid
        assert len(provider.received) == 1


async def test_signals_for_the_whole_group_do_not_end_the_worker(tmp_path: Path) -> None:
    async with running(tmp_path, "anthropic") as (made, _, _):
        client = await made.client()
        client.post(dense("openai", messages=8_000))
        assert (await client.answer()).status == 200
        pid = made.app.worker.pid
        assert pid is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        client.post(dense("openai", messages=8_000))
        assert (await client.answer()).status == 200
        assert made.app.worker.pid == pid


async def leaves(client: Client, made: Gateway) -> None:
    client.leave()


async def drains(client: Client, made: Gateway) -> None:
    made.drain()
    assert (await client.answer()).json["error"]["code"] == "draining"


@pytest.mark.parametrize(("ends", "ending"), [(leaves, "client_gone"), (drains, "drained")])
async def test_a_request_that_ends_while_it_is_translated_leaves_nothing(
    tmp_path: Path, ends: Callable[[Client, Gateway], Any], ending: str
) -> None:
    async with running(tmp_path, "anthropic") as (made, provider, _):
        client = await made.client()
        client.post(dense("openai"))
        async with stopped_worker(made):
            await ends(client, made)
            (record,) = await made.records()
            assert record["ending"] == ending
        await until(lambda: not made.app.worker.waiting)
        assert not provider.received


async def test_the_time_for_the_whole_request_ends_while_it_is_translated(tmp_path: Path) -> None:
    timeouts = TIMEOUTS.replace("}", ", total: 500ms}")
    async with running(tmp_path, "anthropic", timeouts=timeouts) as (made, provider, _):
        client = await made.client()
        client.post(dense("openai"))

        async def stand_still() -> None:
            async with stopped_worker(made):
                await asyncio.Event().wait()

        standing = asyncio.ensure_future(stand_still())  # on a busy machine the time may end before there is a worker
        answer = await client.answer()
        standing.cancel()
        await asyncio.gather(standing, return_exceptions=True)
        assert (answer.status, answer.json["error"]["code"]) == (504, "provider_timeout")
        assert not provider.received


async def test_a_source_that_needs_no_translation_answers_before_a_hedge_is_translated(tmp_path: Path) -> None:
    async with providers(2) as (slow, other):
        entries = (ProviderEntry(slow.port, "openai"), ProviderEntry(other.port, "anthropic"))
        async with gateway(configuration(*entries, hedge_after="10ms"), tmp_path) as made:
            go_on = asyncio.Event()
            slow.plays(go_on, WHOLE_ANSWERS["openai"])
            client = await made.client()
            client.post(dense("openai"))
            async with stopped_worker(made):
                go_on.set()
                assert (await client.answer()).status == 200
            (record,) = await made.records()
            assert (record["provider"], record["ending"]) == ("p0", "completed")
            await until(lambda: not made.app.worker.waiting)
            assert not other.received
