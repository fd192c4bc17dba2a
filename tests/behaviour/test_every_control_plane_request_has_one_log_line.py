"""Every request that the control plane has begun to serve has exactly one line in the access log, however it ends."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.configurations import configuration
from tests.harness import SILENCE, Client, Gateway, both, gateway
from tests.jobs.image_gateway import OPENAI, PATH, image_gateway, submit
from tests.waiting import until

WAIT = "prefer: wait=20\r\n"


async def lines(running: Gateway, count: int) -> list[dict[str, Any]]:
    """All lines of the log, which must be so many once all callers have left and nothing is being served."""
    await until(lambda: not running.connections)
    records = await running.records(count)
    assert len(records) == count
    assert len({record["request_id"] for record in records}) == count
    return records


def request(path: str, *, name: str, method: str = "GET", more: str = "", body: str = "") -> bytes:
    length = f"content-length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nhost: a\r\nx-request-id: {name}\r\n{more}{length}\r\n{body}".encode()


async def sent(running: Gateway, data: bytes) -> Client:
    """A new caller who has sent this, which the gateway has read."""
    client = await running.client()
    client.send(data)
    await client.is_read()
    return client


async def test_a_caller_who_leaves_while_it_waits_for_a_job_is_logged_as_gone(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        running = images.running
        provider.plays(SILENCE)
        provider.plays(SILENCE)
        caller = await images.caller()
        job = (await submit(caller)).json
        credential = f"authorization: Bearer {caller.secret}\r\n"
        polls = await sent(running, request(f"/v1/jobs/{job['id']}", name="poll", more=WAIT + credential))
        body = json.dumps({"model": "pic", "prompt": "a dog"})
        submits = await sent(running, request(PATH, name="submit", method="POST", more=WAIT + credential, body=body))
        await until(lambda: len(provider.received) == 2)
        for client in (polls, submits, caller.client):
            client.leave()
        records = {record["request_id"]: record for record in await lines(running, 3)}
        assert [(records[name]["ending"], records[name]["status"]) for name in ("poll", "submit")] == [("client_gone", 499)] * 2
        assert (records["poll"]["endpoint"], records["submit"]["endpoint"]) == ("jobs/{id}", "images/generations")
        assert records["submit"]["bytes_in"] == len(body)
        assert {record["account"] for record in records.values()} == {caller.account}
        assert all(record["key"] and record["duration_ms"] > 0 for record in records.values())


@pytest.mark.parametrize("path", ["/v1/models", "/v1/openapi.json", "/nothing", "/v1/jobs/nothing"])
async def test_a_caller_who_leaves_at_any_moment_has_one_line(tmp_path: Path, path: str) -> None:
    moments = range(24)
    async with gateway(configuration(9), tmp_path) as running:
        for turns in moments:
            client = await running.client()
            client.send(request(path, name=f"r-{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            client.leave()
        endings = Counter(record["ending"] for record in await lines(running, len(moments)))
        assert endings["client_gone"] >= 1
        assert endings.keys() <= {"client_gone", "completed", "rejected"}


async def test_a_caller_who_leaves_without_having_sent_a_whole_request_has_no_line(tmp_path: Path) -> None:
    whole = request(PATH, name="r", method="POST", body="{}")
    async with gateway(configuration(9), tmp_path) as running:
        for size in (0, 10, len(whole) - 1):
            (await sent(running, whole[:size])).leave()
        (await sent(running, request("/v1/models", name="last"))).leave()
        assert (await lines(running, 1))[0]["request_id"] == "last"


async def test_a_caller_who_takes_only_a_part_of_a_response_is_logged_with_its_status(tmp_path: Path) -> None:
    async with gateway(configuration(9), tmp_path) as running:
        client = await running.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        asked = 0
        while not running.unsent_bytes:  # the buffers of both sockets are full
            client.send(request("/v1/openapi.json", name=f"r-{asked}"))
            asked += 1
            await client.is_read()
        client.leave()
        await until(lambda: not running.connections)
        records = await running.records()
        assert [record["request_id"] for record in records] == [f"r-{at}" for at in range(len(records))]
        assert [record["status"] for record in records] == [200] * len(records)
        assert {record["ending"] for record in records[:-1]} == {"completed"}


REQUESTS = {
    "a page": (request("/v1/models", name="r"), 200, "completed"),
    "a condition": (request("/v1/models", name="r", more="if-none-match: *\r\n"), 304, "completed"),
    "HEAD": (request("/v1/models", name="r", method="HEAD"), 200, "completed"),
    "OPTIONS": (request("/v1/models", name="r", method="OPTIONS"), 204, "completed"),
    "no route": (request("/nothing", name="r"), 404, "rejected"),
    "no method": (request("/v1/models", name="r", method="PATCH", body="{}"), 405, "rejected"),
    "a relayed path": (request("/v1/chat/completions", name="r"), 405, "rejected"),
    "a body that nobody reads": (request("/v1/models/m", name="r", method="GET", body="x" * 300_000), 200, "completed"),
    "a body that is too large": (request(PATH, name="r", method="POST", body="x" * 9_000_000), 413, "rejected"),
    "no JSON": (request(PATH, name="r", method="POST", body="{"), 400, "rejected"),
    "a WebSocket": (
        request("/v1/models", name="r", more="connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\n"),
        200,
        "completed",
    ),
    "what aiohttp rejects": (
        request("/v1/models", name="r", more="content-type: a/b\r\ncontent-type: a/c\r\n"),
        400,
        "rejected",
    ),
    "an odd path": (request("/v1/jobs/%ff%00", name="r"), 404, "rejected"),
    "HTTP/1.0": (b"GET /v1/models HTTP/1.0\r\nx-request-id: r\r\n\r\n", 200, "completed"),
}


@pytest.mark.parametrize(("data", "status", "ending"), REQUESTS.values(), ids=REQUESTS)
async def test_a_request_that_is_answered_has_one_line_with_its_status(
    tmp_path: Path, data: bytes, status: int, ending: str
) -> None:
    async with gateway(configuration(9), tmp_path) as running:
        client = await running.client()
        client.send(data)
        assert (await client.head()).status == status
        await running.records()
        client.leave()
        (record,) = await lines(running, 1)
        assert (record["status"], record["ending"], record["request_id"]) == (status, ending, "r")


async def test_pipelined_requests_of_both_lanes_have_a_line_each(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, _):
        client = await running.client()
        chat = '{"model":"m","messages":[]}'
        client.send(
            request("/v1/models", name="r-0")
            + request("/v1/chat/completions", name="r-1", method="POST", body=chat)
            + request("/nothing", name="r-2")
            + request("/v1/health", name="r-3")
        )
        assert [(await client.answer()).status for _ in range(4)] == [200, 200, 404, 200]
        client.leave()
        records = await lines(running, 4)
        assert [record["request_id"] for record in records] == ["r-0", "r-1", "r-2", "r-3"]


async def test_a_request_that_the_gateway_cuts_as_it_goes_down_is_drained(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        running = images.running
        provider.plays(SILENCE)
        caller = await images.caller()
        job = (await submit(caller)).json
        more = f"{WAIT}authorization: Bearer {caller.secret}\r\n"
        await sent(running, request(f"/v1/jobs/{job['id']}", name="poll", more=more))
        caller.client.leave()
        await until(lambda: running.connections == 1)
        for connection in list(running.app.listener.connections):
            connection.abort()
        (record,) = (one for one in await lines(running, 2) if one["request_id"] == "poll")
        assert (record["status"], record["ending"]) == (499, "drained")


async def test_a_response_that_fails_while_it_is_written_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    async def fail(response: web.Response, data: bytes = b"") -> None:
        raise RuntimeError("a bug")

    async with gateway(configuration(9), tmp_path) as running:
        monkeypatch.setattr(web.Response, "write_eof", fail)
        client = await sent(running, request("/v1/models", name="r"))
        await client.read_to_end()
        client.leave()
        (record,) = await lines(running, 1)
        assert (record["status"], record["ending"]) == (200, "broken")
