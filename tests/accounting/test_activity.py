"""The operator sees which requests accounts have made, by page and as CSV; nothing of them is content, and old ones go."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from kyma_proxy.accounting.activity import Activity
from kyma_proxy.store.activity import ActivityFilter
from kyma_proxy.store.contract import StoreUnavailable
from tests.accounts_harness import TOKEN, AccountsGateway, metered
from tests.factories import snapshot
from tests.harness import OK, Provider
from tests.store.factories import on_disk
from tests.waiting import until

ON = "activity: {days: 30, rows: 1000}\n"
ONE_MODEL = """\
providers: [{name: p, base_url: http://p.example/v1, dialect: openai}]
models: [{id: m, provider: p}]
"""
Get = Any


@contextlib.asynccontextmanager
async def operated(directory: Path, more: str = ON) -> AsyncIterator[tuple[AccountsGateway, Provider, Get]]:
    """A gateway with accounts, its provider, and a way to ask its admin API."""
    async with (
        metered(directory, more=more) as (made, provider),
        TestClient(TestServer(made.running.app.admin_application)) as client,
    ):

        async def get(query: str = "", token: str = TOKEN) -> tuple[int, Any, Any]:
            headers = {"Authorization": f"Bearer {token}"}
            async with client.get(f"/admin/activity{query}", headers=headers) as answer:
                text = await answer.text()
                return answer.status, await answer.json() if "json" in answer.content_type else text, answer.headers

        yield made, provider, get


def activity_of(made: AccountsGateway) -> Activity:
    """The part that keeps requests."""
    found = made.running.app.activity
    assert found is not None
    return found


async def written(made: AccountsGateway, count: int) -> None:
    """Wait until so many requests are in the log, and then until those of accounts are on disk."""
    await made.running.records(count)
    await activity_of(made).close()
    assert len((await made.account_service.store.activity(ActivityFilter(), None, 1000)).rows) == count


async def test_a_request_is_seen_with_what_it_cost_and_without_what_it_said(tmp_path: Path) -> None:
    async with operated(tmp_path) as (made, provider, get):
        caller = await made.caller()
        provider.plays(OK)
        answer = await caller.chat(messages=[{"role": "user", "content": "canary-prompt"}])
        assert answer.status == 200
        await written(made, 1)
        status, document, headers = await get()
        assert (status, headers["cache-control"]) == (200, "no-store")
        (row,) = document["data"]
        assert (row["account"], row["request_id"], row["ending"]) == (
            caller.account,
            answer.headers["x-request-id"],
            "completed",
        )
        assert (row["model"], row["provider"], row["prompt_tokens"], row["completion_tokens"]) == ("m", "p0", 3, 5)
        assert row["cost_usd"] == pytest.approx(13e-6)
        assert (document["has_more"], document["next_before"]) == (False, None)
        assert "canary" not in str(document)
        assert caller.secret not in str(document)


async def test_only_the_holder_of_the_admin_token_sees_requests(tmp_path: Path) -> None:
    async with operated(tmp_path) as (made, _, get):
        caller = await made.caller()
        assert (await get(token=caller.secret))[0] == 401
        assert (await caller.ask("GET", "/admin/activity")).status == 404


async def test_requests_are_found_by_account_and_pages_lead_to_older_ones(tmp_path: Path) -> None:
    async with operated(tmp_path) as (made, provider, get):
        callers = [await made.caller(f"{name}@example.com") for name in "ab"]
        for caller in (*callers, callers[0]):
            provider.plays(OK)
            assert (await caller.chat()).status == 200
        await written(made, 3)
        status, document, _ = await get(f"?account={callers[1].account}")
        assert (status, [row["account"] for row in document["data"]]) == (200, [callers[1].account])
        _, newest, _ = await get("?limit=2")
        assert newest["has_more"]
        _, oldest, _ = await get(f"?limit=2&before={newest['next_before']}")
        assert len({row["id"] for row in (*newest["data"], *oldest["data"])}) == 3
        for query in (
            "?account=acct_none",
            "?limit=0",
            "?limit=1001",
            "?before=x",
            "?format=xml",
            "?model=",
            "?model=a&model=b",
        ):
            assert (await get(query))[0] in (400, 404)


async def test_no_value_of_the_csv_is_a_formula_and_its_next_page_is_linked(tmp_path: Path) -> None:
    async with operated(tmp_path) as (made, provider, get):
        caller = await made.caller()
        for name in ("=cmd|' /C calc'!A0", "@SUM(1)", '"a",\r\nb'):
            assert (await caller.chat(model=name)).status == 404
        provider.plays(OK)
        assert (await caller.chat()).status == 200
        await written(made, 4)
        _, text, headers = await get("?format=csv&limit=3")
        assert headers["content-type"] == "text/csv; charset=utf-8"
        assert headers["content-disposition"] == 'attachment; filename="activity.csv"'
        (answered, *refused) = csv.DictReader(io.StringIO(text))
        assert (answered["model"], answered["cost_usd"], answered["time"][-1]) == ("m", "0.000013", "Z")
        assert [one["model_requested"] for one in refused] == ['"a",\r\nb', "'@SUM(1)"]
        following = headers["link"].removeprefix("</admin/activity").removesuffix('>; rel="next"')
        (last,) = csv.DictReader(io.StringIO((await get(following))[1]))
        assert last["model_requested"] == "'=cmd|' /C calc'!A0"


async def test_nothing_is_kept_unless_the_configuration_says_so(tmp_path: Path) -> None:
    async with operated(tmp_path, more="") as (made, provider, get):
        caller = await made.caller()
        provider.plays(OK)
        assert (await caller.chat()).status == 200
        await made.running.records(1)
        await activity_of(made).close()
        assert (await get())[1]["data"] == []


async def test_what_was_kept_is_deleted_once_nothing_is_to_be_kept(tmp_path: Path) -> None:
    async with operated(tmp_path) as (made, provider, _):
        caller = await made.caller()
        provider.plays(OK)
        assert (await caller.chat()).status == 200
        await written(made, 1)
    assert on_disk(tmp_path / "kyma.db", "SELECT count(*) FROM activity") == [(1,)]
    async with operated(tmp_path, more="") as (made, _, get):
        activity_of(made).sweep()
        await until(lambda: on_disk(tmp_path / "kyma.db", "SELECT count(*) FROM activity") == [(0,)])
        assert (await get())[1]["data"] == []


async def test_a_request_that_ends_with_the_gateway_is_kept(tmp_path: Path) -> None:
    async with operated(tmp_path) as (made, provider, _):
        caller = await made.caller()
        provider.plays(OK)
        assert (await caller.chat()).status == 200
    assert on_disk(tmp_path / "kyma.db", "SELECT count(*) FROM activity") == [(1,)]


class BrokenStore:
    """A store whose disk is full, and which counts what it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    async def add_activity(self, lines: bytes) -> None:
        """Raises StoreUnavailable."""
        self.asked += 1
        raise StoreUnavailable("the disk is full")

    async def forget_activity(self, before: int, rows: int) -> bool:
        """Raises StoreUnavailable."""
        raise StoreUnavailable("the disk is full")


async def test_a_full_disk_costs_lines_that_are_counted_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    store: Any = BrokenStore()
    now = 0.0
    kept = Activity(lambda: snapshot(ONE_MODEL + ON), store, clock=lambda: now, wall=lambda: 0.0)
    for second in range(1, 4):
        kept.take(b"{}\n{}\n")
        now = float(second * 2)
        kept.sweep()
        kept.sweep()  # one at a time
        await kept.close()
        assert (store.asked, kept.lost) == (second, second * 2)
    assert caplog.text.count("missing in the activity") == 1


async def test_lines_that_wait_are_bounded() -> None:
    store: Any = BrokenStore()
    kept = Activity(lambda: snapshot(ONE_MODEL + ON), store, clock=lambda: 0.0, wall=lambda: 0.0)
    for _ in range(9):
        kept.take(b"x" * (2**20 - 1) + b"\n")
    assert kept.lost == 1
