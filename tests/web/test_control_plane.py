"""The aiohttp application of the control plane: the catalogue's pages, their caching, and errors with a hint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.web.application import PublicPages, application
from kyma_proxy.web.control_plane_bridge import REQUEST_ID_HEADER
from kyma_proxy.web.image_pages import ImagePages
from tests.factories import snapshot

CONFIGURATION = """\
defaults: {max_tokens: null}
providers:
  - {name: text, base_url: https://text.example, dialect: openai}
  - {name: images, base_url: https://images.example, dialect: openai_images}
models:
  - {id: m, price: {input: 1, output: 2}, pool: [{provider: text, model: x}]}
  - {id: vendor/m, name: Another, price: {input: 3, output: 4, cached_input: 0.5}, pool: [{provider: text, model: x}]}
  - {id: picture, output_modalities: [image], price: {image: 0.05}, pool: [{provider: images, model: x}]}
aliases: {fast: vendor/m}
"""
PAGES = [
    "/v1/models", "/v1/models/m",
    "/v1/capabilities", "/v1/pricing", "/v1/credits/pricing", "/v1/limits/tiers", "/v1/openapi.json",
]  # fmt: skip
Client = TestClient[Any, Any]


@pytest.fixture
async def client(aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    """A client of an application with two text models, an image model and an alias, and without accounts."""
    in_force = snapshot(CONFIGURATION)
    images = ImagePages(lambda: in_force, None, None, wall=lambda: 0.0)  # type: ignore[arg-type]  # no test submits a job
    pages = PublicPages(lambda: in_force, lambda: False, BreakerTable(), lambda: 0.0)
    return await aiohttp_client(application(pages, images, None))


async def fetched(client: Client, path: str) -> Any:
    """The document at a path."""
    async with client.get(path) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        return await answer.json()


async def test_the_models_are_listed_with_what_the_gateway_promises(client: Client) -> None:
    models = await fetched(client, "/v1/models")
    assert models["object"] == "list"
    assert [model["id"] for model in models["data"]] == ["m", "vendor/m", "picture"]
    assert all(model["gateway_output_limit"] is None and model["max_tokens_passthrough"] for model in models["data"])
    assert models["aliases"] == {"fast": "vendor/m"}


@pytest.mark.parametrize("name", ["vendor/m", "fast"])
async def test_a_model_is_found_by_its_id_and_by_its_alias(client: Client, name: str) -> None:
    model = await fetched(client, f"/v1/models/{name}")
    assert (model["id"], model["name"], model["pricing"]["output"]) == ("vendor/m", "Another", 4.0)


@pytest.mark.parametrize("name", ["unknown", "vendor", "m/", "café", '"<b>"'])
async def test_a_model_that_does_not_exist_is_a_404_that_names_the_parameter(client: Client, name: str) -> None:
    async with client.get(f"/v1/models/{name}") as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert name in error["message"]


async def test_the_capabilities_say_what_is_done_to_a_request(client: Client) -> None:
    capabilities = await fetched(client, "/v1/capabilities")
    assert (capabilities["gateway_output_limit"], capabilities["max_tokens_passthrough"]) == (None, True)
    assert capabilities["default_max_tokens"] is None
    assert "never stored" in capabilities["privacy"]["statement"]
    assert "request_id" in capabilities["privacy"]["logged_fields"]


@pytest.mark.parametrize("path", ["/v1/pricing", "/v1/credits/pricing"])
async def test_prices_are_listed_by_kind_of_model(client: Client, path: str) -> None:
    pricing = await fetched(client, path)
    assert (pricing["object"], pricing["text_count"], pricing["media_count"]) == ("pricing.catalog", 2, 1)
    assert [entry["id"] for entry in pricing["text"]] == ["m", "vendor/m"]
    assert (pricing["text"][1]["cached_input_per_1m"], pricing["media"][0]["usd_per_call"]) == (0.5, 0.05)


async def test_the_tiers_are_the_shipped_ones(client: Client) -> None:
    tiers = (await fetched(client, "/v1/limits/tiers"))["tiers"]
    assert [(tier["tier"], tier["rpm"]) for tier in tiers] == [(0, 30), (1, 60), (2, 120), (3, 200), (4, 300)]


@pytest.mark.parametrize(
    ("path", "cache_control"),
    [
        ("/v1/models", "no-cache"), ("/v1/capabilities", "no-cache"), ("/v1/pricing", "public, max-age=60"),
        ("/v1/credits/pricing", "public, max-age=60"), ("/v1/limits/tiers", "public, max-age=300"), ("/v1/status", "no-store"),
    ],
)  # fmt: skip
async def test_each_page_says_how_long_it_may_be_cached(client: Client, path: str, cache_control: str) -> None:
    async with client.get(path) as answer:
        assert answer.headers["Cache-Control"] == cache_control


async def test_the_description_of_the_api_is_valid_openapi(client: Client) -> None:
    assert list(OpenAPIV31SpecValidator(await fetched(client, "/v1/openapi.json")).iter_errors()) == []


async def test_health_has_no_etag(client: Client) -> None:
    async with client.get("/v1/health") as answer:
        assert (answer.status, await answer.json(), "ETag" in answer.headers) == (200, {"status": "ok"}, False)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_whose_etag_the_caller_has_is_not_sent_again(client: Client, path: str) -> None:
    async with client.get(path) as first:
        body, tag = await first.read(), first.headers["ETag"]
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        async with client.get(path, headers={"If-None-Match": condition}) as answer:
            assert (answer.status, await answer.read(), answer.headers["ETag"]) == (304, b"", tag)
            assert answer.headers["Cache-Control"] == first.headers["Cache-Control"]
    async with client.get(path, headers={"If-None-Match": '"other"'}) as answer:
        assert (answer.status, await answer.read()) == (200, body)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "Did you mean /v1/chat/completions? The base URL for OpenAI clients ends with /v1."),
        ("/embeddings", "Did you mean /v1/embeddings?"),
        ("/v1/v1/messages", "The path has /v1 twice; the base URL for Anthropic clients ends without it."),
        ("/models", "Did you mean /v1/models?"),
        ("/metrics", "There is nothing at /metrics. It is on the admin listener, 127.0.0.1:9090 if"),
        ("/readyz", "It is on the admin listener"),
        ("/healthz", "GET /v1/health says if this gateway takes requests."),
        ("/admin/config", "It is on the admin listener"),
        ("/", "There is nothing at /. GET /v1/models lists the models, and /status shows their state."),
        ("/v1/", "GET /v1/models lists the models"),
        ("/nothing", "There is nothing at /nothing."),
    ],
)
async def test_a_request_with_a_wrong_base_url_gets_a_hint(client: Client, path: str, hint: str) -> None:
    async with client.post(path) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (404, "not_found")
        assert hint in error["message"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/livez", "/readyz", "/metrics", "/admin/config", "/v1/models/"])
async def test_the_public_application_has_no_path_of_the_admin_listener_and_no_others(client: Client, path: str) -> None:
    async with client.get(path) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/messages", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/models/m", "GET"),
    ],
)
async def test_a_request_with_a_wrong_method_gets_the_allowed_ones(
    client: Client, method: str, path: str, allowed: str
) -> None:
    async with client.request(method, path) as answer:
        assert answer.status == 405
        assert allowed in answer.headers["Allow"]
        assert ("type" in await answer.json()) == path.startswith("/v1/messages")


@pytest.mark.parametrize("path", ["/v1/models", "/nothing"])
async def test_every_response_has_the_request_id_that_the_bridge_passes_in(client: Client, path: str) -> None:
    async with client.get(path, headers={REQUEST_ID_HEADER: "request-1"}) as answer:
        assert answer.headers["X-Request-Id"] == "request-1"
