"""A model that only a pattern knows is asked as it comes; lists of providers' models are shown, and never needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.ops import model_lists
from tests.accounts_harness import accounts_gateway
from tests.configurations import configuration
from tests.harness import Gateway, Provider, gateway, providers, whole
from tests.waiting import until

PATTERNS = "  - {id: '*', provider: p0}\n  - {id: 'other/*', provider: p1}\n  - {id: exact, provider: p1}\n"
OPENAI_LIST = json.dumps({
    "object": "list",
    "data": [
        {"id": "gpt-4o", "object": "model", "created": 1715367049, "owned_by": "system"},
        {"id": "exact", "object": "model", "created": 1, "owned_by": "system"},
    ],
}).encode()  # fmt: skip


def text(made: list[Provider], *, more: str = "", dialect: str = "openai") -> str:
    """Two providers, with a pattern for each."""
    return configuration(*(one.port for one in made), dialect=dialect, pool=0, models=PATTERNS, more=more)


async def listed(running: Gateway, path: str = "/v1/models") -> Any:
    """The document at a path about models."""
    client = await running.client()
    client.get(path)
    return (await client.answer()).json


async def ids(running: Gateway) -> list[str]:
    return [model["id"] for model in (await listed(running))["data"]]


@pytest.mark.parametrize(
    ("asked", "at", "sent"),
    [
        ("gpt-4o", 0, "gpt-4o"),
        ("vendor/some-model:free", 0, "vendor/some-model:free"),
        ("other/llama", 1, "llama"),
        ("other/vendor/llama", 1, "vendor/llama"),
        ("exact", 1, "exact"),
    ],
)
async def test_the_prefix_is_cut_and_the_rest_goes_out_as_it_came(tmp_path: Path, asked: str, at: int, sent: str) -> None:
    async with providers(2) as made, gateway(text(made), tmp_path) as running:
        client = await running.client()
        client.ask(asked)
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-model"]) == (200, asked)
        assert json.loads(made[at].received[0].body)["model"] == sent
        (record,) = await running.records()
        assert (record["model_requested"], record["model"], record["provider"]) == (asked, asked, f"p{at}")


async def test_metrics_and_the_status_do_not_grow_with_the_names_that_callers_choose(tmp_path: Path) -> None:
    async with providers(2) as made, gateway(text(made), tmp_path) as running:
        client = await running.client()
        for at in range(20):
            client.ask(f"made-up-{at}")
            await client.answer()
        await running.records(20)
        assert {model for _, model, _ in running.app.counters.series} == {"*"}
        assert await running.metric("kyma_requests_total") == 20
        assert (running.model("*")["requests_24h"], running.model("other/*")["requests_24h"]) == (20, 0)


async def test_a_model_that_fails_opens_no_breaker_of_another(tmp_path: Path) -> None:
    async with providers(2) as made, gateway(text(made), tmp_path) as running:
        client = await running.client()
        for _ in range(6):
            made[0].plays(whole(b"{}", status="503 Busy"))
            client.ask("broken")
            assert (await client.answer()).status in (502, 503)
        assert len(made[0].received) < 6
        made[0].scripts.clear()
        client.ask("sound")
        assert (await client.answer()).status == 200
        assert running.model("*")["status"] == "degraded"
        assert await running.metric("kyma_breaker_open") == 1


async def test_a_name_that_no_provider_knows_gets_the_providers_own_answer(tmp_path: Path) -> None:
    async with providers(2) as made, gateway(text(made), tmp_path) as running:
        refusal = b'{"error":{"message":"The model `nope` does not exist","code":"model_not_found"}}'
        made[0].plays(whole(refusal, status="404 Not Found"))
        client = await running.client()
        client.ask("nope")
        answer = await client.answer()
        assert (answer.status, answer.body) == (404, refusal)


async def test_models_are_listed_from_the_providers_lists(tmp_path: Path) -> None:
    async with providers(2) as made:
        made[0].listing = whole(OPENAI_LIST)
        made[1].listing = whole(b'[{"id":"llama","context_length":8192},{"id":"models/gemma"},{"no":"id"},{"id":7}]')
        async with gateway(text(made), tmp_path) as running:
            await until(lambda: len(running.app.model_lists.models) == 3)
            assert await ids(running) == ["exact", "gpt-4o", "other/llama", "other/gemma"]
            assert (await listed(running, "/v1/models/gpt-4o"))["created"] == 1715367049
            assert (await listed(running, "/v1/models/other/llama"))["context_window"] == 8192
            assert (await listed(running, "/v1/models/unknown"))["error"]["code"] == "model_not_found"
            assert made[0].listings[0].headers["authorization"] == "Bearer provider-key-0"


async def test_the_whole_list_is_asked_of_a_provider_that_would_show_a_part(tmp_path: Path) -> None:
    async with providers(2) as made:
        async with gateway(text(made, dialect="anthropic"), tmp_path):
            await until(lambda: made[0].listings)
        assert made[0].listings[0].line == "GET /v1/models?limit=1000 HTTP/1.1"
        assert made[0].listings[0].headers["anthropic-version"] == "2023-06-01"
        assert "content-length" not in made[0].listings[0].headers


@pytest.mark.parametrize(
    "listing",
    [
        whole(b"{}", status="401 Unauthorized"),
        whole(b"<html>"),
        whole(b'{"data":{}}'),
        whole(b'{"data":[{"id":"' + b"x" * model_lists.MAX_BYTES + b'"}]}'),
        whole(b"[" * 100_000),
    ],
    ids=["refused", "no JSON", "no list", "too large", "too deep"],
)
async def test_a_model_is_passed_on_though_its_list_can_not_be_read(tmp_path: Path, listing: bytes) -> None:
    async with providers(2) as made:
        made[0].listing = listing
        async with gateway(text(made), tmp_path) as running:
            await until(lambda: made[0].listings)
            client = await running.client()
            client.ask("gpt-4o")
            assert (await client.answer()).status == 200
            assert await ids(running) == ["exact"]
            assert (await listed(running, "/v1/models/gpt-4o"))["id"] == "gpt-4o"


async def test_the_last_list_is_kept_and_read_again_when_the_configuration_changes(tmp_path: Path) -> None:
    async with providers(2) as made:
        made[0].listing = whole(OPENAI_LIST)
        async with gateway(text(made), tmp_path) as running:
            await until(lambda: len(running.app.model_lists.models) == 1)
            running.file.write_text(text(made, more="aliases: {best: gpt-4o}\n"))
            await running.configuration.reload("a test")
            await until(lambda: not running.app.model_lists.models)  # the alias has made it an entry of its own
            assert await ids(running) == ["exact", "gpt-4o"]
            assert len(made[0].listings) == 1


async def test_callers_who_pay_reach_only_models_with_a_price(tmp_path: Path) -> None:
    models = "  - {id: '*', provider: p0, prices: {cheap-*: {input: 1000, output: 2000}}}\n"
    async with providers(1) as (provider,):
        provider.listing = whole(b'{"data":[{"id":"cheap-1"},{"id":"dear-1"}]}')
        async with accounts_gateway(tmp_path, provider.port, models=models) as made:
            caller = await made.caller(nano=10**12)
            await until(lambda: made.running.app.model_lists.models)
            assert await ids(made.running) == ["m", "cheap-1"]
            refused = await caller.chat(model="dear-1", max_tokens=5)
            assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
            assert (await caller.chat(model="cheap-1", max_tokens=5)).status == 200
            await until(lambda: not made.running.in_flight)
            assert (await caller.balance())["balance"] == 1000 - (3 * 1000 + 5 * 2000) / 1e6
            assert [one.line for one in provider.received] == ["POST /v1/chat/completions HTTP/1.1"]
