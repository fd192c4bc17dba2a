"""Where no key is required, a foreign web page gets a 403 on every path, and a local page or an application is served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.accounts_harness import metered
from tests.configurations import configuration
from tests.harness import ANSWER, Answer, Client, Gateway, Provider, admin_port, gateway, providers

EVIL = "origin: https://evil.example\r\n"
LOCAL = "origin: http://localhost:3000\r\n"
CROSS_SITE = "sec-fetch-site: cross-site\r\n"
TEXT = "content-type: text/plain;charset=UTF-8\r\n"
PREFLIGHT = "access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n"
CHAT = "/v1/chat/completions"
BODY = '{"model":"m"}'


@contextlib.asynccontextmanager
async def sidecar(directory: Path, more: str = "") -> AsyncIterator[tuple[Gateway, Provider]]:
    """A gateway that has no other names than its addresses."""
    async with providers(1) as (provider,), gateway(configuration(provider.port, hosts="[]", more=more), directory) as running:
        yield running, provider


async def ask(client: Client, line: str, more: str = "", *, host: str = "127.0.0.1:8080", body: str = "") -> Answer:
    """Send a request and take its answer."""
    length = f"content-length: {len(body)}\r\n" if body else ""
    client.send(f"{line} HTTP/1.1\r\nhost: {host}\r\n{more}{length}\r\n{body}".encode())
    return await client.answer()


LINES = [
    (f"POST {CHAT}", BODY), ("POST /v1/messages", BODY), ("POST /v1/embeddings", BODY), (f"OPTIONS {CHAT}", ""),
    ("OPTIONS /v1/models", ""), ("GET /v1/models", ""), ("GET /v1/status", ""), ("GET /status", ""), ("HEAD /v1/models", ""),
    ("GET /v1/jobs/1", ""), ("POST /v1/images/generations", BODY), ("DELETE /v1/nothing", ""), ("GET /", ""),
]  # fmt: skip
PAGES = [
    pytest.param(EVIL, "127.0.0.1:8080", id="foreign-origin"),
    pytest.param(f"{EVIL}{CROSS_SITE}{TEXT}", "localhost", id="foreign-origin-text"),
    pytest.param("origin: null\r\n", "127.0.0.1:8080", id="null"),
    pytest.param(CROSS_SITE, "127.0.0.1:8080", id="cross-site"),
    pytest.param("", "evil.example:8080", id="rebound"),
    pytest.param(
        "origin: http://evil.example:8080\r\nsec-fetch-site: same-origin\r\n", "evil.example:8080", id="rebound-origin"
    ),
    pytest.param(LOCAL, "evil.example:8080", id="rebound-local-origin"),
]


TWO = "origin: http://localhost:3000\r\norigin: http://evil.example\r\n"


@pytest.mark.parametrize(
    "headers", ["origin:\r\n", "origin: a b\r\n", TWO, "origin: http://localhost, http://evil.example\r\n"]
)
async def test_an_origin_that_is_none_is_refused_in_a_sentence(tmp_path: Path, headers: str) -> None:
    async with sidecar(tmp_path) as (running, provider):
        answer = await ask(await running.client(), f"POST {CHAT}", headers, body=BODY)
        message = answer.json["error"]["message"]
        assert answer.status == 403
        assert message.startswith("The page that sent this request may not use this gateway: ")
        assert "access-control-allow-origin" not in answer.headers
        assert not provider.received


async def test_a_provider_learns_nothing_of_the_page_that_asks(tmp_path: Path) -> None:
    page = "origin: http://localhost:3000\r\nreferer: http://localhost:3000/secret\r\nsec-fetch-site: same-site\r\n"
    async with sidecar(tmp_path) as (running, provider):
        assert (await ask(await running.client(), f"POST {CHAT}", page + "sec-ch-ua: x\r\n", body=BODY)).status == 200
        names = set(provider.received[0].headers)
        assert not [name for name in names if name in {"origin", "referer"} or name.startswith("sec-")]


@pytest.mark.parametrize(("headers", "host"), PAGES)
async def test_a_foreign_page_is_a_403_on_every_path(tmp_path: Path, headers: str, host: str) -> None:
    async with sidecar(tmp_path) as (running, provider):
        for line, body in LINES:
            client = await running.client()
            more = headers + (PREFLIGHT if line.startswith("OPTIONS") else "")
            length = f"content-length: {len(body)}\r\n" if body else ""
            client.send(f"{line} HTTP/1.1\r\nhost: {host}\r\n{more}{length}\r\n{body}".encode())
            answer = await client.answer()
            assert answer.status == 403, line
            error = answer.json["error"]
            assert "`cors.origins`" in error["message"] or "`hosts`" in error["message"]
            assert error.get("code", "forbidden") == "forbidden"
            assert ("request_id" in answer.json) is ("/v1/messages" in line)
            assert answer.headers["x-request-id"]
            if headers != LOCAL:
                assert not [name for name in answer.headers if name.startswith("access-control")]
        assert provider.received == []
        assert {record["status"] for record in await running.records(len(LINES))} == {403}
        assert await running.metric("kyma_rejected_total") == len(LINES)


APPLICATIONS = ["app://obsidian.md", "file://", "tauri://localhost", "vscode-webview://1a2b", "vscode-file://vscode-app"]


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:5173", "https://[::1]:8443", *APPLICATIONS])
async def test_a_local_page_and_an_application_are_served_and_may_read_the_answer(tmp_path: Path, origin: str) -> None:
    page = f"origin: {origin}\r\nsec-fetch-site: cross-site\r\n"
    async with sidecar(tmp_path) as (running, provider):
        client = await running.client()
        preflight = await ask(client, f"OPTIONS {CHAT}", page + PREFLIGHT)
        assert (preflight.status, preflight.headers["access-control-allow-headers"]) == (204, "content-type")
        assert "POST" in preflight.headers["access-control-allow-methods"]
        relayed = await ask(client, f"POST {CHAT}", page, body=BODY)
        again = await ask(client, f"POST {CHAT}", page, body=BODY)  # its head is recognised
        models = await ask(client, "GET /v1/models", page)
        failed = await ask(client, f"POST {CHAT}", page, body="[]")
        for answer, status in ((preflight, 204), (relayed, 200), (again, 200), (models, 200), (failed, 400)):
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == origin
            assert "origin" in answer.headers["vary"].lower()
        assert relayed.body == again.body == ANSWER
        assert len(provider.received) == 2


async def test_programs_and_the_gateways_own_pages_are_served(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as (running, provider):
        client = await running.client()
        own = f"origin: http://127.0.0.1:{running.port}\r\nsec-fetch-site: same-origin\r\n"
        for more in ("", own, "sec-fetch-site: none\r\n", "sec-fetch-site: same-site\r\n", "sec-fetch-mode: cors\r\n"):
            for host in (f"127.0.0.1:{running.port}", "localhost", "LOCALHOST:1", "[::1]:8080", "kyma.localhost"):
                assert (await ask(client, f"POST {CHAT}", more, host=host, body=BODY)).status == 200
        client.send(b"GET /v1/health HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert len(provider.received) == 25


async def test_a_target_in_absolute_form_names_the_host(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as (running, provider):
        refused = await ask(await running.client(), "POST http://evil.example/v1/messages", body=BODY)
        assert (refused.status, refused.json["error"]["type"], refused.json["type"]) == (403, "permission_error", "error")
        served = await ask(await running.client(), "GET http://localhost:8080/v1/models", host="evil.example")
        assert served.status == 200
        assert provider.received == []


async def test_a_refused_page_is_asked_for_no_body_and_what_follows_it_is_not_served(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as (running, provider):
        client = await running.client()
        good = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(BODY)}\r\n\r\n{BODY}"
        bad = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{EVIL}expect: 100-continue\r\ncontent-length: {len(BODY)}\r\n\r\n"
        client.send((good + bad + BODY + good).encode())
        assert (await client.answer()).body == ANSWER
        refused = await client.answer()
        assert (refused.status, refused.headers["connection"]) == (403, "close")
        assert await client.read_to_end() == b""
        waiting = await running.client()
        waiting.send(bad.encode())
        assert (await waiting.head()).status == 403  # and no 100 before it
        assert len(provider.received) == 1


async def test_a_reload_applies_to_heads_that_were_accepted_before(tmp_path: Path) -> None:
    page = "origin: https://app.example\r\n"
    async with sidecar(tmp_path) as (running, provider):

        async def reloads(more: str, hosts: str = "[]") -> None:
            running.file.write_text(configuration(provider.port, hosts=hosts, more=more))
            assert (await running.configuration.reload("a test")).result == "reloaded"

        client = await running.client()
        await reloads("cors: {origins: ['https://app.example']}\n", "[gw.internal]")
        for _ in range(3):
            assert (await ask(client, f"POST {CHAT}", page, host="gw.internal", body=BODY)).status == 200
        await reloads("cors: {origins: ['https://app.example']}\n")
        assert "`hosts`" in (await ask(client, f"POST {CHAT}", page, host="gw.internal", body=BODY)).json["error"]["message"]
        client = await running.client()
        for _ in range(3):
            answer = await ask(client, f"POST {CHAT}", page, body=BODY)
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
        await reloads("cors: {origins: []}\n")
        assert (await ask(client, f"POST {CHAT}", page, body=BODY)).status == 403
        assert (await ask(await running.client(), f"POST {CHAT}", LOCAL, body=BODY)).status == 403
        assert len(provider.received) == 6


async def test_where_a_key_is_required_no_page_and_no_name_is_refused(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        caller = await made.caller()
        for headers in (EVIL, CROSS_SITE, "origin: null\r\n", LOCAL):
            answer = await caller.ask("POST", CHAT, {"model": "m"}, headers=headers)
            assert answer.status == 200
            assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await ask(await made.running.client(), "GET /v1/models", EVIL, host="gw.example")).status == 200
        assert len(provider.received) == 4


async def test_where_a_key_is_required_pages_of_configured_origins_may_read_answers(tmp_path: Path) -> None:
    more = "cors: {origins: ['https://evil.example', 'app://*']}\n"
    async with metered(tmp_path, more=more) as (made, _):
        caller = await made.caller()
        for origin, is_readable in (("https://evil.example", True), ("app://x", True), ("http://localhost:3000", False)):
            answer = await caller.ask("POST", CHAT, {"model": "m"}, headers=f"origin: {origin}\r\n")
            assert (answer.status, "access-control-allow-origin" in answer.headers) == (200, is_readable)


TOKEN = "an-admin-token-of-some-length"
BEARER = f"authorization: Bearer {TOKEN}\r\n"


class Admin:
    """The admin listener of a gateway."""

    def __init__(self, running: Gateway, port: int) -> None:
        self.running = running
        self.port = port

    async def ask(self, line: str, more: str = "", *, host: str = "127.0.0.1") -> Answer:
        """The answer to a request with the token, on a connection of its own."""
        client = self.running.adopt(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return await ask(client, line, BEARER + more, host=host)


@contextlib.asynccontextmanager
async def admin(directory: Path, *, listen: str = "127.0.0.1:9090", required: str = "false") -> AsyncIterator[Admin]:
    """The admin listener of a gateway that is configured to listen there."""
    accounts = f"accounts: {{required: {required}, database: 'sqlite:{directory}/kyma.db'}}\n"
    more = f"{accounts}admin: {{listen: '{listen}', token: {TOKEN}}}\n"
    text = configuration(1, hosts="[kyma.monitoring]", more=more)
    async with gateway(text, directory) as running:
        with admin_port(running) as port:
            yield Admin(running, port)


@pytest.mark.parametrize("required", ["false", "true"])
async def test_the_admin_listener_serves_no_foreign_page_and_answers_only_to_its_names(tmp_path: Path, required: str) -> None:
    async with admin(tmp_path, required=required) as listener:
        for line in ("GET /livez", "GET /readyz", "GET /metrics", "GET /admin/config", "POST /admin/reload", "GET /nothing"):
            for headers, host in (
                (EVIL, "127.0.0.1"), ("origin: null\r\n", "localhost"), (CROSS_SITE, "127.0.0.1"), ("", "evil.example"),
                ("origin: http://evil.example:9090\r\n", "evil.example:9090"), ("", "10.0.0.1:9090"),
            ):  # fmt: skip
                answer = await listener.ask(line, headers, host=host)
                assert (answer.status, answer.json["error"]["code"]) == (403, "forbidden"), (line, headers, host)
                assert not [name for name in answer.headers if name.startswith("access-control")]
            assert (await listener.ask(line.replace(" /", " http://evil.example/"))).status == 403
            for host in ("localhost", "127.0.0.1:9090", "kyma.monitoring", "[::1]:1"):
                assert (await listener.ask(line, host=host)).status == (404 if line.endswith("nothing") else 200), (line, host)
        own = "origin: http://127.0.0.1:9090\r\nsec-fetch-site: same-origin\r\n"
        shown = (await listener.ask("GET /admin/config", own, host="127.0.0.1:9090")).json
        assert shown["hosts"] == ["kyma.monitoring"]
        assert "app://*" in shown["cors_origins"]


async def test_an_admin_listener_that_others_reach_answers_to_addresses_but_to_no_foreign_name(tmp_path: Path) -> None:
    async with admin(tmp_path, listen="0.0.0.0:9090") as listener:
        for host in ("10.1.2.3:9090", "[fd00::1]:9090", "localhost", "kyma.monitoring:9090"):
            assert (await listener.ask("GET /readyz", host=host)).status == 200
        for host in ("evil.example", "evil.example:9090", "10.1.2.3.evil.example"):
            assert (await listener.ask("GET /metrics", host=host)).status == 403


async def test_a_reload_applies_to_the_admin_listener(tmp_path: Path) -> None:
    async with admin(tmp_path) as listener:
        path = listener.running.file
        path.write_text(path.read_text().replace("kyma.monitoring", "kyma.elsewhere"))
        assert (await listener.ask("POST /admin/reload", host="kyma.monitoring")).status == 200
        assert (await listener.ask("GET /livez", host="kyma.monitoring")).status == 403
        assert (await listener.ask("GET /livez", host="kyma.elsewhere")).status == 200
