"""A large body is put together while it comes, so that its last piece costs no more than another; nothing of it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import OK, both

MIB = 2**20


@pytest.mark.parametrize("size", [1000, MIB - 1, MIB, MIB + 1, 5 * MIB + 7])
async def test_two_bodies_on_one_connection_arrive_whole(tmp_path: Path, size: int) -> None:
    text = "".join(chr(97 + at % 26) for at in range(997)) * (size // 997 + 1)
    body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % text[:size].encode()
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        for _ in range(2):
            provider.plays(OK)
            client.post(body)
            assert (await client.answer()).status == 200
        assert [one.body for one in provider.received] == [body.replace(b'"m"', b'"real-0"', 1)] * 2


async def test_a_body_in_small_chunks_arrives_whole(tmp_path: Path) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"abcdefg" * 1000)
    chunks = b"".join(b"2\r\n%b\r\n" % body[at : at + 2] for at in range(0, len(body) - 1, 2))
    rest = body[len(body) - len(body) % 2 :]
    last = b"1\r\n%b\r\n" % rest if rest else b""
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n")
        client.send(chunks + last + b"0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert provider.received[0].body == body.replace(b'"m"', b'"real-0"', 1)
