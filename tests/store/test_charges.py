"""A charge changes the ledger, the balance and the day's usage, or none of them; and it counts once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.store.contract import Charge, UsageRow, day_of
from kyma_proxy.store.sqlite.charges import write_charges
from kyma_proxy.store.sqlite.inbox import Inbox
from kyma_proxy.store.sqlite.store import SqliteStore
from kyma_proxy.store.sqlite.writer import Timing
from tests.store.factories import (
    AT,
    FAST,
    TODAY,
    account,
    balances,
    charge,
    key,
    on_disk,
    opened,
    opened_with_connection,
    purchase,
)
from tests.waiting import PATIENCE_S, until

DAY = 86_400


async def with_accounts(store: SqliteStore, *names: str) -> None:
    for name in names:
        await store.create_account(account(name), key(f"key-{name}", name), [])


async def test_a_charge_adds_an_entry_lowers_the_balance_and_counts_as_the_days_usage(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        store.charge(Charge("a", "key-a", "r1", "request-1", AT, "qwen", 120, 30, 20, True, 4_000))
        store.charge(Charge("a", None, "r2", "request-2", AT + DAY, "qwen", 5, 6, 0, False, 100))
        await store.flush()
        assert balances(store) == {"a": -4_100}
        second, first = await store.transactions("a", None, 10)
        assert first == ("a", AT, "usage", -4_000, "r1", "request-1", "qwen", "key-a", "estimated", first.id)
        assert second == ("a", AT + DAY, "usage", -100, "r2", "request-2", "qwen", None, None, second.id)
        assert await store.usage("a", TODAY, TODAY + 1) == [
            UsageRow(TODAY, "qwen", "key-a", 1, 120, 30, 20, 4_000),
            UsageRow(TODAY + 1, "qwen", None, 1, 5, 6, 0, 100),
        ]


async def test_usage_is_summed_by_day_model_and_key(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a", "b")
        number = 0
        for holder, at, model, key_id in [
            ("a", AT, "m", "k"), ("a", AT, "m", "k"), ("a", AT, "n", "k"), ("a", AT, "m", "l"), ("a", AT + DAY, "m", "k"),
            ("a", AT - 400 * DAY, "m", "k"), ("b", AT, "m", "k"),
        ]:  # fmt: skip
            for _ in range(2):  # in two groups, so that the second adds to the first
                number += 1
                store.charge(charge(holder, f"r{number}", 7, at=at, model=model, key=key_id))
                await store.flush()
        rows = await store.usage("a", TODAY - 1000, TODAY)
        assert [(row.day - TODAY, row.model, row.key, row.requests, row.cost) for row in rows] == [
            (-400, "m", "k", 2, 14), (0, "m", "k", 4, 28), (0, "m", "l", 2, 14), (0, "n", "k", 2, 14),
        ]  # fmt: skip
        assert (rows[1].prompt_tokens, rows[1].completion_tokens, rows[1].cached_tokens) == (400, 40, 4)
        assert [row.day - TODAY for row in await store.usage("a", 0, 10**9)] == [-400, 0, 0, 0, 1]
        assert [await store.requests_on(*what) for what in (("a", TODAY), ("a", TODAY + 1), ("b", TODAY), ("c", TODAY))] == [
            8, 2, 2, 0,
        ]  # fmt: skip
        assert await store.usage("a", TODAY + 1, TODAY) == await store.usage("a", TODAY + 2, TODAY + 9) == []


async def test_an_account_that_used_nothing_has_no_usage(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        assert await store.usage("a", 0, 10**9) == []
        assert await store.requests_on("a", TODAY) == 0


async def test_a_charge_of_nothing_is_counted_as_usage_and_is_no_line_of_the_ledger(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        for number, amount in enumerate((0, 5, 0, 6, 0)):
            store.charge(charge("a", f"r{number}", amount))
        await store.flush()
        assert [entry.amount for entry in await store.transactions("a", None, 10)] == [-6, -5]
        ((_, _, _, requests, *_, cost),) = await store.usage("a", TODAY, TODAY)
        assert (requests, cost) == (5, 11)


async def test_charges_with_the_same_reference_count_once_in_a_group_and_across_groups_and_restarts(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_accounts(store, "a", "b")
        for reference in ("r1", "r2", "r1", "r3", "r1"):
            store.charge(charge("a", reference))
        await store.flush()
        store.charge(charge("b", "r1", 1_000))
        store.charge(charge("a", "r3"))
    with opened(path) as store:
        store.charge(charge("a", "r2"))
        await store.flush()
        assert balances(store) == {"a": -21, "b": 0}
        assert await store.requests_on("a", TODAY) == 3
        assert await store.requests_on("b", TODAY) == 0
        assert store.statistics().lost == 0
    with opened(path, check_integrity=True):
        pass


@pytest.mark.parametrize("unfit", [
    charge("nobody", "x"), charge("a", "x", -5), charge("a", "x", 10**15 + 1), charge("a", "x", 2**80),
    charge("a", "x", at=2**70), charge("a", "\ud800"), charge("a", "x", model="\udfff"), charge("nobody", "x", 0),
    Charge("a", None, "x", "x", AT, "m", -1, 0, 0, False, 1),
    Charge(None, None, "x", "x", AT, "m", 1, 0, 0, False, 1),  # type: ignore[arg-type]
    Charge("a", None, "x", "x", AT, "m", 1.5, 0, 0, False, 1),  # type: ignore[arg-type]
], ids=range(11))  # fmt: skip
async def test_a_charge_that_can_never_be_written_is_logged_and_counted_as_lost_and_the_others_are_written(
    tmp_path: Path, unfit: Charge, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "db") as store, caplog.at_level(logging.ERROR, "kyma-proxy"):
        await with_accounts(store, "a")
        for number in range(20):
            store.charge(unfit if number in (0, 7, 8) else charge("a", f"r{number}"))
        await store.flush()
        assert (store.statistics().lost, store.statistics().charges, store.waiting) == (3, 17, 0)
        assert balances(store) == {"a": -17 * 7}
        assert await store.requests_on("a", TODAY) == 17
        assert [record.message for record in caplog.records if "is refused" in record.message] != []
        assert not store.is_failing


async def test_a_key_use_that_can_never_be_written_holds_up_no_charge(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path / "db") as store, caplog.at_level(logging.ERROR, "kyma-proxy"):
        await with_accounts(store, "a")
        for unfit in (("\ud800", TODAY), ("key-a", 2**70)):
            store.key_used(*unfit)
            store.charge(charge("a", unfit[0]) if unfit[1] != TODAY else charge("a", "r"))
            await store.flush()
        assert balances(store) == {"a": -14}
        assert store.statistics().waiting_key_uses == 0
        assert caplog.text.count("the last uses of 1 keys are refused") == 2


async def test_a_balance_that_would_overflow_refuses_the_charge_and_is_not_rounded(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        await store.add_entry(purchase("a", "p", -(2**63) + 10, "adjustment"))
        for number in range(3):
            store.charge(charge("a", f"r{number}", 5))
        await store.flush()
        assert balances(store) == {"a": -(2**63)}
        assert store.statistics().lost == 1
        assert [entry.reference for entry in await store.transactions("a", None, 9)] == ["r1", "r0", "p"]


async def test_thousands_of_charges_are_written_in_their_order(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        for number in range(5_000):
            store.charge(charge("a", f"r{number}"))
        await store.flush()
        assert (store.waiting, store.statistics().charges) == (0, 5_000)
        assert [entry.reference for entry in await store.transactions("a", None, 5_000)] == [
            f"r{4999 - n}" for n in range(5_000)
        ]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 21, 255, 256, 257, 511])
async def test_a_group_of_any_size_is_written_whole_and_in_order(tmp_path: Path, count: int) -> None:
    path = tmp_path / "db"
    with opened(path, FAST._replace(gather=PATIENCE_S)) as store:
        await with_accounts(store, "a", "b")
        commits = store.statistics().commits
        for number in range(count):
            store.charge(charge("ab"[number % 3 == 0], f"r{number}", number % 5))
        await store.flush()
        assert store.statistics().commits - commits == 2  # the group, and the flush
        assert await store.requests_on("a", TODAY) + await store.requests_on("b", TODAY) == count
        references = [reference for (reference,) in on_disk(path, "SELECT reference FROM entries ORDER BY id")]
        assert references == [f"r{number}" for number in range(count) if number % 5]
    with opened(path, check_integrity=True):  # each balance is its entries' sum, and each entry names the one before it
        pass


@pytest.mark.parametrize("count", [1, 2, 3, 21])
async def test_nothing_of_a_group_is_written_if_one_of_it_can_not_be(tmp_path: Path, count: int) -> None:
    with opened_with_connection(tmp_path / "db") as (store, connection):
        await with_accounts(store, "a")
        group = [charge("a", f"r{number}") for number in range(count - 1)]
        with pytest.raises(sqlite3.IntegrityError):
            write_charges(connection, [*group, charge("nobody", "x")])
        assert not connection.in_transaction
        assert (balances(store), await store.requests_on("a", TODAY)) == ({"a": 0}, 0)


async def test_a_charge_is_written_soon_without_a_flush(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        for number in range(30):
            store.charge(charge("a", f"r{number}"))
            await until(lambda: store.waiting == 0)
        assert balances(store) == {"a": -210}


async def test_an_idle_writing_thread_is_woken_by_whatever_is_handed_over(tmp_path: Path) -> None:
    def is_idle() -> bool:
        return store.statistics().is_idle

    with opened(tmp_path / "db", FAST) as store:
        await with_accounts(store, "a")
        for number in range(10):
            await until(is_idle)
            store.charge(charge("a", f"r{number}"))
            await until(lambda: store.waiting == 0)
            await until(is_idle)
            store.key_used("key-a", TODAY + number)
            await until(lambda: store.statistics().waiting_key_uses == 0)
            await until(is_idle)
            await store.add_entry(purchase("a", f"p{number}", 7))
        assert balances(store) == {"a": 0}
        assert store.load()[1][0].last_used_day == TODAY + 9


@pytest.mark.parametrize("what", ["charge", "key use"])
async def test_the_writing_thread_does_not_become_idle_over_what_was_handed_over_meanwhile(what: str) -> None:
    inbox = Inbox()
    if what == "charge":
        inbox.add_charge(charge("a", "r"))
    else:
        inbox.add_key_use("key-a", TODAY)
    waiting = asyncio.create_task(asyncio.to_thread(inbox.wait_idle))
    try:
        await asyncio.wait_for(asyncio.shield(waiting), PATIENCE_S)
    finally:
        inbox.wake()
        await waiting


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path, FAST._replace(gather=20.0)) as store:
        await with_accounts(store, "a")
        for number in range(3_000):
            store.charge(charge("a", f"r{number}"))
        store.key_used("key-a", TODAY)
    assert on_disk(path, "SELECT balance FROM accounts") == [(-21_000,)]
    assert on_disk(path, "SELECT last_used_day FROM keys") == [(TODAY,)]
    assert not path.with_name("db-wal").exists()


async def test_the_statistics_count_what_was_done(tmp_path: Path) -> None:
    with opened(tmp_path / "db", Timing()) as store:
        before = store.statistics()
        assert before[:5] == (0, 0, 0, 0, 0.0)
        await with_accounts(store, "a")
        store.charge(charge("a", "r"))
        await store.flush()
        after = store.statistics()
        assert (after.charges, after.operations, after.lost, store.last_error) == (1, 2, 0, None)
        assert after.commits >= 3
        assert after.last_commit_s > 0


def test_a_day_begins_at_midnight_utc() -> None:
    assert [day_of(at) for at in (0, DAY - 1, DAY)] == [0, 0, 1]


async def test_each_field_of_a_charge_is_written_to_its_column(tmp_path: Path) -> None:
    path = tmp_path / "db"
    one: dict[str, Any] = {
        "account": "a", "key": "key-a", "reference": "reference", "request_id": "request", "at": AT, "model": "model",
        "prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 3, "is_estimated": True, "amount": 4,
    }  # fmt: skip
    with opened(path) as store:
        await with_accounts(store, "a")
        store.charge(Charge(**one))
    line = on_disk(path, "SELECT account, key, reference, request_id, at, model, note, -amount FROM entries")
    assert line == [("a", "key-a", "reference", "request", AT, "model", "estimated", 4)]
    used = on_disk(path, "SELECT account, key, model, prompt_tokens, completion_tokens, cached_tokens, cost FROM usage")
    assert used == [("a", "key-a", "model", 1, 2, 3, 4)]
