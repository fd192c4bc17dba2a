"""The control plane takes the requests that the OpenAPI document describes, and refuses those that it excludes.

Everything here is read from the document: a parameter or a member that is added to it is tried without a change of this file.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from kyma_proxy.dialect.registry import RELAYED
from kyma_proxy.web.openapi.document import openapi_page
from tests.accounts_harness import Caller
from tests.harness import Client, Provider, whole
from tests.jobs.image_gateway import FAST_TIMING, OPENAI, ImageGateway, image_gateway, submit

DOCUMENT = orjson.loads(openapi_page().body)
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}  # fmt: skip
OWN = [name for name in OPERATIONS if name[1].encode() not in RELAYED]
_emails = itertools.count()


def parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operation.get("parameters", [])
    return found


def body_schema(operation: dict[str, Any]) -> dict[str, Any] | None:
    body = operation.get("requestBody")
    json_body = body and body["content"].get("application/json")
    found: dict[str, Any] | None = json_body and json_body["schema"]
    return found


class Sent(NamedTuple):
    """A request: the parameters and the body that it has."""

    query: dict[str, str]
    headers: dict[str, str]
    path: dict[str, str]
    body: bytes | None


class Api:
    """A gateway with accounts, images and sign-up, and a caller with a key."""

    def __init__(self, images: ImageGateway, provider: Provider, caller: Caller) -> None:
        self.images = images
        self.provider = provider
        self.caller = caller
        self._job = ""

    async def usual(self, method: str, path: str) -> Sent:
        """A request with every parameter that is required and the smallest body that is described."""
        operation = OPERATIONS[method, path]
        ids = {"id": await self._id(method, path)} if "{id}" in path else {}
        schema = body_schema(operation)
        required = {} if schema is None else {name: self.value(name) for name in schema.get("required", ())}
        body = json.dumps(required).encode() if schema is not None and operation["requestBody"].get("required") else None
        return Sent({}, {}, ids, body)

    def value(self, name: str) -> Any:
        """A valid value of a required member."""
        return {"model": "pic", "prompt": "a cat", "email": f"caller-{next(_emails)}@example.com"}[name]

    async def _id(self, method: str, path: str) -> str:
        """The id of something that is there."""
        if path == "/v1/models/{id}":
            return "pic"
        if path == "/v1/keys/{id}":
            created: str = (await self.caller.ask("POST", "/v1/keys")).json["id"]
            return created
        if method != "GET" or not self._job:  # a job counts against the minute
            self._job = (await submit(self.caller)).json["id"]
        return self._job

    async def status(self, method: str, path: str, sent: Sent) -> int:
        """Send a request; its status, which must be described."""
        target = path
        for name, value in sent.path.items():
            target = target.replace(f"{{{name}}}", quote(value, safe=""))
        query = f"?{urlencode(sent.query)}" if sent.query else ""
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.headers.items())
        length = "" if sent.body is None else f"content-length: {len(sent.body)}\r\n"
        head = (
            f"{method} {target}{query} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self.caller.secret}\r\n{lines}{length}\r\n"
        )
        client: Client = await self.images.running.client()
        client.send(head.encode() + (sent.body or b""))
        answer = await client.answer()
        client.leave()
        assert str(answer.status) in OPERATIONS[method, path]["responses"], (target, query, lines, sent.body, answer.status)
        return answer.status


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    signup = ", signup: {enabled: true, credits: 0.5, per_hour: 1000}"
    timing = FAST_TIMING._replace(expires=20.0)
    async with image_gateway(tmp_path, OPENAI, signup=signup, timing=timing) as (images, provider):
        for _ in range(200):
            provider.plays(whole(b'{"created":1,"data":[{"b64_json":"aGk="}]}'))
        yield Api(images, provider, await images.caller(usd=1000.0))


ODD_TEXTS = (
    "",
    " ",
    "nothing",
    "-1",
    "0",
    "1",
    "101",
    "1.5",
    "1e3",
    "null",
    "[]",
    "9" * 30,
    "2026-02-30",
    "20260101",
    "x" * 300,
    "é\U0001f600",
)
DAYS = ("0001-01-01", "2020-02-29", "2026-01-01", "9999-12-31")
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    5,
    1.5,
    10**30,
    "",
    " ",
    "x",
    "x" * 5000,
    "\n",
    [],
    ["x"],
    {},
    {"x": 1},
    [[]],
)


def texts_for(schema: dict[str, Any]) -> Iterator[str]:
    """Odd values of a parameter, and such as are at the limits of its schema."""
    yield from ODD_TEXTS
    yield from DAYS if schema.get("format") == "date" else ()
    for name in ("minimum", "maximum", "default"):
        if name in schema:
            yield str(schema[name])


def is_described(text: str, schema: dict[str, Any]) -> bool:
    """True if the schema allows a parameter with this text."""
    if schema["type"] != "integer":
        is_day = schema.get("format") != "date" or (len(text) == 10 and text[4] == "-" and text != "2026-02-30")
        return is_day and bool(Draft202012Validator(schema).is_valid(text))
    return text.lstrip("-").isdigit() and Draft202012Validator(schema).is_valid(int(text))


@pytest.mark.parametrize(("method", "path"), OWN, ids=lambda part: part)
async def test_what_is_optional_may_be_left_out(api: Api, method: str, path: str) -> None:
    assert await api.status(method, path, await api.usual(method, path)) < 400


@pytest.mark.parametrize(
    ("method", "path"), [name for name in OPERATIONS if body_schema(OPERATIONS[name])], ids=lambda part: part
)
async def test_a_body_that_is_required_and_its_required_members_can_not_be_left_out(api: Api, method: str, path: str) -> None:
    operation = OPERATIONS[method, path]
    schema = body_schema(operation)
    assert schema is not None
    for body in (None, b""):
        status = await api.status(method, path, Sent({}, {}, {}, body))
        assert (400 <= status < 500) is operation["requestBody"]["required"]
    required = schema.get("required", [])
    for name in required:
        members = {other: api.value(other) for other in required if other != name}
        assert 400 <= await api.status(method, path, Sent({}, {}, {}, json.dumps(members).encode())) < 500
    for odd in (b"{", b"[]", b"null", b"1", b'"x"', b"\xff"):
        assert 400 <= await api.status(method, path, Sent({}, {}, {}, odd)) < 500


@pytest.mark.parametrize(("method", "path"), [name for name in OWN if body_schema(OPERATIONS[name])], ids=lambda part: part)
async def test_a_member_that_its_schema_excludes_is_refused(api: Api, method: str, path: str) -> None:
    schema = body_schema(OPERATIONS[method, path])
    assert schema is not None
    for name, member in schema["properties"].items():
        for odd in ODD_VALUES:
            members = {other: api.value(other) for other in schema.get("required", [])} | {name: odd}
            status = await api.status(method, path, Sent({}, {}, {}, json.dumps(members).encode()))
            if not Draft202012Validator(member).is_valid(odd):
                assert 400 <= status < 500, (name, odd)
            elif odd is None:
                assert status < 400, name


@pytest.mark.parametrize(("method", "path"), [name for name in OWN if parameters(OPERATIONS[name])], ids=lambda part: part)
async def test_a_parameter_with_an_odd_value_is_taken_or_refused_as_its_schema_says(api: Api, method: str, path: str) -> None:
    for parameter in parameters(OPERATIONS[method, path]):
        name, schema = parameter["name"], parameter["schema"]
        for odd in dict.fromkeys(texts_for(schema)):
            sent = await api.usual(method, path)
            if parameter["in"] == "path":
                if not odd:
                    continue  # that is another path
                status = await api.status(method, path, sent._replace(path={name: odd}))
                assert status in (400, 404), odd
            elif parameter["in"] == "header":
                if odd.isascii():
                    await api.status(method, path, sent._replace(headers={name: odd}))
            else:
                status = await api.status(method, path, sent._replace(query={name: odd}))
                if not is_described(odd, schema):
                    assert 400 <= status < 500, (name, odd)
                elif schema.get("format") == "date" or schema["type"] == "integer":
                    assert status < 400, (name, odd)


@pytest.mark.parametrize("first", DAYS)
@pytest.mark.parametrize("last", DAYS)
async def test_two_days_that_are_both_given_must_be_in_order_and_a_year_apart_at_most(api: Api, first: str, last: str) -> None:
    status = await api.status("GET", "/v1/usage", Sent({"from": first, "to": last}, {}, {}, None))
    assert status == (200 if first == last else 400)


def test_every_parameter_says_where_it_is_and_what_it_may_be() -> None:
    for operation in OPERATIONS.values():
        for parameter in parameters(operation):
            assert parameter["in"] in ("path", "query", "header")
            assert "type" in parameter["schema"]
            assert parameter.get("required", False) is (parameter["in"] == "path")
