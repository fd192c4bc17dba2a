"""Keys from files, commands and lists, headers, parameters and proxies are shown by no page, no log and no error."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from kyma_proxy.web.admin import redacted_configuration
from tests.configurations import ProviderEntry, configuration
from tests.harness import Answer, Gateway, gateway, providers, whole

CANARY = "canary-0123456789"
TOKEN = "a-token-for-the-admin-api"


def canary(number: int) -> str:
    return f"{CANARY}-{number}"


WAYS = {
    "list": f"api_keys: [{canary(1)}, {canary(2)}]",
    "file": "api_key_file: 'FILE'",
    "command": "api_key_command: [cat, 'FILE']",
    "command with a secret": f"api_key_command: [echo, {canary(1)}]",
    "header": f"headers: {{x-goog-api-key: {canary(1)}}}",
    "header of its own": f"api_key: {canary(1)}, api_key_header: x-team",
    "query": f"query: {{key: {canary(1)}}}",
    "variable": "api_key: '${CANARY}'",
    "proxy": f"proxy: 'http://user:{canary(1)}@127.0.0.1:PROXY'",
    "proxy of the environment": "proxy: environment",
}


async def ask(running: Gateway) -> Answer:
    client = await running.client()
    client.ask()
    return await client.answer()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("level", ["provider", "source"])
async def test_no_page_no_log_and_no_error_shows_it(
    tmp_path: Path, way: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "key"
    key.write_text(canary(1))
    is_of_source = level == "source" and way in ("header", "query", "proxy")
    async with providers(2) as (provider, proxy):
        provider.judge = proxy.judge = quoting
        setting = WAYS[way].replace("FILE", str(key)).replace("PROXY", str(proxy.port))
        entry = ProviderEntry(provider.port, api_key=None)
        entry = entry._replace(source=setting) if is_of_source else entry._replace(more=setting)
        text = configuration(entry, more=f"admin: {{token: {TOKEN}}}\n")
        environment = {"CANARY": canary(1), "http_proxy": f"http://user:{canary(1)}@127.0.0.1:{proxy.port}"}
        with caplog.at_level(logging.DEBUG):
            async with gateway(text, tmp_path, environment=environment) as running:
                answers = [await ask(running) for _ in range(3)]
                await running.configuration.reload("a test")
                seen = b"".join(answer.body + str(answer.headers).encode() for answer in answers)
                seen += redacted_configuration(running.configuration.snapshot)
                seen += json.dumps([running.model("m"), await running.records(3)]).encode()
                seen += repr((running.configuration.snapshot, running.app.upstreams.statistics())).encode()
                async with TestClient(TestServer(running.app.admin_application)) as admin:
                    headers = {"Authorization": f"Bearer {TOKEN}"}
                    for path in ("/admin/config", "/v1/status", "/status", "/metrics"):
                        async with admin.get(path, headers=headers) as page:
                            seen += await page.read()
                    async with admin.post("/admin/reload", headers=headers) as page:
                        seen += await page.read()
        received = [*provider.received, *proxy.received]
    assert len(received) >= 3
    credential = base64.b64encode(f"user:{canary(1)}".encode()).decode()
    sent = "".join(f"{one.line}{one.headers}" for one in received)
    assert (credential if "proxy" in way else CANARY) in sent
    for secret in (CANARY, credential):
        assert secret not in seen.decode() + caplog.text


def quoting(request: object) -> bytes:
    """An error that quotes the head of the request, as some services do."""
    assert hasattr(request, "line")
    assert hasattr(request, "headers")
    quoted = f"{request.line} {request.headers}"
    return whole(json.dumps({"error": {"message": quoted}}).encode(), status="400 Bad Request", more=f"x-echo: {quoted}\r\n")


async def test_the_configuration_is_shown_with_the_names_of_what_is_set(tmp_path: Path) -> None:
    more = f"api_keys: [{canary(1)}, {canary(2)}], query: {{a b: c}}, headers: {{X-Team: t}}, proxy: 'http://u:{canary(3)}@p:1'"
    entry = ProviderEntry("https://p.example/v1", api_key=None, more=more, source="body: {top_k: 1}, headers: {x-own: 1}")
    async with gateway(configuration(entry), tmp_path) as running:
        document = json.loads(redacted_configuration(running.configuration.snapshot))
    (provider,), (source,) = document["providers"], document["models"][0]["pool"]
    assert provider["headers"] == ["authorization", "x-team"]
    assert (provider["query"], provider["proxy"], provider["keys"]) == (["a b"], "p:1", 2)
    assert (source["headers"], source["body"]) == (["authorization", "x-own", "x-team"], ["top_k"])


@pytest.mark.parametrize(("url", "shown"), [
    ("unix:/run/vllm.sock:/v1", "unix:/run/vllm.sock:/v1"),
    ("https://r.example/deployments/{model}", "https://r.example/deployments/{model}"),
    ("http://p.example/v1", "http://p.example/v1"),
])  # fmt: skip
async def test_the_configuration_is_shown_with_base_urls_as_they_are_written(tmp_path: Path, url: str, shown: str) -> None:
    async with gateway(configuration(ProviderEntry(url, more="" if "unix" in url else "proxy: 'p:1'")), tmp_path) as running:
        document = json.loads(redacted_configuration(running.configuration.snapshot))
    assert document["providers"][0]["base_url"] == shown
