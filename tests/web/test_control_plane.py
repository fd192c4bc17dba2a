"""What is not relayed: the catalogue's pages, their caching, and refusals that help."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.configurations import configuration
from tests.harness import Answer, Client, gateway

IMAGES = "  - {name: images, base_url: 'http://127.0.0.1:9/v1', dialect: openai_images, warm_connections: 0}\n"
MORE = """\
  - {id: vendor/m, name: Another, price: {input: 3, output: 4, cached_input: 0.5}, pool: [{provider: p0, model: x}]}
  - {id: picture, output_modalities: [image], price: {image: 0.05}, pool: [{provider: images, model: x}]}
aliases: {fast: vendor/m}
"""
PAGES = [
    "/v1/models", "/v1/models/m",
    "/v1/capabilities", "/v1/pricing", "/v1/credits/pricing", "/v1/limits/tiers", "/v1/openapi.json",
]  # fmt: skip


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A caller of a gateway with two text models, an image model and an alias."""
    text = configuration(9).replace("models:\n", f"{IMAGES}models:\n") + MORE
    async with gateway(text, tmp_path) as running:
        yield await running.client()


async def asked(client: Client, path: str, *, method: str = "GET", more: str = "") -> Answer:
    client.send(f"{method} {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n".encode("latin-1"))
    if method == "HEAD":
        return Answer(await client.head(), b"")
    return await client.answer()


async def test_the_models_are_listed_with_what_the_gateway_promises(client: Client) -> None:
    answer = await asked(client, "/v1/models")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["object"] == "list"
    assert [model["id"] for model in answer.json["data"]] == ["m", "vendor/m", "picture"]
    assert all(model["gateway_output_limit"] is None and model["max_tokens_passthrough"] for model in answer.json["data"])
    assert answer.json["aliases"] == {"fast": "vendor/m"}


@pytest.mark.parametrize("name", ["vendor/m", "vendor%2Fm", "fast"])
async def test_a_model_is_found_by_its_id_and_by_its_alias(client: Client, name: str) -> None:
    model = (await asked(client, f"/v1/models/{name}")).json
    assert (model["id"], model["name"], model["pricing"]["output"]) == ("vendor/m", "Another", 4.0)


@pytest.mark.parametrize("name", ["unknown", "vendor", "%ff", "%00", "%22%3Cb%3E", "m/", "caf%C3%A9"])
async def test_a_model_that_is_not_there_is_not_found(client: Client, name: str) -> None:
    answer = await asked(client, f"/v1/models/{name}")
    assert (answer.status, answer.json["error"]["code"], answer.json["error"]["param"]) == (404, "model_not_found", "model")


async def test_capabilities_say_what_is_done_to_a_request(client: Client) -> None:
    told = (await asked(client, "/v1/capabilities")).json
    assert (told["gateway_output_limit"], told["max_tokens_passthrough"], told["default_max_tokens"]) == (None, True, None)
    assert "never stored" in told["privacy"]["statement"]
    assert "request_id" in told["privacy"]["logged_fields"]


@pytest.mark.parametrize("path", ["/v1/pricing", "/v1/credits/pricing"])
async def test_prices_are_listed_by_kind_and_may_be_kept_for_a_minute(client: Client, path: str) -> None:
    answer = await asked(client, path)
    assert answer.headers["cache-control"] == "public, max-age=60"
    told = answer.json
    assert (told["object"], told["text_count"], told["media_count"]) == ("pricing.catalog", 2, 1)
    assert [entry["id"] for entry in told["text"]] == ["m", "vendor/m"]
    assert (told["text"][1]["cached_input_per_1m"], told["media"][0]["usd_per_call"]) == (0.5, 0.05)


async def test_tiers_may_be_kept_for_five_minutes(client: Client) -> None:
    answer = await asked(client, "/v1/limits/tiers")
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert [(tier["tier"], tier["rpm"]) for tier in answer.json["tiers"]] == [(0, 30), (1, 60), (2, 120), (3, 200), (4, 300)]


async def test_the_description_is_openapi(client: Client) -> None:
    OpenAPIV31SpecValidator((await asked(client, "/v1/openapi.json")).json).validate()


async def test_health_is_never_kept(client: Client) -> None:
    answer = await asked(client, "/v1/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert "etag" not in answer.headers


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_that_is_still_the_same_is_not_sent_again(client: Client, path: str) -> None:
    first = await asked(client, path)
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await asked(client, path, more=f"if-none-match: {known}\r\n")
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == first.headers["cache-control"]
    assert (await asked(client, path, more='if-none-match: "other"\r\n')).body == first.body


@pytest.mark.parametrize("path", [*PAGES, "/v1/health"])
async def test_head_tells_the_same_without_the_body(client: Client, path: str) -> None:
    whole, bare = await asked(client, path), await asked(client, path, method="HEAD")
    assert (bare.status, bare.headers["content-length"]) == (200, str(len(whole.body)))
    assert bare.headers.get("etag") == whole.headers.get("etag")
    assert (await asked(client, path)).status == 200


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "Did you mean /v1/chat/completions? The base URL for OpenAI clients ends with /v1."),
        ("/embeddings", "Did you mean /v1/embeddings?"),
        ("/v1/v1/messages", "The path has /v1 twice; the base URL for Anthropic clients ends without it."),
        ("/nothing", "There is nothing at /nothing."),
    ],
)
async def test_a_wrong_base_url_gets_a_hint(client: Client, path: str, hint: str) -> None:
    answer = await asked(client, path, method="POST", more="content-length: 0\r\n")
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
    assert hint in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/livez", "/readyz", "/metrics", "/admin/config", "/v1/models/", "//v1/models", "/%2e%2e/x"]
)
async def test_there_is_nothing_else_on_the_public_door(client: Client, path: str) -> None:
    answer = await asked(client, path)
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/messages", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/models/m", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(client: Client, method: str, path: str, allowed: str) -> None:
    answer = await asked(client, path, method=method, more="content-length: 0\r\n")
    assert answer.status == 405
    assert allowed in answer.headers["allow"]
    assert ("type" in answer.json) == path.startswith("/v1/messages")


async def test_every_page_has_the_request_id(client: Client) -> None:
    assert (await asked(client, "/v1/models", more="x-request-id: mine\r\n")).headers["x-request-id"] == "mine"
    forged = await asked(client, "/v1/models", more="x-kyma-request-id: forged\r\n")
    assert forged.headers["x-request-id"] not in ("", "forged")
    assert (await asked(client, "/nothing", more="x-request-id: mine\r\n")).headers["x-request-id"] == "mine"
