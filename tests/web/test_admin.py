"""The admin listener: health and metrics for everybody who reaches it, the API for who has its token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from tests.configurations import configuration
from tests.harness import STREAM, Client, Gateway, Provider, gateway, providers

TOKEN = "canary-token-0123456789"
BEARER = {"authorization": f"Bearer {TOKEN}"}
TOKEN_LINE = f"admin: {{token: {TOKEN}}}\n"


class Desk:
    """A running gateway, the provider behind it, and an operator at its admin listener."""

    def __init__(self, running: Gateway, provider: Provider, session: aiohttp.ClientSession) -> None:
        self.running = running
        self.provider = provider
        self.session = session

    async def got(self, path: str, headers: dict[str, Any] | None = None, method: str = "GET") -> tuple[int, str]:
        async with self.session.request(method, path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def metrics(self) -> dict[str, float]:
        """Every sample of a scrape, by its name and labels."""
        _, text = await self.got("/metrics")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value for sample in samples}


@pytest.fixture
async def desk(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    """With a token, unless the test's parameter says otherwise."""
    async with providers() as (provider,):
        text = configuration(provider.port, more=getattr(request, "param", TOKEN_LINE))
        text = text.replace("warm_connections", "headers: {x-organisation: canary-header}, warm_connections")
        async with gateway(text, tmp_path) as running:
            runner = web.AppRunner(running.app.admin_application, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
                yield Desk(running, provider, session)
            await runner.cleanup()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_health_and_metrics_need_no_token(desk: Desk, path: str) -> None:
    assert (await desk.got(path))[0] == 200
    assert await desk.got(path, method="HEAD") == (200, "")


async def test_readiness_ends_with_the_draining_and_life_does_not(desk: Desk) -> None:
    desk.running.app.listener.drain()
    assert await desk.got("/readyz") == (503, '{"status": "draining"}')
    assert await desk.got("/livez") == (200, '{"status": "ok"}')


async def test_a_request_is_counted_once(desk: Desk) -> None:
    before = await desk.metrics()
    desk.provider.plays(STREAM)
    client = await desk.running.client()
    client.ask(stream=True)
    assert (await client.answer()).status == 200
    await desk.running.records()
    after = await desk.metrics()
    risen = {name: value - before.get(name, 0.0) for name, value in after.items() if name.startswith("kyma_")}
    labels = {"endpoint": "chat/completions", "model": "m", "provider": "p0", "status": "200", "ending": "completed"}
    assert risen[f"kyma_requests_total{json.dumps(labels, sort_keys=True)}"] == 1
    assert [risen[f"kyma_{name}_seconds_count{{}}"] for name in ("first_byte", "duration", "overhead")] == [1, 1, 1]
    assert sum(value for name, value in risen.items() if name.startswith("kyma_requests_total")) == 1
    assert after["kyma_in_flight{}"] == 0


async def test_a_failure_is_counted_by_its_reason(desk: Desk) -> None:
    desk.provider.plays("reset")
    client = await desk.running.client()
    client.ask()
    assert (await client.answer()).status == 502
    await desk.running.records()
    assert sum(value for name, value in (await desk.metrics()).items() if name.startswith("kyma_failed_attempts_total")) == 1


async def test_what_a_scrape_gets_says_what_it_is(desk: Desk) -> None:
    async with desk.session.get("/metrics") as answer:
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(await answer.text())}
    assert {families[name].type for name in ("kyma_requests", "kyma_tokens")} == {"counter"}
    assert families["kyma_duration_seconds"].type == "histogram"
    assert all(family.documentation for family in families.values())
    assert "process_resident_memory_bytes" in families


@pytest.mark.parametrize(
    "headers",
    [None, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "}, {"authorization": TOKEN}, {"x-api-key": TOKEN}],
    ids=["none", "wrong", "empty", "no-scheme", "elsewhere"],
)
async def test_the_api_needs_the_token(desk: Desk, headers: dict[str, Any] | None) -> None:
    for path in ("/admin/config", "/admin/unknown"):
        status, text = await desk.got(path, headers)
        assert (status, json.loads(text)["error"]["code"]) == (401, "invalid_api_key")


async def test_a_token_that_is_not_even_text_is_a_wrong_one(desk: Desk) -> None:
    url = desk.session._base_url
    assert url is not None
    client = Client(*await asyncio.open_connection(url.host, url.port))
    client.send(b"GET /admin/config HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \xff\r\n\r\n")
    assert (await client.answer()).status == 401
    client.leave()


async def test_the_word_bearer_may_be_written_in_any_case(desk: Desk) -> None:
    assert (await desk.got("/admin/config", {"authorization": f"bearer {TOKEN}"}))[0] == 200


@pytest.mark.parametrize(
    "desk", ["", "admin: null\n", "admin: {token: ${NOT_SET}}\n"], indirect=True, ids=["none", "null", "missing"]
)
async def test_without_a_configured_token_the_api_is_off(desk: Desk) -> None:
    for headers in (None, BEARER, {"authorization": "Bearer "}):
        status, text = await desk.got("/admin/config", headers)
        assert (status, json.loads(text)["error"]["code"]) == (403, "forbidden")


async def test_the_configuration_is_shown_without_a_credential(desk: Desk) -> None:
    status, text = await desk.got("/admin/config", BEARER)
    shown = json.loads(text)
    assert status == 200
    assert shown["providers"][0]["headers"] == ["authorization", "x-organisation"]
    assert shown["models"][0]["pool"][0]["model"] == "real-0"
    assert shown["admin"]["token"] == "(set)"
    assert not [canary for canary in (TOKEN, "canary-header", "provider-key") if canary in text]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("GET", "/v1/models", 404), ("POST", "/livez", 405)])
async def test_there_is_nothing_else_on_the_admin_listener(desk: Desk, method: str, path: str, status: int) -> None:
    assert (await desk.got(path, BEARER, method))[0] == status
    assert (await desk.got("/admin/unknown", BEARER))[0] == 404
