"""Accounts, keys and payments are on disk when they are acknowledged, and each payment counts once."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from kyma_proxy.store.contract import (
    Added,
    EmailTaken,
    Entry,
    PaymentConflict,
    RowRefused,
    StoreUnavailable,
    UnknownAccount,
)
from kyma_proxy.store.sqlite.store import SqliteStore
from tests.store.factories import AT, TODAY, account, balances, charge, key, on_disk, opened, purchase


async def with_account(store: SqliteStore, name: str = "a") -> None:
    await store.create_account(account(name), key(f"key-{name}", name), [])


async def test_an_account_is_loaded_with_its_keys_its_money_and_its_state(tmp_path: Path) -> None:
    bonus = purchase("a", "a", 500, "signup_bonus")
    with opened(tmp_path / "db") as store:
        await store.create_account(account("a", created=AT - 5), key("key-a", "a"), [bonus])
        await store.create_account(account("b"), None, [])
        await store.add_entry(purchase("a", "pay", 10_000))
        await store.create_key(key("key-b", "a", created=AT - 1))
        assert await store.revoke_key("a", "key-a")
        assert await store.set_blocked("a", True)
        store.key_used("key-b", TODAY)
    with opened(tmp_path / "db", check_integrity=True) as store:
        accounts, keys = store.load()
        assert sorted(accounts) == [
            account("a", created=AT - 5)._replace(is_blocked=True, balance=10_500, purchased=10_000),
            account("b"),
        ]
        assert keys == [
            key("key-b", "a", created=AT - 1)._replace(last_used_day=TODAY),
            key("key-a", "a")._replace(is_revoked=True),
        ]
        assert {type(row.is_blocked) for row in accounts} | {type(row.is_revoked) for row in keys} == {bool}


async def test_what_is_acknowledged_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_account(store)
        await store.add_entry(purchase("a", "pay", 10_000))
        assert on_disk(path, "SELECT id, balance, purchased FROM accounts") == [("a", 10_000, 10_000)]
        assert on_disk(path, "SELECT amount FROM entries") == [(10_000,)]


async def test_a_payment_counts_once(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_account(store)
        first = await store.add_entry(purchase("a", "pay"))
        again = await store.add_entry(purchase("a", "pay")._replace(at=AT + 60, note="sent again"))
        assert (first.is_new, again) == (True, Added(first.entry, is_new=False))
        assert first.entry == purchase("a", "pay")._replace(id=first.entry.id)
        assert balances(store) == {"a": 10_000}


async def test_the_same_payment_sent_many_times_at_once_counts_once(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store)
        added = await asyncio.gather(*(store.add_entry(purchase("a", f"pay-{number % 5}")) for number in range(100)))
        assert sum(one.is_new for one in added) == 5
        assert len({one.entry.id for one in added}) == 5
        assert balances(store) == {"a": 50_000}


@pytest.mark.parametrize("other", [purchase("a", "pay", 10_001), purchase("b", "pay", 10_000)])
async def test_a_payment_id_is_refused_for_another_account_or_amount(tmp_path: Path, other: Entry) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store, "a")
        await with_account(store, "b")
        await store.add_entry(purchase("a", "pay", 10_000))
        with pytest.raises(PaymentConflict, match="purchase pay is in the ledger already: 10000 nano-dollars for a"):
            await store.add_entry(other)
        assert balances(store) == {"a": 10_000, "b": 0}


async def test_the_same_reference_of_another_kind_is_another_entry(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store)
        assert (await store.add_entry(purchase("a", "x", 10, "purchase"))).is_new
        assert (await store.add_entry(purchase("a", "x", -10, "refund"))).is_new
        assert (await store.add_entry(purchase("a", "x", 3, "adjustment"))).is_new
        ((row,), _) = store.load()
        assert (row.balance, row.purchased) == (3, 10)


async def test_an_email_is_unique_without_regard_to_case(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await store.create_account(account("a")._replace(email="Jürgen@Example.com"), None, [])
        with pytest.raises(EmailTaken):
            await store.create_account(account("b")._replace(email="jÜRGEN@example.COM"), key("key-b", "b"), [])
        accounts, keys = store.load()
        assert ([row.email for row in accounts], keys) == (["Jürgen@Example.com"], [])


async def test_one_of_many_accounts_created_at_once_with_the_same_email_is_created(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        rows = [account(f"a{number}")._replace(email="one@example.com") for number in range(20)]
        results = await asyncio.gather(*(store.create_account(row, None, []) for row in rows), return_exceptions=True)
        assert {type(result) for result in results} == {type(None), EmailTaken}
        assert results.count(None) == len(store.load()[0]) == 1


async def test_an_account_whose_entries_can_not_be_added_is_not_created(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await store.create_account(account("a"), None, [purchase("a", "bonus", 5, "signup_bonus")])
        with pytest.raises(PaymentConflict):
            await store.create_account(account("b"), key("key-b", "b"), [purchase("b", "bonus", 5, "signup_bonus")])
        with pytest.raises(UnknownAccount):
            await store.create_account(account("b"), key("key-b", "b"), [purchase("c", "other", 5)])
        assert balances(store) == {"a": 5}
        assert store.load()[1] == []


async def test_an_operation_that_is_refused_does_not_affect_the_others_of_its_group(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store)
        results = await asyncio.gather(
            store.add_entry(purchase("a", "p1")),
            store.add_entry(purchase("nobody", "p2")),
            store.create_account(account("b")._replace(email="A@example.com"), None, []),
            store.create_account(account("a")._replace(email="new@example.com"), None, []),
            store.add_entry(purchase("a", "p3", -1)),
            store.add_entry(purchase("a", "p4", 2**70)),
            store.add_entry(purchase("a", "p5", 1, "gift")),  # type: ignore[arg-type]
            store.add_entry(purchase("a", "\ud800")),
            store.create_key(key("key-x", "nobody")),
            store.create_key(key("key-a", "a")),
            store.add_entry(purchase("a", "p6")),
            return_exceptions=True,
        )
        errors = [type(result) for result in results if isinstance(result, Exception)]
        assert errors == [UnknownAccount, EmailTaken, *[RowRefused] * 5, UnknownAccount, RowRefused]
        assert balances(store) == {"a": 20_000}
        assert not store.is_failing


async def test_only_an_accounts_own_key_is_revoked(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store, "a")
        await with_account(store, "b")
        revocations = [("b", "key-a"), ("a", "none"), ("a", "key-a"), ("a", "key-a")]
        assert [await store.revoke_key(*names) for names in revocations] == [False, False, True, True]
        assert [row.is_revoked for row in store.load()[1]] == [True, False]


async def test_a_blocked_account_can_be_unblocked(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store)
        for is_blocked in (True, False):
            assert await store.set_blocked("a", is_blocked)
            assert store.load()[0][0].is_blocked is is_blocked
        assert not await store.set_blocked("nobody", True)


async def test_the_last_used_day_of_a_key_never_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_account(store)
        for day in (TODAY, TODAY + 1, TODAY - 3):
            store.key_used("key-a", day)
        store.key_used("unknown", TODAY)
        await store.flush()
        assert store.load()[1][0].last_used_day == TODAY + 1
        store.key_used("key-a", TODAY)
    assert on_disk(path, "SELECT last_used_day FROM keys") == [(TODAY + 1,)]


async def test_cancelling_a_caller_cancels_no_other_operation(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_account(store)
        tasks = [asyncio.create_task(store.add_entry(purchase("a", f"p{number}"))) for number in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, Added) for result in results) == 25
        again = [await store.add_entry(purchase("a", f"p{number}")) for number in range(50)]
        assert not any(one.is_new for one in again[1::2])
        assert balances(store) == {"a": 500_000}


async def test_transactions_are_paged_from_the_newest_to_the_oldest(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        for name in "ab":
            await with_account(store, name)
        for number in range(10):
            await store.add_entry(purchase("ab"[number % 2], f"p{number}", number + 1))
        store.charge(charge("a", "c1"))
        store.charge(charge("a", "c2"))
        await store.flush()
        pages, before = [], None
        while page := await store.transactions("a", before, 3):
            pages.append([entry.reference for entry in page])
            before = page[-1].id
        assert pages == [["c2", "c1", "p8"], ["p6", "p4", "p2"], ["p0"]]
        foreign = (await store.transactions("b", None, 1))[0].id
        assert [await store.transactions(*what) for what in (("a", foreign, 9), ("a", 10**9, 9), ("c", None, 9))] == [[]] * 3
        assert await store.transactions("a", None, 0) == []


async def test_entries_are_never_changed_or_deleted(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_account(store)
        await store.add_entry(purchase("a", "p"))
    for sql in ("UPDATE entries SET amount = 1", "DELETE FROM entries"):
        with pytest.raises(Exception, match="append-only"):
            on_disk(path, sql)


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store)
    store.close()
    with pytest.raises(StoreUnavailable):
        await store.add_entry(purchase("a", "p"))
    with pytest.raises(StoreUnavailable):
        await store.requests_on("a", TODAY)


async def test_a_hundred_thousand_accounts_are_loaded_whole(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path):
        pass
    numbers = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)"
    script = f"""
        INSERT INTO accounts (id, email, folded_email, created, is_blocked, balance, purchased)
        {numbers} SELECT 'a' || i, 'e' || i, 'e' || i, {AT} + i, i % 2, i * 3, i * 2 FROM n;
        INSERT INTO keys {numbers}
        SELECT 'k' || i, 'a' || i, randomblob(32), 'p' || i, 'n' || i, {AT} + i, NULL, i % 7 = 0 FROM n;
    """
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    with opened(path) as store:
        accounts, keys = store.load()
    by_id = {row.id: row for row in accounts}
    assert len(by_id) == len(keys) == 100_000
    assert by_id["a12345"] == ("a12345", "e12345", AT + 12_345, True, 37_035, 24_690)
    assert [row.id for row in keys] == [f"k{number}" for number in range(100_000)]
    assert sum(row.is_revoked for row in keys) == 14_286
