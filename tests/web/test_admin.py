"""The admin listener: health and metrics without a token, and the admin API, which needs the token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

from kyma_proxy.config.reload_result import ReloadResult
from kyma_proxy.loading.compiling import load
from kyma_proxy.ops.reload import Configuration
from kyma_proxy.telemetry.counters import Series
from kyma_proxy.web.admin import admin_application
from tests.harness import STREAM, Client, Gateway, Provider, both

TOKEN = "canary-token-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CONFIGURATION = """\
providers:
  - {name: p, base_url: http://p.example/v1, dialect: openai, api_key: canary-key, headers: {x-organisation: canary-header}}
models:
  - {id: m, pool: [{provider: p, model: real-0}]}
"""
AdminClient = TestClient[Any, Any]
StartsClient = Callable[..., Awaitable[AdminClient]]


class Admin:
    """What the admin application reads: a configuration file, and whether the gateway drains."""

    def __init__(self, path: Path, section: str) -> None:
        self.path = path
        self.path.write_text(CONFIGURATION + section)
        self.configuration = Configuration(path, {})
        self.is_draining = False


@pytest.fixture
def admin(request: pytest.FixtureRequest, tmp_path: Path) -> Admin:
    """With a token, unless the test's parameter is another `admin` section."""
    return Admin(tmp_path / "gateway.yaml", getattr(request, "param", f"admin: {{token: {TOKEN}}}\n"))


async def no_reload() -> ReloadResult:
    """Raises AssertionError: nobody asks for it."""
    raise AssertionError


async def no_metrics(media_type: str) -> bytes:
    """A scrape."""
    return b"# metrics\n"


@pytest.fixture
async def client(admin: Admin, aiohttp_client: StartsClient) -> AdminClient:
    """A client of the admin application, without accounts."""
    app = admin_application(
        admin.configuration.current,
        lambda: admin.is_draining,
        no_metrics,
        lambda: admin.configuration.reload("POST /admin/reload"),
        accounts=None,
    )
    return await aiohttp_client(app)


async def error_of(client: AdminClient, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """The status and the code of an error."""
    async with client.get(path, headers=headers) as answer:
        return answer.status, (await answer.json())["error"]["code"]


async def test_a_gateway_whose_every_provider_is_off_is_alive_and_not_ready(aiohttp_client: StartsClient) -> None:
    app = admin_application(
        lambda: load(CONFIGURATION.replace("canary-key", "${MISSING}"), {}), lambda: False, no_metrics, no_reload, None
    )
    client = await aiohttp_client(app)
    for path, status, state in (("/readyz", 503, "every provider is off"), ("/livez", 200, "ok")):
        response = await client.get(path)
        assert (response.status, await response.json()) == (status, {"status": state})


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_health_and_metrics_need_no_token(client: AdminClient, path: str) -> None:
    async with client.get(path) as answer, client.head(path) as bare:
        assert (answer.status, bare.status, await bare.read()) == (200, 200, b"")


async def test_readiness_ends_when_the_gateway_drains_and_liveness_does_not(client: AdminClient, admin: Admin) -> None:
    admin.is_draining = True
    for path, status, document in (("/readyz", 503, {"status": "draining"}), ("/livez", 200, {"status": "ok"})):
        async with client.get(path) as answer:
            assert (answer.status, await answer.json()) == (status, document)


@pytest.mark.parametrize(
    "headers",
    [None, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Authorization": TOKEN}, {"x-api-key": TOKEN}],
    ids=["none", "wrong", "empty", "no-scheme", "elsewhere"],
)
@pytest.mark.parametrize("path", ["/admin/config", "/admin/unknown"])
async def test_the_admin_api_is_a_401_without_the_token(client: AdminClient, path: str, headers: dict[str, str] | None) -> None:
    assert await error_of(client, path, headers) == (401, "invalid_api_key")


async def test_a_token_that_is_not_utf_8_is_a_wrong_one(client: AdminClient) -> None:
    connection = Client(*await asyncio.open_connection("127.0.0.1", client.port))
    connection.send(b"GET /admin/config HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer \xff\r\n\r\n")
    assert (await connection.answer()).status == 401
    connection.leave()


async def test_the_scheme_bearer_may_be_written_in_any_case(client: AdminClient) -> None:
    async with client.get("/admin/config", headers={"Authorization": f"bearer {TOKEN}"}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "admin", ["", "admin: null\n", "admin: {token: ${NOT_SET}}\n"], indirect=True, ids=["none", "null", "missing"]
)
async def test_without_a_configured_token_the_admin_api_is_off(client: AdminClient) -> None:
    for headers in (None, BEARER, {"Authorization": "Bearer "}):
        assert await error_of(client, "/admin/config", headers) == (403, "forbidden")


async def test_the_configuration_is_shown_without_the_values_of_credentials_and_headers(client: AdminClient) -> None:
    async with client.get("/admin/config", headers=BEARER) as answer:
        text = await answer.text()
        shown = await answer.json()
    assert shown["providers"][0]["headers"] == ["authorization", "x-organisation"]
    assert shown["models"][0]["pool"][0]["model"] == "real-0"
    assert shown["admin"]["token"] == "(set)"
    assert "canary" not in text


async def test_a_reload_answers_with_its_result_and_a_failed_one_with_every_problem(client: AdminClient, admin: Admin) -> None:
    written = admin.path.read_text()
    admin.path.write_text(f"{written}drain: 1s\n")
    async with client.post("/admin/reload", headers=BEARER) as answer:
        assert answer.status == 200
        assert await answer.json() == {
            "result": "reloaded", "version": admin.configuration.snapshot.version, "message": None, "problems": [],
            "needs_restart": [], "warnings": [], "renewed": [],
        }  # fmt: skip
    admin.path.write_text(f"{written}drain: soon\nlisten: 8080\n")
    async with client.post("/admin/reload", headers=BEARER) as answer:
        failed = await answer.json()
        assert (answer.status, failed["result"], failed["version"]) == (422, "failed", admin.configuration.snapshot.version)
    assert [(problem["path"], problem["line"]) for problem in failed["problems"]] == [("drain", 6), ("listen", 7)]
    assert (
        failed["problems"][1]["message"]
        == "an address is written host:port, [ipv6]:port or unix:/path.sock; write 127.0.0.1:8080, or :8080 for all addresses"
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/models", 404), ("POST", "/livez", 405), ("GET", "/admin/unknown", 404)],
)
async def test_the_admin_listener_serves_nothing_else(client: AdminClient, method: str, path: str, status: int) -> None:
    async with client.request(method, path, headers=BEARER) as answer:
        code = {404: "not_found", 405: "method_not_allowed"}[status]
        assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
        assert answer.headers.get("Allow") == ("GET, HEAD" if status == 405 else None)


@pytest.mark.parametrize(("path", "is_hinted"), [("/v1/chat/completions", True), ("/v1/models", True), ("/nothing", False)])
async def test_who_asks_the_admin_listener_for_a_model_is_sent_to_the_public_one(
    client: AdminClient, path: str, is_hinted: bool
) -> None:
    async with client.post(path, json={}) as answer:
        assert ("This is the admin listener" in (await answer.json())["error"]["message"]) is is_hinted


# ---- the metrics of a gateway that serves requests


class Scrapes:
    """A gateway, its provider, and a client of its admin application."""

    def __init__(self, running: Gateway, provider: Provider, client: AdminClient) -> None:
        self.running = running
        self.provider = provider
        self.client = client

    async def samples(self) -> dict[str, float]:
        """Every sample of a scrape, by its name and labels."""
        async with self.client.get("/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
            samples = [sample for family in families for sample in family.samples]
        return {f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value for sample in samples}


@pytest.fixture
async def scrapes(tmp_path: Path, aiohttp_client: StartsClient) -> AsyncIterator[Scrapes]:
    async with both(tmp_path) as (running, provider):
        yield Scrapes(running, provider, await aiohttp_client(running.app.admin_application))


async def test_a_request_is_counted_once_in_every_metric(scrapes: Scrapes) -> None:
    before = await scrapes.samples()
    scrapes.provider.plays(STREAM)
    caller = await scrapes.running.client()
    caller.ask(stream=True)
    assert (await caller.answer()).status == 200
    await scrapes.running.records()
    after = await scrapes.samples()
    risen = {name: value - before.get(name, 0.0) for name, value in after.items() if name.startswith("kyma_")}
    series = {"endpoint": "chat/completions", "model": "m", "provider": "p0"}
    labels = series | {"status": "200", "ending": "completed"}
    assert risen[f"kyma_requests_total{json.dumps(labels, sort_keys=True)}"] == 1
    assert [
        risen[f"kyma_{name}_seconds_count{json.dumps(series, sort_keys=True)}"]
        for name in ("first_byte", "duration", "overhead")
    ] == [1, 1, 1]
    assert sum(value for name, value in risen.items() if name.startswith("kyma_requests_total")) == 1
    assert after["kyma_in_flight{}"] == 0


async def test_a_failed_attempt_is_counted(scrapes: Scrapes) -> None:
    scrapes.provider.plays("reset")
    caller = await scrapes.running.client()
    caller.ask()
    assert (await caller.answer()).status == 502
    await scrapes.running.records()
    failed = [value for name, value in (await scrapes.samples()).items() if name.startswith("kyma_failed_attempts_total")]
    assert sum(failed) == 1


async def test_a_scrape_has_the_types_and_descriptions_of_its_metrics(scrapes: Scrapes) -> None:
    async with scrapes.client.get("/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(await answer.text())}
    assert {families[name].type for name in ("kyma_requests", "kyma_tokens")} == {"counter"}
    assert families["kyma_duration_seconds"].type == "histogram"
    assert all(family.documentation for family in families.values())
    assert "process_resident_memory_bytes" in families


async def test_a_scrape_is_open_metrics_for_who_asks_for_it(scrapes: Scrapes) -> None:
    async with scrapes.client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}) as answer:
        assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        families = {family.name: family for family in open_metrics_families(await answer.text())}  # type: ignore[no-untyped-call]
    assert {"kyma_requests", "kyma_duration_seconds", "kyma_build_info", "process_cpu_seconds"} <= families.keys()


async def test_a_reload_that_fails_shows_until_one_succeeds(scrapes: Scrapes, tmp_path: Path) -> None:
    good, name = scrapes.running.configuration.path.read_text(), "kyma_config_last_reload_success"
    seen: list[tuple[float, bool]] = []
    read_at = (await scrapes.samples())[f"{name}_timestamp_seconds{{}}"]
    for text in (good, "no: yes", good):
        (tmp_path / "gateway.yaml").write_text(text)
        await scrapes.running.configuration.reload("test")
        samples = await scrapes.samples()
        seen.append((samples[f"{name}{{}}"], samples[f"{name}_timestamp_seconds{{}}"] > read_at))
        read_at = samples[f"{name}_timestamp_seconds{{}}"]
    assert seen == [(1, True), (0, False), (1, True)]


async def test_the_labels_are_names_of_the_configuration_whatever_callers_say(scrapes: Scrapes) -> None:
    caller = await scrapes.running.client()
    for name in ("m", "unknown-1", "unknown-2"):
        caller.ask(name)
        await caller.answer()
    caller.post(b"not JSON")
    await caller.answer()
    await scrapes.running.records(4)
    samples = [
        name for name in await scrapes.samples() if name.startswith(("kyma_requests_total", "kyma_duration_seconds_count"))
    ]
    found = {json.loads(name[name.index("{") :])["model"] for name in samples}
    assert found == {"m", ""}
    assert sum(name.startswith("kyma_duration_seconds_count") for name in samples) == 2


async def test_other_work_is_done_while_a_large_scrape_is_made(scrapes: Scrapes) -> None:
    scrapes.running.app.counters.series |= {("chat/completions", f"m{at}", "p0"): Series() for at in range(500)}
    scraping = asyncio.create_task(scrapes.samples())
    turns = 0
    while not scraping.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(await scraping) > 20_000
    assert turns > 150
