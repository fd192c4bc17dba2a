"""HEAD, OPTIONS, wrong methods, CORS and request ids are handled alike on every path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Answer, Client, both

ORIGIN = "https://app.example"
CORS = f"cors: {{origins: ['{ORIGIN}']}}\n"
RELAYED = "/v1/chat/completions"


async def ask(client: Client, line: str, more: str = "", body: str = "") -> Answer:
    """Send a request and take its answer."""
    length = f"content-length: {len(body)}\r\n" if body else ""
    client.send(f"{line} HTTP/1.1\r\nhost: a\r\n{more}{length}\r\n{body}".encode())
    return await client.answer()


async def test_head_is_get_without_the_body(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        page = await ask(client, "GET /v1/models")
        client.send(b"HEAD /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
        head = await client.head()
        assert (head.status, head.headers["content-length"]) == (200, str(len(page.body)))
        assert (await ask(client, "GET /v1/health")).json == {"status": "ok"}


@pytest.mark.parametrize("path", [RELAYED, "/v1/messages", "/v1/embeddings"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_another_method_on_a_relayed_path_is_a_405(tmp_path: Path, method: str, path: str) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        answer = await ask(client, f"{method} {path}")
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
        assert "POST" in answer.json["error"]["message"]
        assert ("request_id" in answer.json) is (path == "/v1/messages")
        assert answer.headers["x-request-id"]
        assert (await ask(client, "GET /v1/health")).status == 200
        assert not provider.received


async def test_options_names_the_allowed_methods(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        for path, allowed in ((RELAYED, "POST, OPTIONS"), ("/v1/models", "GET, HEAD, OPTIONS")):
            answer = await ask(client, f"OPTIONS {path}")
            assert (answer.status, answer.headers["allow"], answer.body) == (204, allowed, b"")
            assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await ask(client, "OPTIONS /v1/nothing")).status == 404


async def test_a_cors_preflight_of_an_allowed_origin_is_answered(tmp_path: Path) -> None:
    more = f"origin: {ORIGIN}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n"
    async with both(tmp_path, more=CORS) as (gateway, _):
        client = await gateway.client()
        for path in (RELAYED, "/v1/models"):
            answer = await ask(client, f"OPTIONS {path}", more)
            assert answer.status == 204
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert answer.headers["access-control-allow-headers"] == "authorization"
            assert ("POST" if path == RELAYED else "GET") in answer.headers["access-control-allow-methods"]
            assert "origin" in answer.headers["vary"].lower()


CASES = [
    (f"POST {RELAYED}", '{"model":"m"}', 200), (f"POST {RELAYED}", "[]", 400), (f"GET {RELAYED}", "", 405),
    ("GET /v1/models", "", 200), ("GET /v1/nothing", "", 404), ("CONNECT a:1", "", 405),
    ("POST /v1/messages", '{"model":"m"}', 400),
]  # fmt: skip


@pytest.mark.parametrize(("line", "body", "status"), CASES)
async def test_only_pages_of_an_allowed_origin_may_read_an_answer(tmp_path: Path, line: str, body: str, status: int) -> None:
    async with both(tmp_path, more=CORS) as (gateway, _):
        for origin in (ORIGIN, "https://evil.example", "https://app.example.evil.example", "null", ""):
            answer = await ask(await gateway.client(), line, f"origin: {origin}\r\n" if origin else "", body)
            assert answer.status == (status if origin in (ORIGIN, "") or line.startswith("CONNECT") else 403)
            if origin == ORIGIN:
                assert answer.headers["access-control-allow-origin"] == ORIGIN
                assert "x-request-id" in answer.headers["access-control-expose-headers"]
                assert "origin" in answer.headers["vary"].lower()
            else:
                assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(("line", "body", "status"), CASES)
async def test_a_callers_request_id_is_kept_if_it_is_safe(tmp_path: Path, line: str, body: str, status: int) -> None:
    fit = ["a", "A-z_0.9", "x" * 128]
    unfit = ["", "x" * 129, "a b", "a/b", "é", '"a"', "a,b"]
    async with both(tmp_path) as (gateway, _):
        request_ids = []
        for given in [*fit, *unfit, None]:
            more = "" if given is None else f"x-request-id: {given}\r\nx-kyma-request-id: forged\r\n"
            answer = await ask(await gateway.client(), line, more, body)
            assert answer.status == status
            request_ids.append(answer.headers["x-request-id"])
        assert request_ids[: len(fit)] == fit
        assert not {*unfit, "forged", ""} & set(request_ids[len(fit) :])
        assert len(set(request_ids)) == len(request_ids)
        assert [record["request_id"] for record in await gateway.records(len(request_ids))] == request_ids


@pytest.mark.parametrize(
    "more", ["user-agent: a\r\nuser-agent: b\r\n", "content-type: a\r\ncontent-type: b\r\n", "sec-websocket-key1: a\r\n"]
)
async def test_headers_that_the_control_plane_can_not_read_are_a_400_of_the_usual_form(tmp_path: Path, more: str) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        answer = await ask(client, "GET /v1/models", more + "x-request-id: mine\r\n")
        assert (answer.status, answer.json["error"]["code"]) == (400, "bad_http")
        assert (answer.headers["x-request-id"], answer.headers["connection"]) == ("mine", "close")
        assert await client.read_to_end() == b""
        (record,) = await gateway.records()
        assert (record["status"], record["request_id"]) == (400, "mine")


@pytest.mark.parametrize("target", ["*", "/v1/ch%61t/completions", "//v1/models", "/v1/%ff%zz", "/v1/models/%00", "ftp://a/b"])
async def test_an_odd_request_target_gets_an_error_of_the_usual_form(tmp_path: Path, target: str) -> None:
    async with both(tmp_path) as (gateway, provider):
        answer = await ask(await gateway.client(), f"POST {target}", "", "{}")
        assert answer.status in (400, 404, 405)
        assert answer.json["error"]["message"]
        assert answer.headers["x-request-id"]
        assert "use POST" not in answer.json["error"]["message"]
        assert not provider.received
        assert len(await gateway.records()) == 1
