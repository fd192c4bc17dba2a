"""The operator creates accounts, records payments and grants credits through the admin API; each payment counts once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.accounts_harness import TOKEN, AccountsGateway, metered
from tests.harness import whole

ANSWER = whole(json.dumps({"id": "x", "choices": [{}], "usage": {"prompt_tokens": 100, "completion_tokens": 50}}).encode())


class Operator:
    """A client of the admin API, with the admin token."""

    def __init__(self, accounts_gateway: AccountsGateway, token: str = TOKEN) -> None:
        self._client = TestClient(TestServer(accounts_gateway.running.app.admin_application))
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __aenter__(self) -> Operator:
        await self._client.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """Send a request to the admin API."""
        async with self._client.request(method, f"/admin/accounts{path}", json=document, headers=self._headers) as answer:
            return answer.status, await answer.json()

    async def send(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Send a body as it is."""
        async with self._client.request(method, f"/admin/accounts{path}", data=body, headers=self._headers) as answer:
            return answer.status, await answer.json()


async def test_an_account_is_created_shown_and_found(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider), Operator(accounts_gateway) as operator:
        status, made = await operator.ask("POST", "", {"email": "a@example.com", "grant": "1.25"})
        assert (status, made["balance"], made["tier"], made["blocked"]) == (201, 1.25, 0, False)
        caller = await accounts_gateway.someone(made["api_key"])
        provider.plays(ANSWER)
        assert (await caller.chat()).status == 200
        status, shown = await operator.ask("GET", f"/{made['id']}")
        assert (status, shown["email"], len(shown["keys"])) == (200, "a@example.com", 1)
        assert made["api_key"] not in json.dumps(shown)
        for query in ("", "?email=A@EXAMPLE.com", "?limit=1"):
            assert [one["id"] for one in (await operator.ask("GET", query))[1]["data"]] == [made["id"]]
        assert (await operator.ask("GET", "?email=b@example.com"))[1]["data"] == []
        assert (await operator.ask("POST", "", {"email": "A@example.com"}))[0] == 409


async def test_a_purchase_moves_the_tier_and_applies_to_the_next_request(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider), Operator(accounts_gateway) as operator:
        caller = await accounts_gateway.caller(nano=0)
        assert (await caller.chat()).status == 402
        status, bought = await operator.ask("POST", f"/{caller.account}/purchases", {"amount": 10, "payment_id": "pay-1"})
        assert (status, bought["is_new"], bought["account"]["tier"], bought["account"]["balance"]) == (201, True, 1, 10.0)
        provider.plays(ANSWER)
        answer = await caller.chat()
        assert (answer.status, answer.headers["x-ratelimit-limit-requests"]) == (200, "60")


async def test_the_same_payment_counts_once_even_if_sent_concurrently(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, _), Operator(accounts_gateway) as operator:
        caller = await accounts_gateway.caller(nano=0)
        payment = {"amount": 10, "payment_id": "pay-1"}
        answers = await asyncio.gather(*(operator.ask("POST", f"/{caller.account}/purchases", payment) for _ in range(8)))
        assert sorted(status for status, _ in answers) == [200] * 7 + [201]
        assert len({one["id"] for _, one in answers}) == 1
        assert (await caller.balance())["balance"] == 10.0
        other = await accounts_gateway.caller("b@example.com", nano=0)
        for account, amount in ((other.account, 10), (caller.account, 11)):
            status, answer = await operator.ask("POST", f"/{account}/purchases", {"amount": amount, "payment_id": "pay-1"})
            assert (status, answer["error"]["code"]) == (409, "conflict")


async def test_a_grant_does_not_move_the_tier(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, _), Operator(accounts_gateway) as operator:
        caller = await accounts_gateway.caller(nano=0)
        status, granted = await operator.ask("POST", f"/{caller.account}/grants", {"amount": 500, "reason": "a good turn"})
        assert (status, granted["account"]["tier"], granted["account"]["purchased"]) == (201, 0, 0)
        status, ledger = await operator.ask("GET", f"/{caller.account}/transactions")
        assert [(one["kind"], one["amount"], one["note"]) for one in ledger["data"]] == [("grant", 500.0, "a good turn")]


@pytest.mark.parametrize(
    "amount",
    [
        0, -1, 4.99, "4.99", "ten", "1e400", "NaN", "Infinity", True, None, [], 10**7, "5.0000000001", 1e300, "1_0", "+10",
        "1e1", " 10", "10 ", "10\n", "\u0661\u0660", "\uff11\uff10", "1,0", "0x10", "10.", ".5", "", " ", "$10", "10" * 20,
    ],
)  # fmt: skip
async def test_an_amount_that_is_invalid_or_too_small_is_refused(tmp_path: Path, amount: object) -> None:
    async with metered(tmp_path) as (accounts_gateway, _), Operator(accounts_gateway) as operator:
        caller = await accounts_gateway.caller(nano=0)
        status, answer = await operator.ask("POST", f"/{caller.account}/purchases", {"amount": amount, "payment_id": "p"})
        assert (status, answer["error"]["code"]) == (400, "invalid_request")
        assert (await caller.balance())["balance"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"amount":10,"amount":1000,"payment_id":"p"}', b'{"amount":10,"payment_id":"p","amount":10}',
        b'{"amount":10,"payment_id":"p","payment\\u005fid":"q"}',
    ],
)  # fmt: skip
async def test_a_body_with_a_member_twice_is_refused(tmp_path: Path, body: bytes) -> None:
    async with metered(tmp_path) as (accounts_gateway, _), Operator(accounts_gateway) as operator:
        caller = await accounts_gateway.caller(nano=0)
        status, answer = await operator.send("POST", f"/{caller.account}/purchases", body)
        assert (status, answer["error"]["code"]) == (400, "invalid_json")
        assert (await caller.balance())["balance"] == 0


@pytest.mark.parametrize(
    "query", ["limit=1_0", "limit=%2B1", "limit=1e1", "limit=%D9%A1", "limit=", "limit=%201", "limit=1&limit=2"]
)
async def test_a_number_of_a_query_has_plain_digits_once(tmp_path: Path, query: str) -> None:
    async with metered(tmp_path) as (accounts_gateway, _), Operator(accounts_gateway) as operator:
        status, answer = await operator.ask("GET", f"?{query}")
        assert (status, answer["error"]["code"]) == (400, "invalid_request")


async def test_a_blocked_account_is_refused_until_it_is_unblocked(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider), Operator(accounts_gateway) as operator:
        caller = await accounts_gateway.caller()
        assert (await operator.ask("POST", f"/{caller.account}/block"))[1]["blocked"]
        assert (await caller.chat()).status == 403
        assert not (await operator.ask("POST", f"/{caller.account}/unblock"))[1]["blocked"]
        provider.plays(ANSWER)
        assert (await caller.chat()).status == 200


async def test_the_operator_creates_and_revokes_keys(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider), Operator(accounts_gateway) as operator:
        caller = await accounts_gateway.caller()
        status, key = await operator.ask("POST", f"/{caller.account}/keys", {"name": "server"})
        assert status == 201
        assert len((await operator.ask("GET", f"/{caller.account}/keys"))[1]["data"]) == 2
        provider.plays(ANSWER)
        server = await accounts_gateway.someone(key["api_key"])
        assert (await server.chat()).status == 200
        assert (await operator.ask("DELETE", f"/{caller.account}/keys/{key['id']}"))[0] == 200
        assert (await server.chat()).status == 401
        assert (await operator.ask("DELETE", f"/{caller.account}/keys/{key['id']}x"))[0] == 404


async def test_the_admin_api_answers_nothing_without_the_token(tmp_path: Path) -> None:
    async with (
        metered(tmp_path) as (accounts_gateway, _),
        Operator(accounts_gateway, "a-wrong-token-of-some-length") as stranger,
    ):
        for method, path in (("GET", ""), ("POST", ""), ("POST", "/acct_1/grants"), ("DELETE", "/acct_1/keys/key_1")):
            assert (await stranger.ask(method, path, {}))[0] == 401


async def test_an_unknown_account_can_not_be_shown_or_changed(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, _), Operator(accounts_gateway) as operator:
        for method, path in (
            ("GET", "/acct_1"),
            ("POST", "/acct_1/grants"),
            ("POST", "/acct_1/block"),
            ("GET", "/acct_1/keys"),
        ):
            assert (await operator.ask(method, path, {"amount": 1}))[0] == 404


async def test_accounts_and_balances_survive_a_restart(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider), Operator(accounts_gateway) as operator:
        caller = await accounts_gateway.caller(nano=0)
        await operator.ask("POST", f"/{caller.account}/purchases", {"amount": 50, "payment_id": "pay-1"})
        provider.plays(ANSWER)
        await caller.chat()
        before = await caller.balance()
        secret = caller.secret
    async with metered(tmp_path) as (accounts_gateway, provider):
        again = await accounts_gateway.someone(secret)
        assert await again.balance() == before
        provider.plays(ANSWER)
        assert (await again.chat()).headers["x-ratelimit-limit-requests"] == "120"


async def test_the_metrics_show_the_state_of_the_accounts(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, _):
        await accounts_gateway.caller()
        async with (
            TestClient(TestServer(accounts_gateway.running.app.admin_application)) as client,
            client.get("/metrics") as answer,
        ):
            page = await answer.text()
        for line in ("kyma_accounts 1.0", "kyma_charges_waiting 0.0", "kyma_charges_lost 0.0", "kyma_accounts_failing 0.0"):
            assert f"\n{line}\n" in page
