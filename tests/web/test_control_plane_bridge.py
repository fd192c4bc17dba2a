"""The control plane on a caller's connection: what the bridge passes to aiohttp, and what comes back on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.configurations import configuration
from tests.harness import Answer, Client, gateway

MORE = """\
  - {id: vendor/m, name: Another, price: {input: 3, output: 4, cached_input: 0.5}, pool: [{provider: p0, model: x}]}
"""
PAGES = [
    "/v1/models", "/v1/models/m", "/v1/capabilities", "/v1/pricing", "/v1/credits/pricing", "/v1/limits/tiers",
    "/v1/openapi.json", "/v1/health",
]  # fmt: skip


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A caller of a gateway with two text models."""
    async with gateway(configuration(9) + MORE, tmp_path) as running:
        yield await running.client()


async def ask(client: Client, path: str, *, method: str = "GET", more: str = "") -> Answer:
    """Send a request as it is written, and read its answer."""
    client.send(f"{method} {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n".encode("latin-1"))
    if method == "HEAD":
        return Answer(await client.head(), b"")
    return await client.answer()


@pytest.mark.parametrize("path", PAGES)
async def test_head_has_the_headers_of_get_without_the_body(client: Client, path: str) -> None:
    whole, bare = await ask(client, path), await ask(client, path, method="HEAD")
    assert (bare.status, bare.headers["content-length"]) == (200, str(len(whole.body)))
    assert bare.headers.get("etag") == whole.headers.get("etag")
    assert (await ask(client, path)).status == 200


async def test_a_slash_in_a_models_id_may_be_percent_encoded(client: Client) -> None:
    assert (await ask(client, "/v1/models/vendor%2Fm")).json["id"] == "vendor/m"


@pytest.mark.parametrize("name", ["%ff", "%00", "%22%3Cb%3E", "caf%C3%A9"])
async def test_a_model_whose_name_is_percent_encoded_and_unknown_is_not_found(client: Client, name: str) -> None:
    answer = await ask(client, f"/v1/models/{name}")
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["//v1/models", "/%2e%2e/x", "/livez", "/metrics", "/admin/config"])
async def test_an_unusual_path_on_the_public_listener_is_not_found(client: Client, path: str) -> None:
    answer = await ask(client, path)
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/v1/chat/completions", "POST"), ("PUT", "/v1/models/m", "GET")]
)
async def test_a_wrong_method_on_the_public_listener_is_a_405(client: Client, method: str, path: str, allowed: str) -> None:
    answer = await ask(client, path, method=method, more="content-length: 0\r\n")
    assert answer.status == 405
    assert allowed in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/v1/models", "/nothing"])
async def test_a_callers_request_id_is_repeated_in_the_response(client: Client, path: str) -> None:
    assert (await ask(client, path, more="x-request-id: mine\r\n")).headers["x-request-id"] == "mine"


async def test_a_caller_can_not_set_the_header_that_carries_the_request_id_inside(client: Client) -> None:
    forged = await ask(client, "/v1/models", more="x-kyma-request-id: forged\r\n")
    assert forged.headers["x-request-id"] not in ("", "forged")


async def test_a_header_that_aiohttp_takes_only_once_is_a_400_that_closes_the_connection(client: Client) -> None:
    answer = await ask(client, "/v1/models", more="content-type: a/b\r\ncontent-type: a/c\r\n")
    assert (answer.status, answer.json["error"]["code"], answer.headers["connection"]) == (400, "bad_http", "close")
