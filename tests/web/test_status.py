"""`/v1/status` reports the availability of models and sources, and `/status` shows the same as a page."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any

import orjson
import pytest

from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind
from kyma_proxy.core.routing.status import status
from kyma_proxy.web.status_page import status_page
from tests.factories import snapshot
from tests.harness import Gateway, both, whole
from tests.web.test_openapi import response_schema, validate

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


def open_breakers(table: BreakerTable, *keys: str) -> None:
    """Let these sources fail at second 0 until their breakers open, for 10 s."""
    for key in keys:
        for _ in range(2):
            table.at(key, "chat").record_failure(
                0.0, AttemptFailure(FailureKind.CONNECT, "a", "no connection: refused"), lambda: 0.0
            )


def document(table: BreakerTable, now: float = 0.0) -> Any:
    """The document of `/v1/status`, which is as it is described."""
    made: Any = status(snapshot(TEXT), table, now)
    validate(made, response_schema("/v1/status", "get", 200))
    return made


def statuses(table: BreakerTable, now: float = 0.0) -> tuple[Any, dict[str, Any]]:
    """The overall status, and that of each model."""
    made = document(table, now)
    return made["status"], {model["id"]: model["status"] for model in made["models"]}


def test_a_model_is_available_degraded_or_unavailable_by_the_sources_that_can_answer() -> None:
    table = BreakerTable()
    assert statuses(table) == ("degraded", {"m": "available", "n": "available", "o": "degraded", "p": "unavailable"})
    open_breakers(table, "a m1")
    assert statuses(table)[1]["m"] == "degraded"
    open_breakers(table, "b m3", "b n1")
    assert statuses(table) == ("unavailable", dict.fromkeys("mnop", "unavailable"))
    assert statuses(table, 10.0)[1]["m"] == "degraded"  # a trial is allowed again, and there was none yet


def test_a_source_whose_breaker_is_open_is_unavailable_with_a_reason_and_a_retry_time() -> None:
    table = BreakerTable()
    open_breakers(table, "a m1")
    source = document(table, 4.0)["models"][0]["sources"][0]
    assert source == {
        "provider": "a", "model": "m1", "part": "pool", "key": None, "status": "unavailable", "breaker": "open",
        "reason": "no connection: refused", "retry_in_s": 6, "first_byte_ms": None, "attempts_24h": 2, "availability_24h": 0.0,
        "endpoints": [{
            "endpoint": "chat", "status": "unavailable", "breaker": "open", "reason": "no connection: refused", "retry_in_s": 6,
            "first_byte_ms": None, "attempts_24h": 2, "availability_24h": 0.0,
        }],
    }  # fmt: skip


def test_a_source_on_trial_is_unavailable_with_a_half_open_breaker_and_available_after_its_success() -> None:
    table = BreakerTable()
    open_breakers(table, "a m1")
    before_trial = document(table, 10.0)["models"][0]["sources"][0]
    trial = table.at("a m1", "chat").acquire(10.0)
    assert trial is not None
    source = document(table, 10.0)["models"][0]["sources"][0]
    assert source == before_trial
    assert (source["status"], source["breaker"], source["retry_in_s"]) == ("unavailable", "half_open", None)
    assert source["reason"] == "no connection: refused"
    trial.success(10.1)
    source = document(table, 10.1)["models"][0]["sources"][0]
    assert (source["status"], source["breaker"], source["reason"]) == ("available", "closed", None)


def test_a_source_without_its_credential_is_off_and_has_no_breaker() -> None:
    source = document(BreakerTable())["models"][0]["sources"][1]
    assert (source["status"], source["breaker"]) == ("off", None)
    assert source["reason"] == "the environment variable NOT_SET is not set"


def test_a_source_that_was_never_asked_is_available() -> None:
    source = document(BreakerTable())["models"][0]["sources"][2]
    assert (source["part"], source["status"], source["breaker"]) == ("reserve", "available", "closed")
    assert source["availability_24h"] is None


@pytest.mark.parametrize(("ago", "breaker", "is_open"), [(0.0, "open", 1), (60.0, "half_open", 0)])
async def test_the_metric_is_1_while_the_status_shows_an_open_breaker(
    tmp_path: Path, ago: float, breaker: str, is_open: int
) -> None:
    refused = AttemptFailure(FailureKind.CONNECT, "p0", "no connection: refused")
    async with both(tmp_path) as (running, _provider):
        for _ in range(2):
            running.app.breakers.at("p0 real-0", "chat").record_failure(monotonic() - ago, refused, lambda: 0.0)
        (source,) = (await fetched(running))["models"][0]["sources"]
        assert (source["breaker"], await running.metric("kyma_breaker_open")) == (breaker, is_open)


async def fetched(running: Gateway) -> Any:
    client = await running.client()
    client.send(b"GET /v1/status HTTP/1.1\r\nhost: gateway\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    return answer.json


async def test_the_counts_are_those_of_real_requests_and_attempts(tmp_path: Path) -> None:
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
        counts = [(one["provider"], one["attempts_24h"], one["availability_24h"]) for one in model["sources"]]
        assert counts == [("p0", 3, 0.666667), ("p1", 1, 1.0)]
        assert model["sources"][0]["first_byte_ms"] > 0


async def test_the_page_shows_the_sources_and_has_no_script(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("breaker", "shown"), [("open", "open"), ("half_open", "half-open"), (None, "")])
def test_the_page_escapes_names_rounds_shares_down_and_shows_the_breaker(breaker: str | None, shown: str) -> None:
    source = {
        "provider": "<b>", "model": "a&b", "part": "pool", "key": None, "status": "unavailable", "breaker": breaker,
        "reason": '"<i>"',
        "retry_in_s": 7, "first_byte_ms": 1.5, "attempts_24h": 3, "availability_24h": 0.99999,
        "endpoints": [{"endpoint": "<e>", "status": "missing", "reason": "answered 404"}],
    }  # fmt: skip
    model = {"id": "<m>", "status": "degraded", "requests_24h": 1, "availability_24h": None, "sources": [source]}
    page = status_page(orjson.dumps({"status": "degraded", "models": [model]})).decode()
    assert "<td>&lt;b&gt;</td><td>a&amp;b</td>" in page
    assert f"unavailable</span></td><td>{shown}</td>" in page
    assert "&quot;&lt;i&gt;&quot; (retry in 7 s); &lt;e&gt; is missing: answered 404" in page
    assert "<td>3, 99.99 %</td><td>1.5 ms</td>" in page
    assert "<h2>&lt;m&gt; " in page
