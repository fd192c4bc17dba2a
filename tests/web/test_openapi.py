"""The description of the API is valid OpenAPI, complete, and true of the documents that the gateway serves."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator

from kyma_proxy.core.catalogue import Catalogue, Page
from kyma_proxy.core.jobs.job import Job, JobState, Picture
from kyma_proxy.core.routing.breaker import BreakerTable
from kyma_proxy.dialect.registry import DIALECTS, RELAYED
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.telemetry.record import LOGGED_FIELDS
from kyma_proxy.web.application import PublicPages, application
from kyma_proxy.web.image_pages import ImagePages
from kyma_proxy.web.job_documents import images_document, job_document, jobs_document
from kyma_proxy.web.openapi.document import openapi_page
from tests.factories import snapshot

DOCUMENT = msgspec.json.decode(openapi_page().body)
PATHS = DOCUMENT["paths"]
CATALOGUE = Catalogue(snapshot(), LOGGED_FIELDS, RELAYED.values())
PAGES = {
    "/v1/models": [CATALOGUE.models],
    "/v1/models/{id}": list(CATALOGUE.model.values()),
    "/v1/capabilities": [CATALOGUE.capabilities],
    "/v1/pricing": [CATALOGUE.pricing],
    "/v1/credits/pricing": [CATALOGUE.pricing],
    "/v1/limits/tiers": [CATALOGUE.tiers],
    "/v1/openapi.json": [openapi_page()],
}


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


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_relayed_path_and_every_route_is_described_and_nothing_else_is() -> None:
    images = ImagePages(snapshot, None, None, wall=lambda: 0.0)  # type: ignore[arg-type]  # nobody calls
    app = application(PublicPages(snapshot, lambda: False, BreakerTable(), lambda: 0.0), images, None)
    routes = {(resource.canonical, route.method.lower()) for resource in app.router.resources() for route in resource}
    served = {(path, method) for path, method in routes if method != "head"}
    served |= {(path.decode(), "post") for path in RELAYED}
    assert {(path, method) for path, methods in PATHS.items() for method in methods} == served


@pytest.mark.parametrize(("path", "page"), [(path, page) for path, pages in PAGES.items() for page in pages])
def test_every_page_is_what_its_schema_says(path: str, page: Page) -> None:
    validate(msgspec.json.decode(page.body), response_schema(path, "get", 200))


def test_every_page_has_a_schema_that_allows_no_member_to_be_missing_or_added() -> None:
    for name in ("Model", "Models", "Pricing", "Tiers", "Capabilities", "Health"):
        for schema in objects(DOCUMENT["components"]["schemas"][name]):
            if "properties" in schema:
                assert schema["additionalProperties"] is False
                assert schema["required"] == list(schema["properties"])  # type: ignore[call-overload]


@pytest.mark.parametrize("state", JobState)
def test_an_image_job_is_what_its_schema_says_in_every_state(state: JobState) -> None:
    job = Job("job_1", account=None, model="picture", n=2, price=54_000_000, created=1_750_000_000.9)
    job.state = state
    if state is JobState.SUCCEEDED:
        job.pictures = (Picture(url="https://a.example/1.png"), Picture(b64_json=b'"aGk="'))
        images = msgspec.json.decode(msgspec.json.encode(images_document(job)))
        validate(images, response_schema("/v1/images/generations", "post", 200))
    elif job.has_ended:
        job.failure = GatewayError(Kind.JOB_LOST, "Words.")
    told, listed = (msgspec.json.decode(msgspec.json.encode(one)) for one in (job_document(job), jobs_document([job] * 3, 2)))
    for path, method, status in (
        ("/v1/images/generations", "post", 202), ("/v1/images/generations", "post", 200), ("/v1/jobs/{id}", "get", 200),
        ("/v1/jobs/{id}", "delete", 200),
    ):  # fmt: skip
        validate(told, response_schema(path, method, status))
    validate(listed, response_schema("/v1/jobs", "get", 200))


@pytest.mark.parametrize("status", [200, 503])
def test_health_is_described_while_serving_and_while_draining(status: int) -> None:
    for word in ("ok", "draining"):
        validate({"status": word}, response_schema("/v1/health", "get", status))


@pytest.mark.parametrize("kind", Kind)
def test_every_error_of_a_relayed_endpoint_is_described_in_its_dialect(kind: Kind) -> None:
    for path, endpoint in RELAYED.items():
        body = DIALECTS[endpoint.dialect].error_body(GatewayError(kind, "Words."), "request-1")
        validate(msgspec.json.decode(body), response_schema(path.decode(), "post", kind.status))
        assert kind.code in PATHS[path.decode()]["post"]["responses"][str(kind.status)]["description"]


def test_a_request_is_an_open_object_that_needs_only_a_model() -> None:
    for path in RELAYED:
        schema = PATHS[path.decode()]["post"]["requestBody"]["content"]["application/json"]["schema"]
        validate({"model": "small", "messages": [], "unheard_of": {"at": "all"}}, schema)
        validator = Draft202012Validator(schema)
        assert not any(map(validator.is_valid, ({}, {"model": ""}, {"model": 1}, {"model": "x" * 257}, [])))


def test_the_members_that_the_gateway_reads_are_described_where_it_reads_them() -> None:
    for path, endpoint in RELAYED.items():
        operation = PATHS[path.decode()]["post"]
        members = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert ("max_tokens" in members) is endpoint.takes_max_tokens
        assert ("stream" in members) is ("text/event-stream" in operation["responses"]["200"]["content"])
        assert operation["externalDocs"]["url"].startswith("https://")


def test_both_credentials_are_known_and_only_accounts_ask_for_one() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["x-api-key"]["in"], schemes["x-api-key"]["name"]) == ("header", "x-api-key")
    assert {} in DOCUMENT["security"]
    assert all(PATHS[path]["get"]["security"] == [] for path in (*PAGES, "/v1/health"))


def test_every_operation_has_a_name_of_its_own_fit_for_generated_code() -> None:
    names = [operation["operationId"] for methods in PATHS.values() for operation in methods.values()]
    assert len(set(names)) == len(names) == 28
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)
