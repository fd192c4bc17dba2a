"""The OpenAPI document is valid, complete, and true of what the control plane answers to every operation."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator

from kyma_proxy.core.catalogue import Catalogue, make_catalogue
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.dialect.registry import DIALECTS, RELAYED
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.loading.compiling import load
from kyma_proxy.web.application import PublicPages, application
from kyma_proxy.web.image_pages import ImagePages
from kyma_proxy.web.openapi.document import openapi_page
from tests.configurations import configuration
from tests.factories import snapshot
from tests.harness import CLOSE, Provider, whole
from tests.jobs.image_gateway import (
    FAST_TIMING,
    OPENAI,
    PATH,
    ImageGateway,
    error_answer,
    image_gateway,
    images_answer,
    play,
)
from tests.waiting import until

DOCUMENT = orjson.loads(openapi_page().body)
PATHS = DOCUMENT["paths"]
OPERATIONS = {(method.upper(), path) for path, methods in PATHS.items() for method in methods if path.encode() not in RELAYED}
SIGNUP = ", signup: {enabled: true, credits: 0.5, per_hour: 3}"


def validate(document: object, schema: dict[str, object]) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(document)


def response_schema(path: str, method: str, status: int) -> Any:
    return PATHS[path][method]["responses"][str(status)]["content"]["application/json"]["schema"]


def objects(schema: object) -> list[dict[str, object]]:
    """Every schema of an object anywhere in a schema."""
    if isinstance(schema, list):
        return [found for one in schema for found in objects(one)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if schema.get("type") == "object" else []
    return here + [found for one in schema.values() for found in objects(one)]


# ---- the document itself


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_relayed_path_and_every_route_is_described_and_nothing_else_is() -> None:
    images = ImagePages(snapshot, None, None, wall=lambda: 0.0)  # type: ignore[arg-type]  # no handler is called
    app = application(PublicPages(snapshot, lambda: False, BreakerTable(), lambda: 0.0), images, None)
    routes = {(resource.canonical, route.method.lower()) for resource in app.router.resources() for route in resource}
    served = {(path, method) for path, method in routes if method != "head"}
    served |= {(path.decode(), "post") for path in RELAYED}
    assert {(path, method) for path, methods in PATHS.items() for method in methods} == served


@pytest.mark.parametrize(
    "name",
    [
        "Model", "Models", "Pricing", "Tiers", "Capabilities", "Status", "Health", "Registered", "Limits", "Balance",
        "Transaction", "Transactions", "Key", "Keys", "NewKey", "DeletedKey", "Usage", "Images", "ImageJob", "ImageJobs",
    ],
)  # fmt: skip
def test_a_schema_of_the_gateways_own_allows_no_member_to_be_missing_or_added(name: str) -> None:
    schemas = [schema for schema in objects(DOCUMENT["components"]["schemas"][name]) if "properties" in schema]
    assert schemas
    for schema in schemas:
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", Kind)
def test_every_error_of_a_relayed_endpoint_is_described_in_its_dialect(kind: Kind) -> None:
    for path, endpoint in RELAYED.items():
        dialect = DIALECTS[endpoint.dialect]
        body, status = dialect.error_body(GatewayError(kind, "A message."), "request-1"), dialect.status_of(kind)
        validate(orjson.loads(body), response_schema(path.decode(), "post", status))
        assert kind.code in PATHS[path.decode()]["post"]["responses"][str(status)]["description"]


def test_the_schema_of_a_relayed_request_is_an_open_object_that_requires_only_a_model() -> None:
    for path in RELAYED:
        (content,) = PATHS[path.decode()]["post"]["requestBody"]["content"].values()
        schema = content["schema"]
        validator = Draft202012Validator(schema)
        assert validator.is_valid({"model": "small", "messages": [], "unheard_of": {"at": "all"}})
        assert not any(map(validator.is_valid, ({}, {"model": ""}, {"model": 1}, {"model": "x" * 257}, [])))


def test_the_members_that_the_gateway_reads_are_described_for_the_endpoints_that_read_them() -> None:
    for path, endpoint in RELAYED.items():
        operation = PATHS[path.decode()]["post"]
        (content,) = operation["requestBody"]["content"].values()
        members = content["schema"]["properties"]
        assert ("max_tokens" in members) is endpoint.takes_max_tokens
        assert ("stream" in members) is ("text/event-stream" in operation["responses"]["200"]["content"])
        assert operation["externalDocs"]["url"].startswith("https://")


def pages_of(steps: Generator[None, None, Catalogue]) -> Catalogue:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            made: Catalogue = stop.value
            return made


@pytest.mark.parametrize(("price", "modality", "mode"), [
    ("per_minute: 0.006", "audio", "per_minute"), ("per_million_characters: 15, per_request: 0.001", "text", "per_character"),
    ("per_request: 0.002, input: 1, output: 0", "text", "per_request"),
])  # fmt: skip
def test_a_price_beside_those_of_tokens_is_in_the_pages_as_they_are_described(price: str, modality: str, mode: str) -> None:
    written = f"  - {{id: w, input_modalities: [{modality}], price: {{{price}}}, pool: [{{provider: p0, model: x}}]}}\n"
    pages = pages_of(make_catalogue(load(configuration(9, models=written), {}), (), RELAYED.values()))
    models, pricing = orjson.loads(pages.models.body), orjson.loads(pages.pricing.body)
    validate(models, response_schema("/v1/models", "get", 200))
    validate(pricing, response_schema("/v1/pricing", "get", 200))
    assert models["data"][-1]["pricing"]["mode"] == mode
    (medium,) = pricing["media"]
    assert (medium["id"], medium["modality"], medium["pricing_mode"]) == ("w", modality, mode)


def test_both_credentials_are_described_and_public_pages_need_none() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["x-api-key"]["in"], schemes["x-api-key"]["name"]) == ("header", "x-api-key")
    assert {} in DOCUMENT["security"]
    public = {path for path, methods in PATHS.items() if methods.get("get", {}).get("tags") == ["pages"]}
    assert public >= {"/v1/models", "/v1/models/{id}", "/v1/pricing", "/v1/limits/tiers", "/v1/status", "/v1/health"}
    assert all(PATHS[path]["get"]["security"] == [] for path in public)


def test_every_operation_has_a_unique_id_that_fits_generated_code() -> None:
    names = [operation["operationId"] for methods in PATHS.values() for operation in methods.values()]
    assert len(set(names)) == len(names) == 35
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


# ---- what the control plane answers


class Api:
    """The control plane of a gateway with accounts and image models. Each response is checked against the document."""

    def __init__(self, client: TestClient[Any, Any], images: ImageGateway, provider: Provider, secret: str) -> None:
        self.images = images
        self.provider = provider
        self.secret = secret
        self.checked: set[tuple[str, str, int]] = set()
        """The operations and statuses whose answers were as described."""
        self._client = client

    async def call(
        self, method: str, path: str, status: int, *, query: str = "", headers: dict[str, str] | None = None,
        has_key: bool = True, **how: Any,
    ) -> Any:  # fmt: skip
        """Call an operation, which must answer with this status as it is described; its document.

        `path` is the described one; members of `how` replace its parameters, but `json` or `data` is the body.
        """
        body = {name: how.pop(name) for name in ("json", "data") if name in how}
        url = path
        for name, value in how.items():
            url = url.replace(f"{{{name}}}", value)
        credential = {"Authorization": f"Bearer {self.secret}"} if has_key else {}
        async with self._client.request(method, url + query, headers={**credential, **(headers or {})}, **body) as answer:
            return await self._checked(answer, method, path, status)

    async def _checked(self, answer: ClientResponse, method: str, path: str, status: int) -> Any:
        text = await answer.read()
        assert answer.status == status, text
        described = PATHS[path][method.lower()]["responses"][str(status)]
        assert {name.lower() for name in described["headers"]} - {"retry-after"} <= {name.lower() for name in answer.headers}
        document = None
        if "content" in described:
            ((media, content),) = described["content"].items()
            assert answer.content_type == media
            document = orjson.loads(text) if media == "application/json" else text.decode()
            validate(document, content["schema"])
        else:
            assert text == b""
        self.checked.add((method, path, status))
        return document


@pytest.fixture
async def api(tmp_path: Path, aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]]) -> AsyncIterator[Api]:
    async with image_gateway(tmp_path, OPENAI, signup=SIGNUP, timing=FAST_TIMING._replace(expires=20.0)) as (images, provider):
        client = await aiohttp_client(images.running.app.control_plane)
        yield Api(client, images, provider, (await images.caller()).secret)
        await client.close()


async def read_page(api: Api, path: str, **parameters: str) -> Any:
    """Read a page that has an ETag, anew and if it has changed."""
    how: dict[str, Any] = dict(parameters)
    document = await api.call("GET", path, 200, has_key=False, **how)
    assert await api.call("GET", path, 304, headers={"If-None-Match": "*"}, has_key=False, **how) is None
    return document


async def read_models(api: Api) -> None:
    models = await read_page(api, "/v1/models")
    assert [model["id"] for model in models["data"]] == ["pic", "edit", "m"]


async def read_a_model(api: Api) -> None:
    for name in ("pic", "m", "picture"):
        assert (await read_page(api, "/v1/models/{id}", id=name))["object"] == "model"
    await api.call("GET", "/v1/models/{id}", 404, id="nothing")


async def read_capabilities(api: Api) -> None:
    assert (await read_page(api, "/v1/capabilities"))["images"]["models"][0]["id"] == "pic"


async def read_pricing(api: Api) -> None:
    assert (await read_page(api, "/v1/pricing"))["media_count"] == 2


async def read_credits_pricing(api: Api) -> None:
    assert (await read_page(api, "/v1/credits/pricing"))["text_count"] == 1


async def read_tiers(api: Api) -> None:
    assert len((await read_page(api, "/v1/limits/tiers"))["tiers"]) == 5


async def read_openapi(api: Api) -> None:
    assert await read_page(api, "/v1/openapi.json") == DOCUMENT


async def read_status(api: Api) -> None:
    for _ in range(4):
        play(api.provider, error_answer("500 Internal Server Error"))
        await submit_and_wait(api, 502)
    models = (await api.call("GET", "/v1/status", 200, has_key=False))["models"]
    statuses = {model["id"]: model["status"] for model in models}
    assert (statuses["pic"], statuses["m"]) == ("degraded", "available")


async def read_status_page(api: Api) -> None:
    assert "<h1>Models" in await api.call("GET", "/status", 200, has_key=False)


async def read_health(api: Api) -> None:
    assert await api.call("GET", "/v1/health", 200, has_key=False) == {"status": "ok"}
    api.images.running.app.listener.drain()
    assert await api.call("GET", "/v1/health", 503, has_key=False) == {"status": "draining"}


async def register(api: Api) -> None:
    path = "/v1/auth/register"
    registered = await api.call("POST", path, 201, json={"email": "new@example.com"}, has_key=False)
    assert registered["balance"] == 0.5
    await api.call("POST", path, 409, json={"email": "new@example.com"}, has_key=False)
    await api.call("POST", path, 400, json={"mail": "x"}, has_key=False)
    await api.call("POST", path, 400, json={"email": "x"}, has_key=False)
    await api.call("POST", path, 429, json={"email": "other@example.com"}, has_key=False)


async def read_limits(api: Api) -> None:
    assert (await api.call("GET", "/v1/auth/limits", 200))["tier"] == 0
    await api.call("GET", "/v1/auth/limits", 401, has_key=False)


async def read_balance(api: Api) -> None:
    assert (await api.call("GET", "/v1/credits/balance", 200))["available"] == 1.0
    await api.call("GET", "/v1/credits/balance", 401, has_key=False)


async def read_transactions(api: Api) -> None:
    path = "/v1/credits/transactions"
    play(api.provider, images_answer())
    await submit_and_wait(api, 200)
    kinds = [one["kind"] for one in (await api.call("GET", path, 200))["data"]]
    assert kinds == ["usage", "refund", "adjustment", "grant"]
    assert (await api.call("GET", path, 200, query="?limit=1"))["has_more"]
    await api.call("GET", path, 400, query="?limit=0")


async def read_keys(api: Api) -> None:
    assert len((await api.call("GET", "/v1/keys", 200))["data"]) == 1
    await api.call("GET", "/v1/keys", 401, has_key=False)


async def create_a_key(api: Api) -> None:
    assert (await api.call("POST", "/v1/keys", 201, json={"name": "laptop"}))["name"] == "laptop"
    await api.call("POST", "/v1/keys", 400, json={"name": ""})


async def revoke_a_key(api: Api) -> None:
    new = await api.call("POST", "/v1/keys", 201)
    assert (await api.call("DELETE", "/v1/keys/{id}", 200, id=new["id"]))["deleted"]
    await api.call("DELETE", "/v1/keys/{id}", 404, id="nothing")


async def read_usage(api: Api) -> None:
    play(api.provider, images_answer())
    await submit_and_wait(api, 200)
    assert (await api.call("GET", "/v1/usage", 200))["data"][0]["model"] == "pic"
    await api.call("GET", "/v1/usage", 400, query="?from=yesterday")


async def submit_and_wait(api: Api, status: int, **members: Any) -> Any:
    return await api.call(
        "POST", PATH, status, json={"model": "pic", "prompt": "a cat", **members}, headers={"Prefer": "wait=20"}
    )


async def submit_an_image_job(api: Api) -> None:
    order = {"model": "pic", "prompt": "a cat", "idempotency_key": "k"}
    goes_on = asyncio.Event()
    api.provider.plays(goes_on, images_answer())
    job = await api.call("POST", PATH, 202, json=order)
    assert (await api.call("POST", PATH, 200, json=order))["id"] == job["id"]
    await api.call("POST", PATH, 409, json={**order, "prompt": "a dog"})
    goes_on.set()
    play(api.provider, whole(b'{"created":1,"data":[{"b64_json":"aGk="}]}'))
    images = await submit_and_wait(api, 200)
    assert images["data"] == [{"b64_json": "aGk="}]
    await submit_and_wait(api, 400, size="1x1")
    await submit_and_wait(api, 404, model="nothing")
    api.provider.plays(CLOSE)
    await submit_and_wait(api, 502)
    await api.call("POST", PATH, 413, data=io.BytesIO(b'{"model":"pic","prompt":"%b"}' % (b"x" * 9_000_000)))
    await api.call("POST", PATH, 401, json=order, has_key=False)
    poor = await api.images.caller("poor@example.com", usd=0.01)
    api.secret = poor.secret
    await api.call("POST", PATH, 402, json=order)


async def edit_an_image(api: Api) -> None:
    path, wait = "/v1/images/edits", {"Prefer": "wait=20"}
    order, goes_on = {"model": "pic", "prompt": "a cat", "idempotency_key": "e"}, asyncio.Event()
    api.provider.plays(goes_on, images_answer())
    job = await api.call("POST", path, 202, json=order)
    assert (await api.call("POST", path, 200, json=order))["id"] == job["id"]
    await api.call("POST", path, 409, json={**order, "prompt": "a dog"})
    goes_on.set()
    await api.call("POST", path, 400, json={"model": "edit", "prompt": "a cat"})
    api.provider.plays(CLOSE)
    await api.call("POST", path, 502, json={"model": "pic", "prompt": "a cat"}, headers=wait)


async def list_image_jobs(api: Api) -> None:
    assert (await api.call("GET", "/v1/jobs", 200))["data"] == []
    play(api.provider, *[images_answer()] * 2)
    for _ in range(2):
        await submit_and_wait(api, 200)
    page = await api.call("GET", "/v1/jobs", 200, query="?limit=1")
    assert (page["has_more"], page["next_before"]) == (True, page["data"][0]["id"])
    await api.call("GET", "/v1/jobs", 400, query="?before=nothing")


async def read_an_image_job(api: Api) -> None:
    order, goes_on = {"model": "pic", "prompt": "a cat"}, asyncio.Event()
    path, wait = "/v1/jobs/{id}", {"Prefer": "wait=20"}
    api.provider.plays(goes_on, images_answer())
    job = await api.call("POST", PATH, 202, json=order)
    assert (await api.call("GET", path, 200, id=job["id"]))["status"] in ("pending", "processing")
    goes_on.set()
    assert (await api.call("GET", path, 200, headers=wait, id=job["id"]))["output"]["data"][0]["url"]
    play(api.provider, error_answer("400 Bad Request"))
    failed = await api.call("POST", PATH, 202, json=order)
    assert (await api.call("GET", path, 200, headers=wait, id=failed["id"]))["error"]["code"] == "invalid_request"
    await api.call("GET", path, 404, id="nothing")


async def cancel_an_image_job(api: Api) -> None:
    order, goes_on = {"model": "pic", "prompt": "a cat"}, asyncio.Event()
    api.provider.plays(goes_on, error_answer("500 Internal Server Error"))
    job = await api.call("POST", PATH, 202, json=order)
    await until(lambda: len(api.provider.received) == 1)
    assert (await api.call("DELETE", "/v1/jobs/{id}", 202, id=job["id"]))["status"] == "processing"
    goes_on.set()
    await api.call("GET", "/v1/jobs/{id}", 200, headers={"Prefer": "wait=20"}, id=job["id"])
    assert (await api.call("DELETE", "/v1/jobs/{id}", 200, id=job["id"]))["status"] == "refunded"
    await api.call("DELETE", "/v1/jobs/{id}", 404, id="nothing")


CALLS: dict[tuple[str, str], Callable[[Api], Awaitable[None]]] = {
    ("GET", "/v1/models"): read_models,
    ("GET", "/v1/models/{id}"): read_a_model,
    ("GET", "/v1/capabilities"): read_capabilities,
    ("GET", "/v1/pricing"): read_pricing,
    ("GET", "/v1/credits/pricing"): read_credits_pricing,
    ("GET", "/v1/limits/tiers"): read_tiers,
    ("GET", "/v1/openapi.json"): read_openapi,
    ("GET", "/v1/status"): read_status,
    ("GET", "/status"): read_status_page,
    ("GET", "/v1/health"): read_health,
    ("POST", "/v1/auth/register"): register,
    ("GET", "/v1/auth/limits"): read_limits,
    ("GET", "/v1/credits/balance"): read_balance,
    ("GET", "/v1/credits/transactions"): read_transactions,
    ("GET", "/v1/keys"): read_keys,
    ("POST", "/v1/keys"): create_a_key,
    ("DELETE", "/v1/keys/{id}"): revoke_a_key,
    ("GET", "/v1/usage"): read_usage,
    ("POST", PATH): submit_an_image_job,
    ("POST", "/v1/images/edits"): edit_an_image,
    ("GET", "/v1/jobs"): list_image_jobs,
    ("GET", "/v1/jobs/{id}"): read_an_image_job,
    ("DELETE", "/v1/jobs/{id}"): cancel_an_image_job,
}


def test_every_operation_of_the_control_plane_is_called_by_a_test() -> None:
    assert set(CALLS) == OPERATIONS


@pytest.mark.parametrize(("method", "path"), CALLS, ids=lambda part: part)
async def test_the_answers_of_an_operation_are_what_the_document_says(api: Api, method: str, path: str) -> None:
    await CALLS[method, path](api)
    described = {(method, path, int(status)) for status in PATHS[path][method.lower()]["responses"] if status.startswith("2")}
    assert api.checked >= described
