"""A source that fails is skipped for a while, other layers answer in its place, and the headers say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import CLOSE, RESET, SILENCE, both, chunk, event, gateway, head, providers, whole
from tests.waiting import until

BUSY = whole(b"{}", status="503 Busy")


def layered(*ports: int) -> str:
    """`m` has the first two ports as its pool and the third as its reserve; `n` is its substitute, at the fourth."""
    return configuration(
        *ports,
        pool=2,
        model="reserve: [{provider: p2, model: real-2}]",
        models="  - {id: n, pool: [{provider: p3, model: real-3}]}\n",
        more="fallbacks: {m: [n]}\naliases: {fast: m}\n",
    )


@pytest.mark.parametrize("failing", range(5))
async def test_each_layer_answers_when_those_before_it_fail(tmp_path: Path, failing: int) -> None:
    async with providers(4) as made:
        for provider in made[:failing]:
            provider.plays(BUSY)
        async with gateway(layered(*(one.port for one in made)), tmp_path) as running:
            client = await running.client()
            client.ask("fast")
            answer = await client.answer()
            record = (await running.records())[0]
            if failing == 4:
                assert (answer.status, answer.json["error"]["code"]) == (502, "provider_error")
                assert "x-kyma-fallback" not in answer.headers
                assert record["ending"] == "failed"
                return
            layer = failing
            assert answer.status == 200
            assert answer.headers.get("x-kyma-fallback") == ("true" if layer else None)
            assert answer.headers.get("x-kyma-fallback-layer") == (str(layer) if layer else None)
            assert answer.headers["x-kyma-model"] == ("n" if layer == 3 else "m")
            assert answer.headers["x-kyma-alias"] == "fast"
            assert made[failing].received[0].body.count(b'"real-%d"' % failing) == 1
            assert (record["model_requested"], record["model"]) == ("fast", "n" if layer == 3 else "m")
            assert (record["fallback_layer"], record["provider"]) == (layer, f"p{failing}")
            assert record["attempts"] == [*(f"p{at}:503" for at in range(failing)), f"p{failing}:answered"]


async def test_a_relayed_error_names_its_model_and_layer_too(tmp_path: Path) -> None:
    async with providers(4) as made:
        made[0].plays(BUSY)
        made[1].plays(whole(b'{"error":{}}', status="400 Bad"))
        async with gateway(layered(*(one.port for one in made)), tmp_path) as running:
            client = await running.client()
            client.ask("m")
            answer = await client.answer()
            assert (answer.status, answer.headers["x-kyma-fallback-layer"], answer.headers["x-kyma-model"]) == (400, "1", "m")


async def test_a_source_that_refuses_connections_is_tried_twice_and_then_skipped(tmp_path: Path, unused_tcp_port: int) -> None:
    async with providers(1) as (alive,), gateway(configuration(unused_tcp_port, alive.port), tmp_path) as running:
        client = await running.client()
        for _ in range(6):
            client.ask()
            answer = await client.answer()
            assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "1")
        attempts = [record["attempts"] for record in await running.records(6)]
        assert attempts == [["p0:connect", "p1:answered"]] * 2 + [["p1:answered"]] * 4


async def test_the_only_source_is_skipped_too_and_callers_get_retry_after(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        for _ in range(4):
            provider.plays(BUSY)
        client = await running.client()
        codes = []
        for _ in range(6):
            client.ask()
            answer = await client.answer()
            codes.append((answer.status, answer.json["error"]["code"]))
        assert codes == [(502, "provider_error")] * 4 + [(503, "no_source_available")] * 2
        assert 1 <= int(answer.headers["retry-after"]) <= 12
        assert " s after: answered 503" in answer.json["error"]["message"]
        assert (await running.records(6))[5]["attempts"] == []
        assert len(provider.received) == 4


async def test_a_source_that_was_unreachable_is_tried_again_when_no_other_is_left(tmp_path: Path) -> None:
    """So a local model server that has been restarted answers its first caller."""
    async with both(tmp_path, 2) as (running, first, second):
        for provider in (first, second):
            for _ in range(4):
                provider.plays(CLOSE)
        client = await running.client()
        for _ in range(4):
            client.ask()
            assert (await client.answer()).status == 502
        assert running.source()["retry_in_s"]
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "1")
        source = running.source()
        source = running.source()
        assert (source["retry_in_s"], source["reason"]) == (None, None)


async def test_a_request_whose_other_sources_fail_comes_back_to_a_skipped_one(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (running, first, second):
        for _ in range(4):
            first.plays(CLOSE)
        client = await running.client()
        for _ in range(4):
            client.ask()
            await client.answer()
        second.plays(CLOSE)
        second.plays(CLOSE)
        client.ask()
        answer = await client.answer()
        assert answer.status == 200
        assert (await running.records(5))[4]["attempts"][-1] == "p0:answered"


async def test_a_429_with_retry_after_skips_the_source_at_once(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (running, first, second):
        first.plays(whole(b"{}", status="429 Slow", more="retry-after: 600\r\n"))
        client = await running.client()
        for _ in range(3):
            client.ask()
            assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"
        assert (len(first.received), len(second.received)) == (1, 3)


async def test_a_caller_who_disconnects_is_no_failure_of_the_source(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        for _ in range(6):
            provider.plays(SILENCE)
            provider.received.clear()
            client = await running.client()
            client.ask()
            await until(lambda: provider.received)
            client.leave()
        await running.is_at_rest()
        client = await running.client()
        client.ask()
        assert (await client.answer()).status == 200


async def test_truncated_answers_are_failures_of_their_source(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (running, first, second):
        for number in range(6):
            first.plays(head() + chunk(event("one")), CLOSE)
            client = await running.client()
            client.ask(stream=True)
            await client.read_to_end()
            await running.records(number + 1)
        client = await running.client()
        client.ask()
        assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"
        assert (len(first.received), len(second.received)) == (6, 1)


async def test_a_model_whose_sources_are_all_off_is_answered_by_its_substitute(tmp_path: Path) -> None:
    async with providers(1) as (alive,):
        off = ProviderEntry("https://off.example/v1", api_key="'${NOT_SET}'")
        n = "  - {id: n, pool: [{provider: p1, model: real-1}]}\n"
        text = configuration(off, alive.port, pool=1, models=n, more="fallbacks: {m: [n]}\n")
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            client.ask("m")
            answer = await client.answer()
            assert (answer.headers["x-kyma-model"], answer.headers["x-kyma-fallback-layer"]) == ("n", "3")


async def test_a_warm_connection_that_has_gone_stale_is_no_failure(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        text = configuration(ProviderEntry(provider.port, warm_connections=1))
        async with gateway(text, tmp_path) as running:
            await until(lambda: running.upstreams["idle"] == 1)
            provider.plays(RESET)
            client = await running.client()
            client.ask()
            answer = await client.answer()
            assert (answer.status, answer.headers.get("x-kyma-fallback")) == (200, None)
            source = running.source()
            assert (source["attempts_24h"], source["availability_24h"]) == (1, 1.0)


async def test_a_404_of_one_source_is_not_relayed_while_another_is_skipped(tmp_path: Path, unused_tcp_port: int) -> None:
    async with providers(1) as (wrong,):
        for _ in range(4):
            wrong.plays(whole(b"{}", status="404 Not Found"))
        text = configuration(wrong.port, unused_tcp_port)
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            for _ in range(4):
                client.ask()
                assert (await client.answer()).status == 502
            assert (await running.records(4))[3]["attempts"] == ["p0:404", "p1:connect"]
