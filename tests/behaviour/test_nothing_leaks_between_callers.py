"""Nothing of one caller's requests and answers reaches another caller."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path

from tests.harness import OK, SILENCE, both, chunk, event, head, whole
from tests.waiting import until

LARGE = whole(b'{"choices":[{}],"a":"' + b"x" * 200_000 + b'"}')


async def test_a_caller_who_does_not_read_leaves_no_paused_connection_in_the_pool(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        for _ in range(60):
            provider.plays(LARGE)
        provider.plays(OK)
        slow = await gateway.client()
        for _ in range(61):
            slow.ask()
        await until(lambda: gateway.unsent_bytes)
        other = await gateway.client()
        for _ in range(3):
            other.ask()
            assert (await other.answer()).status == 200
        for _ in range(60):
            assert (await slow.answer()).status == 200


async def test_pipelined_requests_wait_until_the_answer_before_them_has_been_read(tmp_path: Path) -> None:
    async with both(tmp_path, more="limits: {write_timeout: 300ms}\n") as (gateway, provider):
        for _ in range(40):
            provider.plays(LARGE)
        client = await gateway.client()
        for _ in range(40):
            client.ask()
        await until(lambda: not gateway.connections)  # it read nothing, so it is gone
        assert len(provider.received) < 40


async def test_an_impossible_usage_is_not_counted(tmp_path: Path) -> None:
    body = b'{"choices":[],"usage":{"prompt_tokens":' + b"9" * 400 + b',"completion_tokens":-5}}'
    async with both(tmp_path) as (gateway, provider):
        provider.plays(whole(body))
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).body == body
        record = (await gateway.records())[0]
        assert (record["prompt_tokens"], record["usage_source"], record["cost_usd"]) == (None, "none", None)


async def test_a_request_whose_answer_has_begun_is_not_sent_again(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.ask()
        await client.answer()
        provider.plays(head(), "close")
        client.ask(stream=True)
        assert (await client.answer()).status == 502
        assert len(provider.received) == 2


async def test_a_failure_after_the_total_timeout_leads_to_no_other_source(tmp_path: Path) -> None:
    timeouts = "{connect: 2s, first_byte: 10s, idle: 10s, total: 200ms}"
    async with both(tmp_path, 2, timeouts=timeouts) as (gateway, first, second):
        gate = asyncio.Event()
        first.plays(gate, whole(b"{}", status="500 Late"))
        client = await gateway.client()
        client.ask()
        assert (await client.answer()).status == 504
        assert second.received == []


async def test_pipelined_upgrades_are_rejected_without_recursion(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _provider):
        client = await gateway.client()
        client.send(b"GET /v1/health HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n" * 2000)
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 400


async def test_an_unknown_model_is_rejected_while_another_caller_streams(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, provider):
        provider.plays(head() + chunk(event("one")), SILENCE)
        streaming = await gateway.client()
        streaming.ask(stream=True)
        await streaming.head()
        client = await gateway.client()
        client.ask("x" * 200)
        assert json.loads((await client.answer()).body)["error"]["code"] == "model_not_found"
        provider.plays(OK)
        client.ask()
        assert (await client.answer()).status == 200


def is_callers_connection(value: object) -> bool:
    return isinstance(value, asyncio.Protocol) and type(value).__module__.startswith("kyma_proxy.net.downstream")


async def test_a_closed_connection_is_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _provider):
        gc.collect()
        gc.disable()
        try:
            for path in ("/v1/chat/completions", "/v1/embeddings"):
                client = await gateway.client()
                client.post(b'{"model":"m"}', path=path, more="connection: close\r\n")
                assert (await client.answer()).status == 200
                await client.read_to_end()
            await until(lambda: not gateway.connections)
            await gateway.is_at_rest()
            await until(lambda: not any(map(is_callers_connection, gc.get_objects())))
        finally:
            gc.enable()
