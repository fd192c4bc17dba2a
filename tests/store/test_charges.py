"""A charge is the ledger's line, the balance and the day's usage, or none of them; and it counts once."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.store.contract import Charge, UsageRow, day_of
from kyma_proxy.store.sqlite import writing
from kyma_proxy.store.sqlite.store import SqliteStore
from kyma_proxy.store.sqlite.writing import Timing
from tests.store.material import AT, HASTY, TODAY, account, balances, charge, key, on_disk, opened, purchase
from tests.waiting import PATIENCE_S, until

DAY = 86_400


async def with_accounts(store: SqliteStore, *names: str) -> None:
    for name in names:
        await store.create_account(account(name), key(f"key-{name}", name), [])


async def test_a_charge_is_an_entry_a_lower_balance_and_a_days_usage(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        store.charge(Charge("a", "key-a", "r1", "request-1", AT, "qwen", 120, 30, 20, True, 4_000))
        store.charge(Charge("a", None, "r2", "request-2", AT + DAY, "qwen", 5, 6, 0, False, 100))
        await store.settled()
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
                await store.settled()
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


async def test_where_nothing_was_used_there_is_no_usage(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        assert await store.usage("a", 0, 10**9) == []
        assert await store.requests_on("a", TODAY) == 0


async def test_what_costs_nothing_is_counted_and_is_no_line_of_the_ledger(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        for number, amount in enumerate((0, 5, 0, 6, 0)):
            store.charge(charge("a", f"r{number}", amount))
        await store.settled()
        assert [entry.amount for entry in await store.transactions("a", None, 10)] == [-6, -5]
        ((_, _, _, requests, *_, cost),) = await store.usage("a", TODAY, TODAY)
        assert (requests, cost) == (5, 11)


async def test_a_reference_counts_once_in_a_group_and_across_groups_and_restarts(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_accounts(store, "a", "b")
        for reference in ("r1", "r2", "r1", "r3", "r1"):
            store.charge(charge("a", reference))
        await store.settled()
        store.charge(charge("b", "r1", 1_000))
        store.charge(charge("a", "r3"))
    with opened(path) as store:
        store.charge(charge("a", "r2"))
        await store.settled()
        assert balances(store) == {"a": -21, "b": 0}
        assert await store.requests_on("a", TODAY) == 3
        assert await store.requests_on("b", TODAY) == 0
        assert store.figures.lost == 0
    with opened(path, check_integrity=True):
        pass


@pytest.mark.parametrize("unfit", [
    charge("nobody", "x"), charge("a", "x", -5), charge("a", "x", 10**15 + 1), charge("a", "x", 2**80),
    charge("a", "x", at=2**70), charge("a", "\ud800"), charge("a", "x", model="\udfff"), charge("nobody", "x", 0),
    Charge("a", None, "x", "x", AT, "m", -1, 0, 0, False, 1),
    Charge(None, None, "x", "x", AT, "m", 1, 0, 0, False, 1),  # type: ignore[arg-type]
    Charge("a", None, "x", "x", AT, "m", 1.5, 0, 0, False, 1),  # type: ignore[arg-type]
], ids=range(11))  # fmt: skip
async def test_an_unfit_charge_is_left_out_said_and_counted_and_the_others_are_written(
    tmp_path: Path, unfit: Charge, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "db") as store, caplog.at_level(logging.ERROR, "kyma-proxy"):
        await with_accounts(store, "a")
        for number in range(20):
            store.charge(unfit if number in (0, 7, 8) else charge("a", f"r{number}"))
        await store.settled()
        assert (store.figures.lost, store.figures.charges, store.waiting) == (3, 17, 0)
        assert balances(store) == {"a": -17 * 7}
        assert await store.requests_on("a", TODAY) == 17
        assert [record.message for record in caplog.records if "is refused" in record.message] != []
        assert not store.is_failing


async def test_the_use_of_a_key_that_can_not_be_written_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "db") as store, caplog.at_level(logging.ERROR, "kyma-proxy"):
        await with_accounts(store, "a")
        for unfit in (("\ud800", TODAY), ("key-a", 2**70)):
            store.key_used(*unfit)
            store.charge(charge("a", unfit[0]) if unfit[1] != TODAY else charge("a", "r"))
            await store.settled()
        assert balances(store) == {"a": -14}
        assert not store._writer._days
        assert caplog.text.count("the last uses of 1 keys are refused") == 2


async def test_a_sum_that_is_too_large_is_refused_and_not_rounded(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        await store.add_entry(purchase("a", "p", -(2**63) + 10, "adjustment"))
        for number in range(3):
            store.charge(charge("a", f"r{number}", 5))
        await store.settled()
        assert balances(store) == {"a": -(2**63)}
        assert store.figures.lost == 1
        assert [entry.reference for entry in await store.transactions("a", None, 9)] == ["r1", "r0", "p"]


async def test_charges_are_written_in_large_numbers_and_in_their_order(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        for number in range(5_000):
            store.charge(charge("a", f"r{number}"))
        await store.settled()
        assert (store.waiting, store.figures.charges) == (0, 5_000)
        assert [entry.reference for entry in await store.transactions("a", None, 5_000)] == [
            f"r{4999 - n}" for n in range(5_000)
        ]


async def test_a_charge_is_written_without_being_asked_for_again_and_again(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        for number in range(30):
            store.charge(charge("a", f"r{number}"))
            await until(lambda: store.waiting == 0)
        assert balances(store) == {"a": -210}


async def test_a_thread_that_sleeps_is_woken_by_whatever_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_STAYS_AWAKE_S", 0.0)
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        for number in range(10):
            await until(lambda: store._writer._sleeps)
            store.charge(charge("a", f"r{number}"))
            await until(lambda: store.waiting == 0)
            await until(lambda: store._writer._sleeps)
            store.key_used("key-a", TODAY + number)
            await until(lambda: not store._writer._days)
            await until(lambda: store._writer._sleeps)
            await store.add_entry(purchase("a", f"p{number}", 7))
        assert balances(store) == {"a": 0}
        assert store.load()[1][0].last_used_day == TODAY + 9


async def test_what_comes_while_the_thread_falls_asleep_keeps_it_awake(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        pass
    store.charge(charge("a", "r"))  # the thread has ended, so that this test can take its place
    falling_asleep = asyncio.create_task(asyncio.to_thread(store._writer._sleep))
    try:
        await asyncio.wait_for(asyncio.shield(falling_asleep), PATIENCE_S)
    finally:
        store._writer._messages.put(None)
        await falling_asleep


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path, HASTY._replace(gather=20.0)) as store:
        await with_accounts(store, "a")
        for number in range(3_000):
            store.charge(charge("a", f"r{number}"))
        store.key_used("key-a", TODAY)
    assert on_disk(path, "SELECT balance FROM accounts") == [(-21_000,)]
    assert on_disk(path, "SELECT last_used_day FROM keys") == [(TODAY,)]
    assert not path.with_name("db-wal").exists()


async def test_the_figures_say_what_was_done(tmp_path: Path) -> None:
    with opened(tmp_path / "db", Timing()) as store:
        before = store.figures
        assert before == (0, 0, 0, 0, 0.0)
        await with_accounts(store, "a")
        store.charge(charge("a", "r"))
        await store.settled()
        after = store.figures
        assert (after.charges, after.operations, after.lost, store.last_error) == (1, 2, 0, None)
        assert after.commits >= 3
        assert after.last_commit_s > 0


def test_a_day_begins_at_midnight_in_greenwich() -> None:
    assert [day_of(at) for at in (0, DAY - 1, DAY)] == [0, 0, 1]


async def test_the_fields_of_a_charge_go_where_they_belong(tmp_path: Path) -> None:
    """They are told by their places."""
    path = tmp_path / "db"
    one: dict[str, Any] = {
        "account": "a", "key": "key-a", "reference": "reference", "request_id": "request", "at": AT, "model": "model",
        "prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 3, "is_estimated": True, "amount": 4,
    }  # fmt: skip
    assert Charge.__struct_fields__ == tuple(one)
    with opened(path) as store:
        await with_accounts(store, "a")
        store.charge(Charge(**one))
    line = on_disk(path, "SELECT account, key, reference, request_id, at, model, note, -amount FROM entries")
    assert line == [("a", "key-a", "reference", "request", AT, "model", "estimated", 4)]
    used = on_disk(path, "SELECT account, key, model, prompt_tokens, completion_tokens, cached_tokens, cost FROM usage")
    assert used == [("a", "key-a", "model", 1, 2, 3, 4)]
