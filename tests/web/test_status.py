"""`/v1/status` says how models and sources fare, from real traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kyma_proxy.core.routing.breaker import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.status import status
from kyma_proxy.web.status_page import status_page
from tests.factories import snapshot
from tests.harness import Gateway, both, whole

TEXT = """\
providers:
  - {name: a, base_url: http://a.example, dialect: openai}
  - {name: b, base_url: http://b.example, dialect: openai}
  - {name: off, base_url: http://off.example, dialect: openai, api_key: "${NOT_SET}"}
models:
  - {id: m, pool: [{provider: a, model: m1}, {provider: off, model: m2}], reserve: [{provider: b, model: m3}]}
  - {id: n, pool: [{provider: b, model: n1}]}
  - {id: o, pool: [{provider: off, model: o1}]}
  - {id: p, pool: [{provider: off, model: o1}]}
fallbacks: {o: [n]}
"""


def rest(table: BreakerTable, *keys: str) -> None:
    for key in keys:
        for _ in range(2):
            table.of(key).record_failure(
                0.0, AttemptFailure(FailureKind.CONNECT, "a", "no connection: refused"), lambda: 0.0, is_trial=False
            )


def words(table: BreakerTable, now: float = 0.0) -> tuple[Any, dict[str, Any]]:
    document: Any = status(snapshot(TEXT), table, now)
    return document["status"], {model["id"]: model["status"] for model in document["models"]}


def test_a_model_is_as_well_as_who_can_answer_for_it() -> None:
    table = BreakerTable()
    assert words(table) == ("degraded", {"m": "available", "n": "available", "o": "degraded", "p": "unavailable"})
    rest(table, "a m1")
    assert words(table)[1]["m"] == "degraded"
    rest(table, "b m3", "b n1")
    assert words(table) == ("unavailable", dict.fromkeys("mnop", "unavailable"))
    assert words(table, 10.0)[1]["m"] == "degraded"  # it may be tried again, and has not been yet


def test_a_source_says_why_it_is_not_asked_and_for_how_long() -> None:
    table = BreakerTable()
    rest(table, "a m1")
    document: Any = status(snapshot(TEXT), table, 4.0)
    resting, off, reserve = document["models"][0]["sources"]
    assert resting == {
        "provider": "a", "model": "m1", "part": "pool", "status": "resting", "reason": "no connection: refused",
        "retry_in_s": 6, "first_byte_ms": None, "attempts_24h": 2, "availability_24h": 0.0,
    }  # fmt: skip
    assert (off["status"], off["reason"]) == ("off", "the environment variable NOT_SET is not set")
    assert (reserve["part"], reserve["status"], reserve["availability_24h"]) == ("reserve", "on", None)


async def fetched(running: Gateway) -> Any:
    client = await running.client()
    client.send(b"GET /v1/status HTTP/1.1\r\nhost: gateway\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    return answer.json


async def test_it_is_made_of_real_traffic(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (running, first, _second):
        client = await running.client()
        for script in ((), (whole(b"{}", status="500 No"),), (whole(b"{}", status="400 Bad"),)):
            if script:
                first.plays(*script)
            client.ask()
            await client.answer()
        await running.records(3)
        model = (await fetched(running))["models"][0]
        assert (model["id"], model["requests_24h"], model["availability_24h"]) == ("m", 3, 1.0)
        seen = [(one["provider"], one["attempts_24h"], one["availability_24h"]) for one in model["sources"]]
        assert seen == [("p0", 3, 0.666667), ("p1", 1, 1.0)]
        assert model["sources"][0]["first_byte_ms"] > 0


async def test_the_page_says_the_same_to_people(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        provider.plays(whole(b"{}", status="503 <Busy>"))
        client = await running.client()
        client.ask()
        await client.answer()
        client.send(b"GET /status HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        page = answer.body.decode()
        assert "<td>p0</td><td>real-0</td><td>pool</td>" in page
        assert "<td>1, 0 %</td>" in page
        assert "<script" not in page


def test_the_page_shows_names_as_they_are_written_and_rounds_down() -> None:
    source = {
        "provider": "<b>", "model": "a&b", "part": "pool", "status": "resting", "reason": '"<i>"', "retry_in_s": 7,
        "first_byte_ms": 1.5, "attempts_24h": 3, "availability_24h": 0.99999,
    }  # fmt: skip
    model = {"id": "<m>", "status": "degraded", "requests_24h": 1, "availability_24h": None, "sources": [source]}
    page = status_page(msgspec.json.encode({"status": "degraded", "models": [model]})).decode()
    assert "<td>&lt;b&gt;</td><td>a&amp;b</td>" in page
    assert "&quot;&lt;i&gt;&quot; (asked again in 7 s)" in page
    assert "<td>3, 99.99 %</td><td>1.5 ms</td>" in page
    assert "<h2>&lt;m&gt; " in page
