"""Where callers need a key, no page and no error tells them providers, their model ids or missing variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.accounts_harness import AccountsGateway, accounts_gateway
from tests.configurations import ProviderEntry
from tests.harness import CLOSE, Gateway, both, chunk, event, providers, whole
from tests.harness import head as answer_head

PRIVATE = re.compile(r"secret-provider|other-provider|real-0|real-1|SECRET_VARIABLE|127\.0\.0\.1")
PUBLIC_PAGES = (
    "/v1/status",
    "/status",
    "/v1/models",
    "/v1/capabilities",
    "/v1/pricing",
    "/v1/limits/tiers",
    "/v1/openapi.json",
    "/",
)


def entries(*ports: int | str) -> tuple[ProviderEntry, ...]:
    return tuple(
        ProviderEntry(port, name=name, api_key=key)
        for port, name, key in zip(ports, ("secret-provider", "other-provider"), ("k" * 20, "${SECRET_VARIABLE}"), strict=False)
    )


async def admin_page(running: Gateway, path: str) -> tuple[int, str]:
    async with TestClient(TestServer(running.app.admin_application)) as admin, admin.get(path) as answer:
        return answer.status, await answer.text()


async def test_the_public_pages_have_models_and_the_admin_listener_has_their_sources(tmp_path: Path) -> None:
    async with providers(2) as (one, other), accounts_gateway(tmp_path, *entries(one.port, other.port)) as made:
        one.plays(whole(b"{}", status="503 Busy"))
        caller = await made.caller()
        assert (await caller.chat()).status == 502
        for path in PUBLIC_PAGES:
            assert PRIVATE.search((await caller.ask("GET", path)).body.decode()) is None
        document = (await caller.ask("GET", "/v1/status")).json
        models = [{"id": "m", "status": "available", "availability_24h": 0.0}]
        assert document == {"object": "status", "status": "available", "models": models}
        for path in ("/v1/status", "/status"):
            status, text = await admin_page(made.running, path)
            assert status == 200
            assert {"secret-provider", "other-provider", "real-0", "real-1", "SECRET_VARIABLE"} <= set(
                re.findall(r"[\w-]+", text)
            )


async def test_where_no_key_is_required_both_listeners_show_the_sources(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, _):
        client = await running.client()
        client.get("/v1/status")
        shown = (await client.answer()).body.decode()
        assert '"provider":"p0"' in shown
        assert await admin_page(running, "/v1/status") == (200, shown)


async def errors_of(made: AccountsGateway) -> list[str]:
    """What a caller reads while its requests fail, until the source is skipped."""
    caller = await made.caller()
    texts = []
    for _ in range(4):
        answer = await caller.chat()
        texts.append(f"{answer.status} {answer.headers} {answer.body.decode()}")
    return texts


@pytest.mark.parametrize("status", ["401 No", "404 No", "429 Slow", "500 No", "503 Busy"])
async def test_the_error_of_a_source_does_not_name_it(tmp_path: Path, status: str) -> None:
    async with providers(1) as (one,), accounts_gateway(tmp_path, *entries(one.port)) as made:
        one.plays(*[whole(b'{"error":{}}', status=status)] * 9)
        texts = await errors_of(made)
        assert [text for text in texts if PRIVATE.search(text)] == []
        if status == "401 No":  # the operator's key is the operator's business
            assert [text for text in texts if "401" in text] == []
            assert "m is not available just now; GET /v1/status shows which models are." in texts[0]
        else:
            assert f"answered {status[:3]}" in texts[0] or status == "404 No"


@pytest.mark.parametrize("port", [1, "http://name.invalid:1/v1", "https://127.0.0.1:1/v1"])
async def test_the_error_of_a_source_that_can_not_be_reached_does_not_name_it(tmp_path: Path, port: int | str) -> None:
    async with accounts_gateway(tmp_path, *entries(port)) as made:
        texts = await errors_of(made)
        assert [text for text in texts if PRIVATE.search(text) or "invalid:" in text] == []
        assert "could not be reached" in texts[0]


async def test_the_error_of_an_answer_that_breaks_off_does_not_name_the_provider(tmp_path: Path) -> None:
    async with providers(1) as (one,), accounts_gateway(tmp_path, *entries(one.port)) as made:
        one.plays(answer_head() + chunk(event("one")), CLOSE)
        caller = await made.caller()
        caller.client.post(b'{"model":"m","stream":true}', more=f"authorization: Bearer {caller.secret}\r\n")
        text = (await caller.client.read_to_end()).decode()
        assert "The provider stopped in the middle of its answer: " in text
        assert PRIVATE.search(text) is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b'{"model":"m","messages":[]}'),
        ("/v1/messages", b'{"model":"m","messages":[]}'),
        ("/v1/messages/count_tokens", b'{"model":"m","messages":[]}'),
        ("/v1/embeddings", b'{"model":"m","input":"a"}'),
        ("/v1/images/generations", b'{"model":"i","prompt":"a"}'),
    ],
)
async def test_a_model_whose_providers_have_no_key_is_not_available_and_no_more(tmp_path: Path, path: str, body: bytes) -> None:
    entries = (
        ProviderEntry(1, "openai", "secret-provider", "${SECRET_VARIABLE}"),
        ProviderEntry(1, "openai_images", "other-provider", "${SECRET_VARIABLE}"),
        ProviderEntry(1, "openai", "provider-that-is-on", "a-key"),
    )
    image = "  - {id: i, output_modalities: [image], price: {image: 1}, pool: [{provider: other-provider, model: real-1}]}\n"
    async with accounts_gateway(tmp_path, *entries, models=image, pool=1) as made:
        caller = await made.caller()
        caller.client.post(body, path=path, more=f"authorization: Bearer {caller.secret}\r\n")
        answer = await caller.client.answer()
        assert answer.status == 503
        model = "i" if "images" in path else "m"
        assert answer.json["error"]["message"] == f"{model} is not available just now; GET /v1/status shows which models are."
