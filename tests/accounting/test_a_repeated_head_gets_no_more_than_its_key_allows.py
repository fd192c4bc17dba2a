"""Who sends the same head again on a connection is identified by it only as long as its key is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.accounts_harness import Caller, metered
from tests.harness import whole

ANSWER = whole(json.dumps({"id": "x", "choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 1}}).encode())


@pytest.mark.parametrize(("change", "status", "code"), [
    ("revoked", 401, "invalid_api_key"), ("blocked", 403, "forbidden"), ("emptied", 402, "insufficient_credits"),
])  # fmt: skip
async def test_what_changes_between_two_requests_of_a_connection_counts_for_the_second(
    tmp_path: Path, change: str, status: int, code: str
) -> None:
    async with metered(tmp_path) as (made, provider):
        service = made.account_service
        provider.plays(ANSWER)
        caller = await made.caller()
        account = service.accounts.account(caller.account)
        for _ in range(3):
            assert (await caller.chat()).status == 200
        if change == "revoked":
            await service.revoke_key(account, account.keys[0].id)
        elif change == "blocked":
            await service.set_blocked(account, is_blocked=True)
        else:
            account.post(-account.balance)
        for _ in range(2):
            answer = await caller.chat()
            assert (answer.status, answer.json["error"]["code"]) == (status, code)


async def test_an_account_that_is_unblocked_is_served_on_the_same_connection(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(ANSWER)
        caller = await made.caller()
        account = made.account_service.accounts.account(caller.account)
        for is_blocked in (False, True, False):
            await made.account_service.set_blocked(account, is_blocked=is_blocked)
            assert (await caller.chat()).status == (403 if is_blocked else 200)


async def test_callers_who_share_a_connection_are_each_charged_for_their_own_requests(tmp_path: Path) -> None:
    async with metered(tmp_path) as (made, provider):
        provider.plays(ANSWER)
        one, other = await made.caller("one@example.com"), await made.caller("other@example.com")
        shared = Caller(one.client, other.account, other.secret)
        nobody = Caller(one.client, "", "ky-" + "0" * 43)
        statuses = [(await caller.chat()).status for caller in (one, one, shared, shared, nobody, one, nobody)]
        assert statuses == [200, 200, 200, 200, 401, 200, 401]
        used = [(await caller.ask("GET", "/v1/auth/limits")).json["rpm_used"] for caller in (one, other)]
        assert used == [3, 2]
