"""A metered caller is identified by its key, held to its limits, and charged for what was delivered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.errors import GatewayError
from tests.accounts_harness import accounts_gateway, metered
from tests.configurations import ProviderEntry, configuration
from tests.harness import CLOSE, chunk, gateway, providers, whole
from tests.harness import head as answer_head
from tests.waiting import until

USED = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
ANSWER = whole(json.dumps({"id": "x", "choices": [{"message": {"content": "hi"}}], "usage": USED}).encode())
COST = (1000 * 1 + 500 * 2) / 1e6  # in US dollars, at 1 and 2 a million


def usage_event(**more: Any) -> bytes:
    document = {"id": "x", "choices": [], "usage": USED} | more
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def content_event(words: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": words}}]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "header", ["", "authorization: Bearer ky-{}\r\n", "x-api-key: ky-{}\r\n", "authorization: Bearer sk-a\r\n"]
)
async def test_a_missing_key_and_a_wrong_one_get_the_same_answer(tmp_path: Path, header: str) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        client = await accounts_gateway.running.client()
        body = b'{"model":"m","messages":[]}'
        line = header.format("0" * 43)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n{line}content-length: {len(body)}\r\n\r\n"
        client.send(head.encode() + body)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
        assert "x-ratelimit-limit-requests" not in answer.headers
        assert provider.received == []


async def test_an_answer_is_charged_as_its_provider_reported_it(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        provider.plays(ANSWER)
        caller = await accounts_gateway.caller()
        answer = await caller.chat()
        assert answer.status == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "30"
        assert answer.headers["x-ratelimit-remaining-requests"] == "29"
        money = await caller.balance()
        assert (money["balance"], money["held"]) == (1 - COST, 0)
        await accounts_gateway.account_service.store.flush()
        entries = (await caller.ask("GET", "/v1/credits/transactions")).json["data"]
        assert [(one["kind"], one["amount"], one["model"]) for one in entries] == [("usage", -COST, "m"), ("grant", 1.0, None)]
        record = (await accounts_gateway.running.records())[0]
        assert (record["account"], record["key"]) == (caller.account, caller.secret[:11])
        assert (record["cost_usd"], record["usage_source"]) == (COST, "reported")
        assert caller.secret.encode() not in str([vars(one) for one in provider.received]).encode()


async def test_the_gateway_asks_for_the_usage_of_a_stream_and_withholds_it_from_the_caller(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        provider.plays(answer_head() + chunk(content_event("one")) + chunk(usage_event()) + chunk(DONE) + b"0\r\n\r\n")
        caller = await accounts_gateway.caller()
        answer = await caller.chat(stream=True)
        assert answer.body == content_event("one") + DONE
        assert provider.received[0].body.startswith(b'{"stream_options":{"include_usage":true},')
        assert (await caller.balance())["balance"] == 1 - COST


async def test_a_caller_that_asks_for_usage_receives_it(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        provider.plays(answer_head() + chunk(content_event("one")) + chunk(usage_event()) + chunk(DONE) + b"0\r\n\r\n")
        caller = await accounts_gateway.caller()
        answer = await caller.chat(stream=True, stream_options={"include_usage": True})
        assert answer.body == content_event("one") + usage_event() + DONE
        assert provider.received[0].body.count(b"stream_options") == 1
        assert (await caller.balance())["balance"] == 1 - COST


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"%b","stream":true,"stream_options":%b,"messages":[]}',
        b'{ "stream": true,"model" : "%b","messages":[], "stream_options" : %b }',
        b'{"x":{"stream_options":null},"stream":true,"model":"%b","stream\\u005foptions": %b,"messages":[]}',
        b'{"stream":true,"messages":["' + b"x" * 20_000 + b'"],"model":"%b","stream_options":%b}',
    ],
)
async def test_options_that_are_null_are_replaced_by_those_that_ask_for_usage(tmp_path: Path, body: bytes) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        provider.plays(answer_head() + chunk(content_event("one")) + chunk(usage_event()) + chunk(DONE) + b"0\r\n\r\n")
        caller = await accounts_gateway.caller()
        caller.client.post(body % (b"m", b"null"), more=f"authorization: Bearer {caller.secret}\r\n")
        assert (await caller.client.answer()).body == content_event("one") + DONE
        assert provider.received[0].body == body % (b"real-0", b'{"include_usage":true}')
        assert (await accounts_gateway.running.records())[0]["usage_source"] == "reported"


async def test_options_that_are_null_before_the_model_are_replaced(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        provider.plays(answer_head() + chunk(content_event("one")) + chunk(usage_event()) + chunk(DONE) + b"0\r\n\r\n")
        caller = await accounts_gateway.caller()
        body = b'{"stream_options":null,"stream":true,"messages":[],"model":"m"}'
        caller.client.post(body, more=f"authorization: Bearer {caller.secret}\r\n")
        assert (await caller.client.answer()).body == content_event("one") + DONE
        expected = b'{"stream_options":{"include_usage":true},"stream":true,"messages":[],"model":"real-0"}'
        assert provider.received[0].body == expected


@pytest.mark.parametrize("is_metered", [False, True])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("name", ["stream", "stream_options", "max_tokens", "n"])
async def test_a_member_that_is_null_is_as_if_it_were_absent(tmp_path: Path, name: str, dialect: str, is_metered: bool) -> None:
    async with providers(1) as (provider,):
        entry = ProviderEntry(provider.port, dialect)
        if is_metered:
            async with accounts_gateway(tmp_path, entry) as made:
                answer = await (await made.caller()).chat(**{name: None})
        else:
            async with gateway(configuration(entry), tmp_path) as running:
                client = await running.client()
                client.post(json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], name: None}).encode())
                answer = await client.answer()
        assert answer.status == 200
        if dialect == "openai":
            assert json.loads(provider.received[0].body)[name] is None
        else:
            assert json.loads(provider.received[0].body)["max_tokens"] == 4096


async def test_a_stream_without_usage_is_estimated_and_marked_so(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        provider.plays(answer_head() + b"".join(chunk(content_event("word ")) for _ in range(100)) + chunk(DONE) + b"0\r\n\r\n")
        caller = await accounts_gateway.caller()
        await caller.chat(stream=True)
        record = (await accounts_gateway.running.records())[0]
        assert (record["usage_source"], record["completion_tokens"]) == ("estimated", 100)
        assert record["cost_usd"] == pytest.approx(1 - (await caller.balance())["balance"])


@pytest.mark.parametrize("how", ["the caller leaves", "the provider dies"])
async def test_the_delivered_part_of_a_cut_stream_is_charged(tmp_path: Path, how: str) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        begun = answer_head() + b"".join(chunk(content_event("word ")) for _ in range(40))
        provider.plays(begun, asyncio.Event() if how == "the caller leaves" else CLOSE)
        caller = await accounts_gateway.caller()
        caller.client.send(_stream(caller.secret))
        await caller.client.head()
        seen = b""
        while seen.count(b"data:") < 40:
            seen += await caller.client.chunk()
        caller.client.leave()
        record = (await accounts_gateway.running.records())[0]
        assert record["ending"] == ("client_gone" if how == "the caller leaves" else "broken")
        assert (record["usage_source"], record["completion_tokens"]) == ("estimated", 40)
        account = accounts_gateway.account_service.accounts.account(caller.account)
        assert account.held == 0
        assert account.balance == 10**9 - round(record["cost_usd"] * 1e9)
        assert record["cost_usd"] > 0


def _stream(secret: str) -> bytes:
    body = b'{"model":"m","stream":true,"messages":[]}'
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-api-key: {secret}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )


@pytest.mark.parametrize("status", ["503 Busy", "400 Bad Request", "429 Slow Down"])
async def test_a_request_that_fails_costs_nothing_and_holds_nothing(tmp_path: Path, status: str) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        provider.plays(whole(b'{"error":{}}', status=status))
        caller = await accounts_gateway.caller()
        assert (await caller.chat()).status >= 400
        money = await caller.balance()
        assert (money["balance"], money["held"]) == (1.0, 0)


def _posted(secret: str, path: str, document: object) -> bytes:
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {secret}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(("path", "members"), [
    ("chat/completions", {}), ("chat/completions", {"stream": True}), ("responses", {"input": "x" * 400}),
    ("embeddings", {"input": "x" * 400}),
])  # fmt: skip
async def test_a_caller_that_does_not_wait_for_the_answer_pays_for_the_prompt(
    tmp_path: Path, path: str, members: dict[str, object]
) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(asyncio.Event())
        caller = await made.caller()
        document = {"model": "m", "messages": [{"role": "user", "content": "hello" * 99}]} | members
        caller.client.send(_posted(caller.secret, f"/v1/{path}", document))
        await until(lambda: provider.received)
        account = made.account_service.accounts.account(caller.account)
        assert account.held > 0
        caller.client.leave()
        record = (await made.running.records())[0]
        prompt = -(-len(json.dumps(document)) // 4)
        assert (record["ending"], record["usage_source"]) == ("client_gone", "estimated")
        assert (record["prompt_tokens"], record["completion_tokens"]) == (prompt, 0)
        assert (account.held, account.balance) == (0, 10**9 - prompt * 1000)


async def test_counting_tokens_costs_nothing_also_if_the_caller_leaves(tmp_path: Path) -> None:
    async with providers(1) as (provider,), accounts_gateway(tmp_path, ProviderEntry(provider.port, "anthropic")) as made:
        provider.plays(asyncio.Event())
        caller = await made.caller()
        caller.client.send(_posted(caller.secret, "/v1/messages/count_tokens", {"model": "m", "messages": []}))
        await until(lambda: provider.received)
        caller.client.leave()
        record = (await made.running.records())[0]
        account = made.account_service.accounts.account(caller.account)
        assert (record["ending"], account.held, account.balance) == ("client_gone", 0, 10**9)


async def test_what_the_gateway_itself_gives_up_costs_nothing(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(asyncio.Event())
        caller = await made.caller()
        caller.client.send(_stream(caller.secret))
        await until(lambda: provider.received)
        made.running.app.gateway.drain()
        assert (await caller.client.answer()).status == 503
        account = made.account_service.accounts.account(caller.account)
        assert (account.held, account.balance) == (0, 10**9)


async def test_seventy_requests_at_once_do_not_overdraw_an_account(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        go = asyncio.Event()
        used = {"prompt_tokens": 10, "completion_tokens": 60_000}
        dear = whole(json.dumps({"choices": [{"message": {"content": "hi"}}], "usage": used}).encode())
        for _ in range(70):
            provider.plays(go, dear)
        caller = await made.caller(nano=500_000_000)
        callers = [await made.someone(caller.secret) for _ in range(25)]  # of a minute's 25 for this model
        account = made.account_service.accounts.account(caller.account)
        asked = [asyncio.create_task(one.chat(max_tokens=60_000)) for one in callers]
        await until(lambda: sum(task.done() for task in asked) == 21)
        go.set()
        statuses = [(await task).status for task in asked]
        assert (statuses.count(200), statuses.count(402)) == (4, 21)  # 60,000 tokens at 2 dollars a million are 12 cents
        await until(lambda: account.held == 0)
        assert 0 <= account.balance < 120_000_000


async def test_a_large_balance_holds_no_more_than_hold_tokens_of_each_answer(tmp_path: Path) -> None:
    async with metered(tmp_path, accounts=", hold_tokens: 1000") as (made, provider):
        provider.plays(asyncio.Event())
        caller = await made.caller(nano=10 * 10**9)
        other = await made.someone(caller.secret)
        asked = asyncio.create_task(other.chat(max_tokens=60_000))
        await until(lambda: provider.received)
        account = made.account_service.accounts.account(caller.account)
        assert 2_000_000 < account.held < 2_100_000
        assert account.unheld == 118_000_000
        other.client.leave()
        asked.cancel()
        await until(lambda: account.held == 0)
        assert account.unheld == 0


async def test_the_balance_must_cover_what_a_request_may_cost(tmp_path: Path) -> None:
    async with metered(tmp_path, accounts=", top_up: 'https://pay.example'") as (accounts_gateway, provider):
        caller = await accounts_gateway.caller(nano=1000)
        answer = await caller.chat()
        assert (answer.status, answer.json["error"]["code"]) == (402, "insufficient_credits")
        assert "$0.000001 is available" in answer.json["error"]["message"]
        assert "https://pay.example" in answer.json["error"]["message"]
        assert provider.received == []
        assert (await caller.ask("GET", "/v1/auth/limits")).json["rpm_used"] == 0


async def test_the_holds_of_concurrent_requests_add_up(tmp_path: Path) -> None:
    """Ten requests that cost a cent each can't be had for one."""
    async with metered(tmp_path) as (accounts_gateway, provider):
        go = asyncio.Event()
        for _ in range(2):
            provider.plays(go, ANSWER)
        may_cost = 9_000_000  # 4,096 tokens of output at 2 dollars a million, and some of input
        caller = await accounts_gateway.caller(nano=may_cost * 2)
        others = [await accounts_gateway.someone(caller.secret) for _ in range(2)]
        first = [asyncio.create_task(other.chat()) for other in others]
        await until(lambda: len(provider.received) == 2)
        assert (await caller.chat()).status == 402
        go.set()
        assert [answer.status for answer in await asyncio.gather(*first)] == [200, 200]
        provider.plays(ANSWER)
        assert (await caller.chat()).status == 200


async def test_the_request_over_the_limit_of_a_minute_is_refused_and_all_keys_share_the_limit(tmp_path: Path) -> None:
    async with metered(
        tmp_path,
        more="tiers: [{tier: 0, min_purchased: 0, rpm: 3, per_model_rpm: 3, tpm: 100000, max_request_tokens: 20000}]\n",
    ) as (
        accounts_gateway,
        provider,
    ):
        caller = await accounts_gateway.caller()
        second = await accounts_gateway.someone((await caller.ask("POST", "/v1/keys", {"name": "second"})).json["api_key"])
        for one in (caller, second, caller):
            provider.plays(ANSWER)
            assert (await one.chat()).status == 200
        answer = await second.chat()
        assert (answer.status, answer.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert answer.json["error"]["type"] == "rate_limit"
        assert 59 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        other = await accounts_gateway.caller("b@example.com")
        provider.plays(ANSWER)
        assert (await other.chat()).status == 200


async def test_a_request_that_no_wait_could_admit_is_forbidden(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        caller = await accounts_gateway.caller(nano=10**12)
        answer = await caller.chat(messages=[{"role": "user", "content": "word " * 200_000}])
        assert (answer.status, answer.json["error"]["code"]) == (403, "forbidden")
        assert "200000 tokens in one request" in answer.json["error"]["message"]
        assert provider.received == []


async def test_a_revoked_key_and_a_blocked_account_are_refused_at_once(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        caller = await accounts_gateway.caller()
        made = (await caller.ask("POST", "/v1/keys", {"name": "other"})).json
        other = await accounts_gateway.someone(made["api_key"])
        provider.plays(ANSWER)
        assert (await other.chat()).status == 200
        assert (await caller.ask("DELETE", f"/v1/keys/{made['id']}")).json["deleted"]
        assert (await other.chat()).status == 401
        await accounts_gateway.account_service.set_blocked(
            accounts_gateway.account_service.accounts.account(caller.account), True
        )
        assert (await caller.chat()).status == 403
        assert (await caller.balance())["error"]["code"] == "forbidden"


async def test_an_answer_of_a_substitute_costs_no_more_than_the_requested_model(tmp_path: Path) -> None:
    more = (
        "  - {id: dear, price: {input: 100, output: 100}, pool: [{provider: p0, model: dear}]}\n"
        "  - {id: cheap, price: {input: 0.5, output: 0.5}, pool: [{provider: p0, model: cheap}]}\n"
        "fallbacks: {m: [dear], dear: [m]}\n"
    )
    async with metered(tmp_path, more=more) as (accounts_gateway, provider):
        caller = await accounts_gateway.caller()
        for model, cost in (("m", COST), ("dear", COST)):
            provider.plays(whole(b"{}", status="503 Busy"))
            provider.plays(ANSWER)
            before = (await caller.balance())["balance"]
            assert (await caller.chat(model=model)).headers["x-kyma-fallback-layer"] == "3"
            assert before - (await caller.balance())["balance"] == pytest.approx(cost)


async def test_a_hedged_request_is_charged_once_and_holds_nothing(tmp_path: Path) -> None:
    async with providers(2) as (slow, fast), accounts_gateway(tmp_path, slow.port, fast.port) as made:
        path = tmp_path / "gateway.yaml"
        path.write_text(path.read_text().replace("hedge_after: null", "hedge_after: 20ms"))
        assert (await made.running.configuration.reload("test")).result == "reloaded"
        slow.plays(asyncio.Event())
        fast.plays(ANSWER)
        caller = await made.caller()
        answer = await caller.chat()
        assert answer.headers["x-kyma-fallback-layer"] == "1"
        money = await caller.balance()
        assert (money["balance"], money["held"]) == (1 - COST, 0)


async def test_the_hold_covers_each_of_the_n_answers_of_a_request(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        caller = await made.caller(nano=10_000_000)  # enough for one answer of 4,096 tokens, not for two
        answer = await caller.chat(n=2)
        assert (answer.status, provider.received) == (402, [])
        answer = await caller.chat(max_tokens=1, max_completion_tokens=30_000, n=2)
        assert answer.status == 402
        provider.plays(ANSWER)
        assert (await caller.chat(n=1)).status == 200


async def test_keys_created_at_once_do_not_exceed_the_limit_of_an_account(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, _):
        caller = await made.caller()
        account = made.account_service.accounts.account(caller.account)
        done = await asyncio.gather(
            *(made.account_service.create_key(account, "key") for _ in range(150)), return_exceptions=True
        )
        assert sum(isinstance(one, GatewayError) for one in done) == 51
        assert len(account.keys) == 100


@pytest.mark.parametrize(
    "members",
    [
        {"stream_options": {}}, {"stream_options": {"include_usage": False}},
        {"stream_options": {"include_usage": None}}, {"stream_options": {"include_obfuscation": False}},
        {"stream_options": [1]}, {"stream": 1}, {"stream": "true"},
    ],
)  # fmt: skip
async def test_a_stream_that_would_not_report_its_usage_is_refused(tmp_path: Path, members: dict[str, object]) -> None:
    async with metered(tmp_path) as (made, provider):
        caller = await made.caller()
        answer = await caller.chat(**({"stream": True} | members))
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
        assert answer.json["error"]["param"] in members
        assert provider.received == []


@pytest.mark.parametrize("header", ["x-api-key: {} \r\n", "x-api-key: {}\t\r\n", "authorization: bearer  {}  \r\n"])
async def test_white_space_around_a_key_is_ignored(tmp_path: Path, header: str) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(ANSWER)
        caller = await made.caller()
        client = await made.running.client()
        body = b'{"model":"m","messages":[]}'
        line = header.format(caller.secret)
        client.send(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n{line}content-length: {len(body)}\r\n\r\n".encode() + body
        )
        assert (await client.answer()).status == 200


async def test_a_402_from_a_provider_is_a_503_for_the_caller(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(whole(b'{"error":{}}', status="402 Payment Required"))
        caller = await made.caller()
        answer = await caller.chat()
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_source_available")


@pytest.mark.parametrize(("path", "members", "param"), [
    ("responses", {"input": "x", "background": True}, "background"),
    ("responses", {"input": "x", "tools": [{"type": "web_search"}]}, "tools"),
    ("chat/completions", {"messages": [], "service_tier": "priority"}, "service_tier"),
    ("chat/completions", {"messages": [], "web_search_options": {}}, "web_search_options"),
])  # fmt: skip
async def test_what_has_no_price_is_refused_before_a_provider_is_asked(
    tmp_path: Path, path: str, members: dict[str, object], param: str
) -> None:
    async with metered(tmp_path) as (made, provider):
        caller = await made.caller()
        answer = await caller.ask("POST", f"/v1/{path}", {"model": "m"} | members)
        assert (answer.status, answer.json["error"]["code"], answer.json["error"]["param"]) == (400, "invalid_request", param)
        assert provider.received == []
        assert (await caller.balance())["held"] == 0
        assert (await caller.ask("GET", "/v1/auth/limits")).json["rpm_used"] == 0


async def test_a_service_tier_with_a_price_is_charged(tmp_path: Path) -> None:
    more = "  - {id: tiered, price: {input: 1, output: 2, priority: 1.75}, pool: [{provider: p0, model: x}]}\n"
    async with metered(tmp_path, more=more) as (made, provider):
        provider.plays(ANSWER)
        caller = await made.caller()
        assert (await caller.chat(model="tiered", service_tier="priority")).status == 200
        assert b'"service_tier": "priority"' in provider.received[0].body
        assert (await caller.balance())["balance"] == pytest.approx(1 - 1.75 * COST)


async def test_callers_that_are_not_metered_may_ask_for_anything(tmp_path: Path) -> None:
    async with providers(1) as (provider,), gateway(configuration(provider.port), tmp_path) as running:
        provider.plays(ANSWER)
        client = await running.client()
        client.post(b'{"model":"m","background":true,"tools":[{"type":"web_search"}]}', path="/v1/responses")
        assert (await client.answer()).status == 200
