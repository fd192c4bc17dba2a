"""Whoever can answer does: pool, reserve, substitute; who is known to be down is not asked; headers tell the truth."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.harness import CLOSE, RESET, STREAM, both, chunk, configuration, event, gateway, head, providers, until, whole

BUSY = whole(b"{}", status="503 Busy")


def layered(*ports: int, policy: str = "priority") -> str:
    """`m` has the first two ports as its pool and the third as its reserve; `n` stands in for it with the fourth."""
    made = "".join(
        f"  - {{name: p{at}, base_url: 'http://127.0.0.1:{port}/v1', dialect: openai, warm_connections: 0}}\n"
        for at, port in enumerate(ports)
    )
    return (
        f"defaults: {{max_tokens: null, policy: {policy}}}\nproviders:\n{made}models:\n"
        "  - {id: m, pool: [{provider: p0, model: r0}, {provider: p1, model: r1}], reserve: [{provider: p2, model: r2}]}\n"
        "  - {id: n, pool: [{provider: p3, model: r3}]}\n"
        "fallbacks: {m: [n]}\naliases: {fast: m}\n"
    )


@pytest.mark.parametrize("failing", range(5))
async def test_each_layer_answers_when_those_before_it_can_not(tmp_path: Path, failing: int) -> None:
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
            assert made[failing].received[0].body.count(b'"r%d"' % failing) == 1
            assert (record["model_requested"], record["model"]) == ("fast", "n" if layer == 3 else "m")
            assert (record["fallback_layer"], record["provider"]) == (layer, f"p{failing}")
            assert record["attempts"] == [*(f"p{at}:503" for at in range(failing)), f"p{failing}:answered"]


async def test_an_error_that_is_relayed_says_too_who_gave_it(tmp_path: Path) -> None:
    async with providers(4) as made:
        made[0].plays(BUSY)
        made[1].plays(whole(b'{"error":{}}', status="400 Bad"))
        async with gateway(layered(*(one.port for one in made)), tmp_path) as running:
            client = await running.client()
            client.ask("m")
            answer = await client.answer()
            assert (answer.status, answer.headers["x-kyma-fallback-layer"], answer.headers["x-kyma-model"]) == (400, "1", "m")


async def test_a_source_that_is_down_is_asked_twice_and_then_left_alone(tmp_path: Path, unused_tcp_port: int) -> None:
    async with providers(1) as (alive,), gateway(configuration(unused_tcp_port, alive.port), tmp_path) as running:
        client = await running.client()
        for _ in range(6):
            client.ask()
            answer = await client.answer()
            assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "1")
        attempts = [record["attempts"] for record in await running.records(6)]
        assert attempts == [["p0:connect", "p1:answered"]] * 2 + [["p1:answered"]] * 4


async def test_a_lone_source_that_fails_is_left_alone_too_and_callers_are_told_when_to_come_back(tmp_path: Path) -> None:
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
        assert "is skipped for" in answer.json["error"]["message"]
        assert (await running.records(6))[5]["attempts"] == []
        assert len(provider.received) == 4


async def test_where_nobody_else_is_left_a_source_at_which_nobody_was_is_asked_all_the_same(tmp_path: Path) -> None:
    """A local model server that is started again answers its first caller, whatever is remembered of it."""
    async with both(tmp_path, 2) as (running, first, second):
        for provider in (first, second):
            for _ in range(4):
                provider.plays(CLOSE)
        client = await running.client()
        for _ in range(4):
            client.ask()
            assert (await client.answer()).status == 502
        assert not running.app.breakers.of("p0 real-0").allows(0.0)
        client.ask()
        answer = await client.answer()
        assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "1")
        assert running.app.breakers.of("p0 real-0").state == "closed"


async def test_a_request_whose_plan_left_a_resting_source_out_still_finds_it(tmp_path: Path) -> None:
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


async def test_a_limit_with_a_hint_keeps_callers_away_until_it_is_over(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (running, first, second):
        first.plays(whole(b"{}", status="429 Slow", more="retry-after: 600\r\n"))
        client = await running.client()
        for _ in range(3):
            client.ask()
            assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"
        assert (len(first.received), len(second.received)) == (1, 3)


async def test_a_caller_who_leaves_says_nothing_against_a_source(tmp_path: Path) -> None:
    async with both(tmp_path) as (running, provider):
        for number in range(6):
            provider.plays(asyncio.Event())
            client = await running.client()
            client.ask()
            await until(lambda number=number: len(provider.received) == number + 1)
            client.leave()
        await running.is_at_rest()
        client = await running.client()
        client.ask()
        assert (await client.answer()).status == 200


async def test_answers_that_break_in_the_middle_count_against_their_source(tmp_path: Path) -> None:
    async with both(tmp_path, 2) as (running, first, second):
        for number in range(6):
            first.plays(head() + chunk(event("one")), CLOSE)
            client = await running.client()
            client.ask(stream=True)
            await client.rest()
            await running.records(number + 1)
        client = await running.client()
        client.ask()
        assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"
        assert (len(first.received), len(second.received)) == (6, 1)


async def test_a_model_whose_own_sources_are_all_off_is_answered_by_its_substitute(tmp_path: Path) -> None:
    async with providers(1) as (alive,):
        text = (
            "providers:\n  - {name: off, base_url: https://off.example/v1, dialect: openai, api_key: '${NOT_SET}'}\n"
            f"  - {{name: on, base_url: 'http://127.0.0.1:{alive.port}/v1', dialect: openai}}\n"
            "models:\n  - {id: m, pool: [{provider: off, model: r}]}\n  - {id: n, pool: [{provider: on, model: r}]}\n"
            "fallbacks: {m: [n]}\n"
        )
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            client.ask("m")
            answer = await client.answer()
            assert (answer.headers["x-kyma-model"], answer.headers["x-kyma-fallback-layer"]) == ("n", "3")


# ---- hedging


async def test_a_slow_source_is_not_waited_for_and_is_let_go_at_once(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="50ms") as (running, slow, fast):
        slow.plays(asyncio.Event())
        fast.plays(STREAM)
        client = await running.client()
        client.ask(stream=True)
        answer = await client.answer()
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert answer.headers["x-kyma-fallback-layer"] == "1"
        await until(lambda: slow.open == 0)
        record = (await running.records())[0]
        assert record["attempts"] == ["p0:overtaken", "p1:answered"]
        assert record["ending"] == "completed"


async def test_a_slow_connect_is_raced_like_a_slow_answer(tmp_path: Path, silent_port: int) -> None:
    async with providers(1) as (fast,):
        text = configuration(silent_port, fast.port, timeouts="{connect: 30s}", hedge_after="50ms")
        async with gateway(text, tmp_path) as running:
            client = await running.client()
            client.ask()
            assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"
            assert (await running.records())[0]["attempts"] == ["p0:overtaken", "p1:answered"]
            await running.is_at_rest()


async def test_an_answer_does_not_wait_for_its_rivals_connection(tmp_path: Path, silent_port: int) -> None:
    go = asyncio.Event()
    async with providers(1) as (first,):
        text = configuration(first.port, silent_port, timeouts="{connect: 30s}", hedge_after="20ms")
        async with gateway(text, tmp_path) as running:
            first.plays(go, STREAM)
            client = await running.client()
            client.ask(stream=True)
            await until(lambda: any(len(one.exchange.attempts) == 2 for one in running.app.gateway.live))
            go.set()
            assert (await client.answer()).body.endswith(b"data: [DONE]\n\n")
            assert (await running.records())[0]["attempts"] == ["p0:answered", "p1:abandoned"]
            await running.is_at_rest()


async def test_who_is_overtaken_again_and_again_rests(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="20ms") as (running, hung, _fast):
        client = await running.client()
        for _ in range(4):
            hung.plays(asyncio.Event())
            client.ask()
            assert (await client.answer()).status == 200
        client.ask()
        await client.answer()
        assert (await running.records(5))[4]["attempts"] == ["p1:answered"]


async def test_who_begins_in_time_is_not_raced(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with both(tmp_path, 2, hedge_after="50ms") as (running, first, second):
        first.plays(head() + chunk(event("one")), more, chunk(event("two")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        client = await running.client()
        client.ask(stream=True)
        await client.head()
        assert await client.chunk() == event("one")
        loop = asyncio.get_running_loop()
        over = loop.time() + 0.1
        await until(lambda: loop.time() > over)  # the delay has passed, and nothing has happened
        more.set()
        while await client.chunk():
            pass
        assert second.received == []


async def test_the_first_may_still_win_the_race(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with both(tmp_path, 2, hedge_after="50ms") as (running, first, second):
        first.plays(go, STREAM)
        second.plays(asyncio.Event())
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: second.received)
        go.set()
        answer = await client.answer()
        assert "x-kyma-fallback" not in answer.headers
        await until(lambda: second.open == 0)
        assert (await running.records())[0]["attempts"] == ["p0:answered", "p1:abandoned"]


@pytest.mark.parametrize("loser", [0, 1])
async def test_when_one_of_two_fails_the_other_is_waited_for(tmp_path: Path, loser: int) -> None:
    go, fail = asyncio.Event(), asyncio.Event()
    async with both(tmp_path, 2, hedge_after="50ms") as (running, *made):
        made[loser].plays(fail, BUSY)
        made[1 - loser].plays(go, STREAM)
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: made[1].received)
        fail.set()
        await until(lambda: running.app.breakers.of(f"p{loser} real-{loser}").last is not None)
        go.set()
        assert (await client.answer()).body.endswith(b"data: [DONE]\n\n")
        words = ["503", "answered"] if loser == 0 else ["answered", "503"]
        assert (await running.records())[0]["attempts"] == [f"p{at}:{word}" for at, word in enumerate(words)]


@pytest.mark.parametrize("ends", ["leave", "drain"])
async def test_the_winner_of_a_race_whose_last_starter_failed_hears_of_the_caller(tmp_path: Path, ends: str) -> None:
    go, fail = asyncio.Event(), asyncio.Event()
    async with both(tmp_path, 2, hedge_after="20ms") as (running, first, second):
        first.plays(go, head() + chunk(event("one")), asyncio.Event())
        second.plays(fail, BUSY)
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: second.received)
        fail.set()
        await until(lambda: running.app.breakers.of("p1 real-1").last is not None)
        go.set()
        await client.head()
        assert await client.chunk() == event("one")
        if ends == "leave":
            client.leave()
        else:
            running.app.gateway.drain()
            assert b'"error"' in await client.rest()
        await until(lambda: first.open == 0)
        record = (await running.records())[0]
        assert record["ending"] == {"leave": "client_gone", "drain": "drained"}[ends]
        assert record["attempts"] == ["p0:answered", "p1:503"]


async def test_a_drain_ends_both_sides_of_a_race_and_tells_the_caller(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="20ms") as (running, first, second):
        first.plays(asyncio.Event())
        second.plays(asyncio.Event())
        client = await running.client()
        client.ask()
        await until(lambda: second.received)
        running.app.gateway.drain()
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (503, "draining")
        await until(lambda: first.open == second.open == 0)
        assert (await running.records())[0]["ending"] == "drained"


async def test_a_404_wins_no_race_and_hides_no_other_failure(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with both(tmp_path, 2, hedge_after="20ms") as (running, slow, wrong):
        slow.plays(go, STREAM)
        wrong.plays(whole(b"{}", status="404 No"))
        client = await running.client()
        client.ask(stream=True)
        await until(lambda: running.app.breakers.of("p1 real-1").last is not None)
        go.set()
        assert (await client.answer()).body.endswith(b"data: [DONE]\n\n")
        slow.plays(BUSY)
        wrong.plays(whole(b"{}", status="404 No"))
        client.ask()
        assert (await client.answer()).status == 502


async def test_a_connection_that_was_opened_ahead_and_has_gone_stale_is_no_failure(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        text = configuration(provider.port).replace("warm_connections: 0", "warm_connections: 1")
        async with gateway(text, tmp_path) as running:
            await until(lambda: running.app.upstreams.statistics()["idle"] == 1)
            provider.plays(RESET)
            client = await running.client()
            client.ask()
            answer = await client.answer()
            assert (answer.status, answer.headers.get("x-kyma-fallback")) == (200, None)
            assert running.app.breakers.of("p0 real-0").last is None


async def test_when_both_fail_the_next_one_is_asked_and_then_the_caller_is_told(tmp_path: Path) -> None:
    async with both(tmp_path, 3, hedge_after="50ms") as (running, *made):
        gate = asyncio.Event()
        for provider in made[:2]:
            provider.plays(gate, BUSY)
        made[2].plays(BUSY)
        client = await running.client()
        client.ask()
        await until(lambda: made[1].received)
        gate.set()
        assert (await client.answer()).status == 502
        assert (await running.records())[0]["attempts"] == ["p0:503", "p1:503", "p2:503"]


async def test_a_caller_who_leaves_a_race_ends_both(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="50ms") as (running, first, second):
        first.plays(asyncio.Event())
        second.plays(asyncio.Event())
        client = await running.client()
        client.ask()
        await until(lambda: second.received)
        client.leave()
        await until(lambda: first.open == second.open == 0)
        record = (await running.records())[0]
        assert (record["ending"], record["attempts"]) == ("client_gone", ["p0:abandoned", "p1:abandoned"])


async def test_a_caller_who_leaves_after_one_of_two_has_failed_ends_the_other(tmp_path: Path) -> None:
    fail = asyncio.Event()
    async with both(tmp_path, 2, hedge_after="50ms") as (running, first, second):
        first.plays(asyncio.Event())
        second.plays(fail, BUSY)
        client = await running.client()
        client.ask()
        await until(lambda: second.received)
        fail.set()
        await until(lambda: running.app.breakers.of("p1 real-1").last is not None)
        client.leave()
        await until(lambda: first.open == 0)
        assert (await running.records())[0]["ending"] == "client_gone"


async def test_the_delay_finds_itself_once_enough_is_known(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="auto") as (running, first, second):
        client = await running.client()
        for _ in range(20):
            client.ask()
            await client.answer()
        assert second.received == []
        first.plays(asyncio.Event())
        client.ask()
        assert (await client.answer()).headers["x-kyma-fallback-layer"] == "1"


async def test_who_was_only_slower_is_asked_when_the_faster_one_dies(tmp_path: Path) -> None:
    async with both(tmp_path, 2, hedge_after="20ms") as (running, slow, fast):
        client = await running.client()
        for _ in range(4):
            slow.plays(asyncio.Event())
            client.ask()
            assert (await client.answer()).status == 200
        fast.plays(CLOSE)
        fast.plays(CLOSE)
        client.ask()
        assert (await client.answer()).status == 200
        assert (await running.records(5))[4]["attempts"] == ["p1:broken", "p0:answered"]


# ---- no such model


async def test_one_that_knows_no_such_model_does_not_speak_for_those_that_rest(tmp_path: Path, unused_tcp_port: int) -> None:
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


# ---- probes


async def test_a_source_that_nobody_asks_is_probed_and_that_is_no_traffic(tmp_path: Path) -> None:
    async with providers(2) as (well, busy):
        busy.plays(BUSY)
        text = configuration(well.port, busy.port).replace("max_tokens: null", "max_tokens: null, probe_after: 1s")
        async with gateway(text, tmp_path) as running:
            await until(lambda: well.received and busy.received)
            assert b'"max_tokens":1' in well.received[0].body
            breakers = running.app.breakers
            await until(lambda: breakers.of("p1 real-1").last is not None)
            assert breakers.of("p0 real-0").last is None
            client = await running.client()
            client.send(b"GET /v1/status HTTP/1.1\r\nhost: a\r\n\r\n")
            sources = (await client.answer()).json["models"][0]["sources"]
            assert [one["attempts_24h"] for one in sources] == [0, 0]


async def test_a_probe_that_hears_nothing_is_let_go_when_the_gateway_ends(tmp_path: Path) -> None:
    async with providers(1) as (mute,):
        mute.plays(asyncio.Event())
        text = configuration(mute.port).replace("max_tokens: null", "max_tokens: null, probe_after: 1s")
        async with gateway(text, tmp_path) as running:
            await until(lambda: mute.received)
            await running.app.close()
        await until(lambda: mute.open == 0)
