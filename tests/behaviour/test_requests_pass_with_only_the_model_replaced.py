"""The provider gets the caller's bytes with the model replaced, and those headers that the rules let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import OK, both, chunk

BODY = (
    b'{ "messages" : [{"role":"user","content":"caf\\u00e9 \xf0\x9f\x98\x80"}],\n'
    b' "model":"m" , "top_p":1.0e0, "x":{"model":"m"} }'
)
SENT = BODY.replace(b'"model":"m" ,', b'"model":"real-0" ,')


async def test_the_body_arrives_with_the_model_replaced_and_every_other_byte_the_same(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.post(BODY)
        assert (await client.answer()).status == 200
        assert provider.received[0].body == SENT


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_a_request_may_arrive_in_pieces_of_any_size(tmp_path: Path, size: int) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
        for at in range(0, len(request), size):
            client.send(request[at : at + size])
            await client.writer.drain()
        assert (await client.answer()).status == 200
        assert provider.received[0].body == SENT


async def test_a_chunked_request_is_sent_on_with_a_length(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        client.send(chunk(BODY[:10]) + chunk(BODY[10:]) + b"0\r\nTrailer: ignored\r\n\r\n")
        assert (await client.answer()).status == 200
        assert provider.received[0].body == SENT
        assert provider.received[0].headers["content-length"] == str(len(SENT))
        assert "trailer" not in provider.received[0].headers


async def test_a_large_body_arrives_unchanged(tmp_path: Path) -> None:
    body = b'{"messages":"' + b"x" * 3_000_000 + b'","model":"m"}'
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.post(body)
        assert (await client.answer()).status == 200
        assert provider.received[0].body == body.replace(b'"model":"m"', b'"model":"real-0"')


async def test_headers_reach_the_provider_and_the_callers_credentials_do_not(tmp_path: Path) -> None:
    more = (
        "authorization: Bearer ky-caller\r\nx-api-key: ky-caller\r\ncookie: a=b\r\nanthropic-beta: x\r\nopenai-beta: y\r\n"
        "x-stainless-lang: python\r\nidempotency-key: k\r\ntraceparent: 00-1\r\nx-forwarded-for: 1.2.3.4\r\n"
        "connection: keep-alive, x-private\r\nx-private: 1\r\naccept-encoding: gzip\r\n"
    )
    async with both(tmp_path) as (gateway, provider):
        provider.plays(OK)
        client = await gateway.client()
        client.post(BODY, more=more)
        await client.answer()
        headers = provider.received[0].headers
    assert headers["authorization"] == "Bearer provider-key-0"
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == f"127.0.0.1:{provider.port}"
    passed = {
        "anthropic-beta": "x",
        "openai-beta": "y",
        "x-stainless-lang": "python",
        "idempotency-key": "k",
        "traceparent": "00-1",
    }
    assert {name: headers.get(name) for name in passed} == passed
    assert not {"x-api-key", "cookie", "x-forwarded-for", "x-private", "connection"} & set(headers)
    assert "ky-caller" not in str(headers)


async def test_the_query_reaches_the_provider(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.post(BODY, path="/v1/chat/completions?beta=true&x=%20")
        await client.answer()
        assert provider.received[0].line == "POST /v1/chat/completions?beta=true&x=%20 HTTP/1.1"
