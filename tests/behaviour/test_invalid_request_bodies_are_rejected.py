"""A body that can't be routed is answered with an error in the caller's dialect, and its connection stays open."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import ANSWER, MESSAGE, both

DEEP = 100_000
PATHS = ["/v1/chat/completions", "/v1/messages"]


def nested(levels: int) -> bytes:
    """A request with a member that is nested this deeply."""
    return b'{"model":"m","x":' + b"[" * levels + b"]" * levels + b"}"


BAD = [
    pytest.param(b"", 400, "invalid_json", id="empty"),
    pytest.param(b" \r\n", 400, "invalid_json", id="space"),
    pytest.param(b"model=m", 400, "invalid_json", id="no-json"),
    pytest.param(b'{"model":"m"', 400, "invalid_json", id="unfinished"),
    pytest.param(b'{"model":"m"}{}', 400, "invalid_json", id="two-objects"),
    pytest.param(b'{"model":"m",}', 400, "invalid_json", id="trailing-comma"),
    pytest.param(b"{'model':'m'}", 400, "invalid_json", id="single-quotes"),
    pytest.param(b'\xef\xbb\xbf{"model":"m"}', 400, "invalid_json", id="byte-order-mark"),
    pytest.param(b'{"model":"\xff"}', 400, "invalid_json", id="model-not-utf-8"),
    pytest.param('{"model":"m"}'.encode("utf-16"), 400, "invalid_json", id="utf-16"),
    pytest.param(b'{"model":"m","x":"\\ud83d"}', 400, "invalid_json", id="lone-surrogate"),
    pytest.param(b'{"model":"m","x":"a\nb"}', 400, "invalid_json", id="bare-newline-in-a-string"),
    pytest.param(b'{"model":"m","x":NaN}', 400, "invalid_json", id="nan"),
    pytest.param(nested(DEEP), 400, "invalid_json", id="very-deep"),
    pytest.param(b"[" * DEEP, 400, "invalid_request", id="very-deep-array"),
    pytest.param(b'{"a":' * DEEP, 400, "invalid_json", id="very-deep-objects"),
    pytest.param(b'{"model":"m","model":"m"}', 400, "invalid_json", id="model-twice"),
    pytest.param(b'{"model":"m","x":{"a":1},"mod\\u0065l":"other"}', 400, "invalid_json", id="model-twice-in-disguise"),
    pytest.param(b'[{"model":"m"}]', 400, "invalid_request", id="array"),
    pytest.param(b'"m"', 400, "invalid_request", id="string"),
    pytest.param(b"null", 400, "invalid_request", id="null"),
    pytest.param(b"{}", 400, "invalid_request", id="no-model"),
    pytest.param(b'{"x":{"model":"m"}}', 400, "invalid_request", id="model-at-the-wrong-place"),
    pytest.param(b'{"model":7}', 400, "invalid_request", id="number-as-model"),
    pytest.param(b'{"model":null}', 400, "invalid_request", id="null-as-model"),
    pytest.param(b'{"model":["m"]}', 400, "invalid_request", id="array-as-model"),
    pytest.param(b'{"model":""}', 400, "invalid_request", id="empty-model"),
    pytest.param(b'{"model":"' + b"m" * 257 + b'"}', 400, "invalid_request", id="long-model"),
    pytest.param(b'{"model":"mm"}', 404, "model_not_found", id="unknown-model"),
    pytest.param(b'{"model":"m\\u0000\\r\\nx: y"}', 404, "model_not_found", id="controls-in-the-model"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("body", "status", "code"), BAD)
async def test_an_invalid_body_is_rejected_and_the_next_request_on_its_connection_is_served(
    tmp_path: Path, body: bytes, status: int, code: str, path: str
) -> None:
    dialect = "anthropic" if path == "/v1/messages" else "openai"
    async with both(tmp_path, dialect=dialect) as (gateway, provider):
        client = await gateway.client()
        client.post(body, path=path, more="x-request-id: mine-1\r\n")
        answer = await client.answer()
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"] == "mine-1"
        assert "connection" not in answer.headers
        if dialect == "openai":
            assert answer.json["error"]["code"] == code
            assert answer.json["error"]["type"] == "invalid_request_error"
        else:
            kind = "not_found_error" if status == 404 else "invalid_request_error"
            assert answer.json["type"] == "error"
            assert answer.json["error"]["type"] == kind
            assert answer.json["request_id"] == "mine-1"
        assert not provider.received

        client.post(b'{"model":"m"}', path=path)
        assert (await client.answer()).body == (MESSAGE if path == "/v1/messages" else ANSWER)
        first, second = await gateway.records(2)
    assert (first["status"], first["ending"], first["attempts"], first["provider"]) == (status, "rejected", [], None)
    assert (first["request_id"], first["dialect"], first["bytes_in"]) == ("mine-1", dialect, len(body))
    assert second["ending"] == "completed"
    assert len(provider.received) == 1


async def test_an_invalid_body_is_not_quoted_in_the_answer(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        for body in (b'{"model":"m","messages":"my secret"', b'{"messages":"my secret"}', b'{"model":{"a":"my secret"}}'):
            client.post(body)
            answer = await client.answer()
            assert answer.status == 400
            assert b"secret" not in answer.body


async def test_a_body_of_200_levels_is_relayed(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.post(nested(200))
        assert (await client.answer()).status == 200
        assert provider.received[0].body == nested(200).replace(b'"m"', b'"real-0"')


@pytest.mark.parametrize(("model", "closest"), [("gpt-4o-mimi", "gpt-4o-mini"), ("Fast", "fast"), ("vendor/m2", "vendor/m")])
async def test_the_error_about_an_unknown_model_names_the_closest(tmp_path: Path, model: str, closest: str) -> None:
    pool = "pool: [{provider: p0, model: real}]"
    more = f"  - {{id: gpt-4o-mini, {pool}}}\n  - {{id: vendor/m, {pool}}}\naliases: {{fast: m}}\n"
    async with both(tmp_path, more=more) as (gateway, _):
        client = await gateway.client()
        client.ask(model)
        answer = await client.answer()
        assert answer.status == 404
        assert answer.json["error"]["param"] == "model"
        assert f"There is no model {model}; did you mean {closest}?" in answer.json["error"]["message"]


async def test_pipelined_invalid_bodies_are_answered_one_by_one(tmp_path: Path) -> None:
    count = 20
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        one = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-request-id: %d\r\ncontent-length: 2\r\n\r\n{}"
        client.send(b"".join(one % at for at in range(count)))
        for at in range(count):
            answer = await client.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (400, str(at))
        assert [record["request_id"] for record in await gateway.records(count)] == [str(at) for at in range(count)]
        assert not provider.received
