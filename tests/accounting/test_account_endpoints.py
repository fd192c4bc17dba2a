"""An account reads its own limits, balance, keys and usage only; anybody may sign up if the operator allows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kyma_proxy.accounting import service as service_module
from kyma_proxy.web.account_pages import PATHS
from tests.accounts_harness import Caller, metered
from tests.configurations import configuration
from tests.harness import gateway, whole
from tests.web.test_openapi import response_schema, validate

USED = {"prompt_tokens": 1000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": 100}}
ANSWER = whole(json.dumps({"id": "x", "choices": [{"message": {"content": "hi"}}], "usage": USED}).encode())
COST = (1000 * 1 + 500 * 2) / 1e6
SIGNUP = ", signup: {enabled: true, credits: 0.5, per_hour: 2}"


@pytest.mark.parametrize(("method", "path"), [one for one in PATHS if one[1] != "/v1/auth/register"])
async def test_every_endpoint_of_an_account_needs_its_key(tmp_path: Path, method: str, path: str) -> None:
    async with metered(tmp_path) as (accounts_gateway, _):
        nobody = await accounts_gateway.someone("ky-" + "0" * 43)
        answer = await nobody.ask(method, path.replace("{id}", "key_1"))
        assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_account_endpoints_without_accounts_name_the_setting(tmp_path: Path, method: str, path: str) -> None:
    async with gateway(configuration(1), tmp_path) as running:
        answer = await Caller(await running.client(), "", "ky-a").ask(method, path.replace("{id}", "key_1"))
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
        assert "accounts.required" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/capabilities", "/v1/pricing", "/v1/limits/tiers", "/v1/status", "/v1/health"]
)
async def test_a_public_endpoint_needs_no_key(tmp_path: Path, path: str) -> None:
    async with metered(tmp_path) as (accounts_gateway, _):
        assert (await (await accounts_gateway.someone("")).ask("GET", path)).status == 200


async def test_limits_show_what_is_used(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        caller = await accounts_gateway.caller()
        provider.plays(ANSWER)
        await caller.chat()
        await accounts_gateway.account_service.store.flush()
        limits = (await caller.ask("GET", "/v1/auth/limits")).json
        validate(limits, response_schema("/v1/auth/limits", "get", 200))
        assert limits == {
            "tier": 0, "rpm_limit": 30, "rpm_used": 1, "rpm_remaining": 29, "tpm_limit": 200_000, "tpm_used": 1500,
            "used_today": 1, "has_credits": True,
        }  # fmt: skip


async def test_usage_is_listed_by_day_model_and_key(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        caller = await accounts_gateway.caller()
        second = await accounts_gateway.someone((await caller.ask("POST", "/v1/keys", {"name": "second"})).json["api_key"])
        for one in (caller, caller, second):
            provider.plays(ANSWER)
            await one.chat()
        await accounts_gateway.account_service.store.flush()
        usage = (await caller.ask("GET", "/v1/usage")).json
        validate(usage, response_schema("/v1/usage", "get", 200))
        assert sorted(row["requests"] for row in usage["data"]) == [1, 2]
        assert usage["total"] == {
            "requests": 3, "prompt_tokens": 3000, "completion_tokens": 1500, "cached_tokens": 300,
            "cost_usd": pytest.approx(3 * COST),
        }  # fmt: skip
        assert (await caller.ask("GET", "/v1/usage?from=2020-01-01&to=2020-02-01")).json["data"] == []
        for alone, first, last in (
            ("from=2020-01-01", "2020-01-01", "2020-12-31"),
            ("to=2020-02-29", "2020-01-31", "2020-02-29"),
        ):
            usage = (await caller.ask("GET", f"/v1/usage?{alone}")).json
            assert (usage["from"], usage["to"]) == (first, last)
        for wrong in ("from=yesterday", "from=2026-02-01&to=2026-01-01", "from=2020-01-01&to=2021-01-01", "to=2026-13-01"):
            assert (await caller.ask("GET", f"/v1/usage?{wrong}")).status == 400


async def test_the_ledger_is_paged_newest_first(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        caller = await accounts_gateway.caller()
        for _ in range(3):
            provider.plays(ANSWER)
            await caller.chat()
        await accounts_gateway.account_service.store.flush()
        first = (await caller.ask("GET", "/v1/credits/transactions?limit=3")).json
        validate(first, response_schema("/v1/credits/transactions", "get", 200))
        assert [one["kind"] for one in first["data"]] == ["usage"] * 3
        assert first["has_more"]
        rest = (await caller.ask("GET", f"/v1/credits/transactions?limit=3&before={first['next_before']}")).json
        assert [(one["kind"], one["amount"]) for one in rest["data"]] == [("grant", 1.0)]
        assert (rest["has_more"], rest["next_before"]) == (False, None)
        total = sum(one["amount"] for one in (*first["data"], *rest["data"]))
        assert (await caller.balance())["balance"] == pytest.approx(total)
        for wrong in ("limit=0", "limit=101", "limit=x", "before=-1", "before=1e9"):
            assert (await caller.ask("GET", f"/v1/credits/transactions?{wrong}")).status == 400


async def test_keys_are_listed_without_their_secrets(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, provider):
        caller = await accounts_gateway.caller()
        made = (await caller.ask("POST", "/v1/keys", {"name": "laptop"})).json
        validate(made, response_schema("/v1/keys", "post", 201))
        provider.plays(ANSWER)
        await (await accounts_gateway.someone(made["api_key"])).chat()
        answer = await caller.ask("GET", "/v1/keys")
        validate(answer.json, response_schema("/v1/keys", "get", 200))
        assert made["api_key"].encode() not in answer.body
        first, laptop = answer.json["data"]
        assert (first["name"], laptop["name"], laptop["prefix"]) == ("first", "laptop", made["api_key"][:11])
        assert laptop["last_used"] is not None
        other = await accounts_gateway.caller("b@example.com")
        refused = await other.ask("DELETE", f"/v1/keys/{made['id']}")
        assert (refused.status, refused.json["error"]["code"]) == (404, "not_found")
        assert (await caller.ask("DELETE", f"/v1/keys/{made['id']}")).status == 200
        assert len((await caller.ask("GET", "/v1/keys")).json["data"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"name": ""},
        {"name": " "},
        {"name": "a\x1b[31mb"},
        {"name": "a\n"},
        {"name": "x" * 101},
        {"name": 1},
        {"title": "a"},
    ],
)
async def test_an_invalid_key_name_is_refused(tmp_path: Path, body: object) -> None:
    async with metered(tmp_path) as (accounts_gateway, _):
        assert (await (await accounts_gateway.caller()).ask("POST", "/v1/keys", body)).status == 400


async def test_an_account_has_at_most_a_hundred_keys(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, _):
        caller = await accounts_gateway.caller()
        statuses = [(await caller.ask("POST", "/v1/keys")).status for _ in range(100)]
        assert statuses == [201] * 99 + [409]


async def test_a_new_account_can_call_models_at_once(tmp_path: Path) -> None:
    async with metered(tmp_path, accounts=SIGNUP) as (accounts_gateway, provider):
        nobody = await accounts_gateway.someone("")
        answer = await nobody.ask("POST", "/v1/auth/register", {"email": "New@Example.com"})
        validate(answer.json, response_schema("/v1/auth/register", "post", 201))
        assert (answer.status, answer.json["balance"], answer.json["email"]) == (201, 0.5, "New@Example.com")
        newcomer = await accounts_gateway.someone(answer.json["api_key"])
        provider.plays(ANSWER)
        assert (await newcomer.chat()).status == 200
        money = await newcomer.balance()
        assert (money["balance"], money["purchased"], money["tier"]) == (0.5 - COST, 0, 0)
        again = await nobody.ask("POST", "/v1/auth/register", {"email": "new@example.COM"})
        assert (again.status, again.json["error"]["code"]) == (409, "conflict")
        third = await nobody.ask("POST", "/v1/auth/register", {"email": "third@example.com"})
        assert (third.status, third.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 3590 <= int(third.headers["retry-after"]) <= 3600


@pytest.mark.parametrize("email", ["", "a", "a@b", "a b@example.com", "@example.com", "a" * 250 + "@b.com"])
async def test_an_invalid_email_is_refused(tmp_path: Path, email: str) -> None:
    async with metered(tmp_path, accounts=SIGNUP) as (accounts_gateway, _):
        answer = await (await accounts_gateway.someone("")).ask("POST", "/v1/auth/register", {"email": email})
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")


async def test_signing_up_is_refused_unless_the_operator_allows_it(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, _):
        answer = await (await accounts_gateway.someone("")).ask("POST", "/v1/auth/register", {"email": "a@example.com"})
        assert (answer.status, answer.json["error"]["code"]) == (403, "forbidden")


async def test_usage_of_days_at_the_ends_of_the_calendar_is_empty(tmp_path: Path) -> None:
    async with metered(tmp_path) as (accounts_gateway, _):
        caller = await accounts_gateway.caller()
        for query in ("to=0001-01-01", "from=0001-01-01&to=0001-01-02", "to=9999-12-31&from=9999-12-31"):
            answer = await caller.ask("GET", f"/v1/usage?{query}")
            assert (answer.status, answer.json["data"]) == (200, [])


async def test_a_key_that_was_refused_while_the_accounts_change_hands_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "MAX_KEYS", 2)
    async with metered(tmp_path) as (gateway, _):
        caller = await gateway.caller()
        gateway.account_service.is_paused = True
        refused = await caller.ask("POST", "/v1/keys", {"name": "second"})
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        gateway.account_service.is_paused = False
        assert (await caller.ask("POST", "/v1/keys", {"name": "second"})).status == 201
