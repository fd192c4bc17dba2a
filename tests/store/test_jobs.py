"""A job holds what it may cost and gives it back when it ends, once, whatever happens; a success is charged, once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest

from kyma_proxy.store.contract import EntryKind, JobRow, RowRefused, StoreError, UnknownAccount, UsageRow, day_of
from kyma_proxy.store.sqlite.jobs import NEWEST, UNFINISHED
from kyma_proxy.store.sqlite.migrations import migrate, shipped
from kyma_proxy.store.sqlite.store import SqliteStore
from tests.store.factories import AT, FAST, TODAY, account, balances, charge, job, key, on_disk, opened, purchase

LATER = AT + 100
DAY = 86_400


async def with_accounts(store: SqliteStore, *names: str) -> None:
    for name in names:
        await store.create_account(account(name), key(f"key-{name}", name), [purchase(name, f"payment-{name}", 1_000)])


async def lines(store: SqliteStore, holder: str = "a") -> list[tuple[EntryKind, int, str]]:
    """The entries of the ledger after the purchase, the oldest first."""
    entries = await store.transactions(holder, None, 1_000)
    return [(entry.kind, entry.amount, entry.reference) for entry in reversed(entries)][1:]


def accepted(row: JobRow) -> JobRow:
    """The job, as a source has accepted it."""
    return row._replace(provider="art", provider_model="owner/app", provider_job="its-name", answer_model="stand-in", layer=3)


def ended(row: JobRow, status: str, charged: int = 0, error: str | None = None) -> JobRow:
    return row._replace(status=status, completed=LATER, charged=charged, error=error)


async def test_a_new_job_holds_the_price_of_all_its_pictures(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        row, is_new = await store.add_job(job("a", "j1", n=4, idempotency_key="k"))
        assert is_new
        assert row == job("a", "j1", n=4, idempotency_key="k")._replace(number=row.number)
        assert row.number > 0
        assert await store.job("a", "j1") == row
        assert balances(store) == {"a": 1_000 - 216}
        (held, _) = await store.transactions("a", None, 10)
        assert held == ("a", AT, "adjustment", -216, "j1", "request-j1", "m", "key-a", "held for an image job", held.id)
        assert await store.usage("a", 0, 10**6) == []


async def test_a_job_that_succeeds_gives_back_what_it_held_and_charges_what_was_delivered(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1", n=4))
        await store.job_accepted(accepted(row))
        await store.end_job(ended(accepted(row), "succeeded", charged=108))
        assert balances(store) == {"a": 1_000 - 108}
        assert await lines(store) == [("adjustment", -216, "j1"), ("refund", 216, "j1"), ("usage", -108, "j1")]
        used, back, _, _ = await store.transactions("a", None, 10)
        assert used == ("a", LATER, "usage", -108, "j1", "request-j1", "stand-in", "key-a", None, used.id)
        assert (back.model, back.note) == ("stand-in", "what was held for an image job")
        assert await store.usage("a", 0, 10**6) == [UsageRow(day_of(LATER), "stand-in", "key-a", 1, 0, 0, 0, 108)]
        assert await store.job("a", "j1") == ended(accepted(row), "succeeded", 108)
        assert await store.requests_on("a", day_of(LATER)) == 1


@pytest.mark.parametrize("status", ["failed", "refunded", "expired"])
async def test_a_job_that_does_not_succeed_gives_back_what_it_held_and_is_no_usage(tmp_path: Path, status: str) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1", n=2))
        await store.end_job(ended(row, status, error="job_lost"))
        assert balances(store) == {"a": 1_000}
        assert await lines(store) == [("adjustment", -108, "j1"), ("refund", 108, "j1")]
        assert await store.usage("a", 0, 10**6) == []
        found = await store.job("a", "j1")
        assert found is not None
        assert (found.status, found.completed, found.charged, found.error) == (status, LATER, 0, "job_lost")


@pytest.mark.parametrize("second", ["succeeded", "failed", "refunded", "expired"])
@pytest.mark.parametrize("first", ["succeeded", "failed"])
async def test_a_job_ends_only_once(tmp_path: Path, first: str, second: str) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1", n=2))
        charged = 54 if first == "succeeded" else 0
        await store.end_job(ended(row, first, charged))
        once = balances(store), await lines(store), await store.job("a", "j1")
        for _ in range(2):
            await store.end_job(ended(accepted(row), second, 108 if second == "succeeded" else 0)._replace(completed=LATER + 1))
            await store.job_accepted(accepted(row))
        assert (balances(store), await lines(store), await store.job("a", "j1")) == once
    with opened(path, check_integrity=True) as store:
        await store.end_job(ended(row, second))
        assert (balances(store), await lines(store), await store.job("a", "j1")) == once
        assert (await store.usage("a", 0, 10**6) != []) is (first == "succeeded")


async def test_a_job_can_end_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1", n=2))
        await store.job_accepted(accepted(row))
    with opened(path, check_integrity=True) as store:
        (found,) = store.unfinished_jobs(0)
        assert found == accepted(row)._replace(status="processing")
        await store.end_job(ended(found, "succeeded", 54))
        assert balances(store) == {"a": 1_000 - 54}
        assert await lines(store) == [("adjustment", -108, "j1"), ("refund", 108, "j1"), ("usage", -54, "j1")]


async def test_a_job_that_costs_nothing_is_no_line_of_the_ledger_and_is_counted_as_usage(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1", n=4, price=0))
        await store.end_job(ended(row, "succeeded"))
        lost, _ = await store.add_job(job("a", "j2", price=0))
        await store.end_job(ended(lost, "succeeded"))
        assert await store.lose_job(ended(lost, "refunded"))
        assert (balances(store), await lines(store)) == ({"a": 1_000}, [])
        assert await store.requests_on("a", day_of(LATER)) == 1  # the lost one is taken back


async def test_image_jobs_are_counted_with_the_other_requests_of_their_day(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        for name in ("j1", "j2"):
            row, _ = await store.add_job(job("a", name))
            await store.end_job(ended(row, "succeeded", 54))
        store.charge(charge("a", "r1", 7, key="key-a"))
        await store.flush()
        assert await store.usage("a", TODAY, TODAY) == [UsageRow(TODAY, "m", "key-a", 3, 100, 10, 1, 115)]


# ---- delivered and lost pictures


async def test_pictures_that_were_lost_before_delivery_are_refunded_once(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1", n=2))
        done = ended(accepted(row), "succeeded", 108)
        await store.end_job(done)
        gone = ended(accepted(row), "refunded", 0, "job_lost")._replace(completed=LATER + 5)
        assert await store.lose_job(gone)
        assert not await store.lose_job(gone)
        assert balances(store) == {"a": 1_000}
        assert (await lines(store))[2:] == [("usage", -108, "j1"), ("refund", 108, "j1 lost")]
        assert [(row.requests, row.cost) for row in await store.usage("a", TODAY, TODAY)] == [(0, 0)]
        (back, *_) = await store.transactions("a", None, 10)
        assert (back.at, back.request_id, back.model, back.key, back.note) == (
            LATER + 5, "request-j1", "stand-in", "key-a", "a lost picture",
        )  # fmt: skip
        assert await store.job("a", "j1") == gone
    with opened(path, check_integrity=True) as store:
        assert not await store.lose_job(gone)
        assert store.unfinished_jobs(0) == []
        assert balances(store) == {"a": 1_000}


async def test_pictures_that_were_delivered_are_never_refunded(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1"))
        await store.end_job(ended(row, "succeeded", 54))
        await store.job_delivered("j1")
        await store.job_delivered("j1")
        assert not await store.lose_job(ended(row, "refunded"))
        assert balances(store) == {"a": 1_000 - 54}
        found = await store.job("a", "j1")
        assert found is not None
        assert (found.status, found.charged, found.is_delivered) == ("succeeded", 54, True)


@pytest.mark.parametrize("status", ["pending", "processing", "failed", "refunded", "expired", None])
async def test_only_a_job_that_succeeded_can_be_lost(tmp_path: Path, status: str | None) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        row = job("a", "j1")
        if status is not None:
            row, _ = await store.add_job(row)
        if status == "processing":
            await store.job_accepted(accepted(row))
        elif status not in (None, "pending"):
            await store.end_job(ended(row, status))
        before = balances(store), await lines(store)
        assert not await store.lose_job(ended(row, "refunded"))
        assert (balances(store), await lines(store)) == before


# ---- idempotency


async def test_an_idempotency_key_names_one_job_of_each_account(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_accounts(store, "a", "b")
        first, _ = await store.add_job(job("a", "j1", idempotency_key="k"))
        assert await store.add_job(job("a", "j2", n=4, idempotency_key="k")) == (first, False)
        other, is_new = await store.add_job(job("b", "j3", idempotency_key="k"))
        assert is_new
        assert other.number > first.number
        assert balances(store) == {"a": 1_000 - 54, "b": 1_000 - 54}
        assert await store.job_of_key("a", "k") == first
        assert await store.job_of_key("b", "k") == other
        assert await store.job_of_key("c", "k") is await store.job_of_key("a", "l") is None
        assert await store.job("a", "j2") is None
    with opened(path, check_integrity=True) as store:
        await store.end_job(ended(first, "failed"))
        existing, is_new = await store.add_job(job("a", "j4", idempotency_key="k"))
        assert (existing.id, existing.status, is_new) == ("j1", "failed", False)
        assert balances(store) == {"a": 1_000, "b": 1_000 - 54}


async def test_jobs_added_at_once_with_one_idempotency_key_are_one_job_and_hold_once(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        added = await asyncio.gather(*(store.add_job(job("a", f"j{at}", n=2, idempotency_key="k")) for at in range(20)))
        assert sum(is_new for _, is_new in added) == 1
        assert len({row for row, _ in added}) == 1
        assert balances(store) == {"a": 1_000 - 108}
        assert len(await lines(store)) == 1
        assert len(await store.jobs("a", None, 10)) == 1


async def test_jobs_without_an_idempotency_key_are_all_different(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        added = await asyncio.gather(*(store.add_job(job("a", f"j{at}")) for at in range(10)))
        assert all(is_new for _, is_new in added)
        assert len({row.number for row, _ in added}) == 10
        assert balances(store) == {"a": 1_000 - 540}


async def test_an_idempotency_key_may_be_used_again_after_its_job_was_deleted(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1", idempotency_key="k"))
        await store.end_job(ended(row, "failed"))
        await store.forget_jobs(AT + 1)
        _, is_new = await store.add_job(job("a", "j2", idempotency_key="k"))
        assert is_new


# ---- reading


async def test_an_account_sees_only_its_own_jobs(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a", "b")
        await store.add_job(job("a", "j1"))
        assert await store.job("a", "j1") is not None
        assert await store.job("b", "j1") is await store.job("a", "j9") is await store.job("", "j1") is None
        assert await store.jobs("b", None, 10) == []


async def test_jobs_are_listed_newest_first_and_in_pages(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a", "b")
        for at in range(7):
            await store.add_job(job("a" if at % 3 else "b", f"j{at}", created=AT - at))
        first = await store.jobs("a", None, 3)
        assert [row.id for row in first] == ["j5", "j4", "j2"]
        assert [row.id for row in await store.jobs("a", first[-1].number, 3)] == ["j1"]
        assert [row.id for row in await store.jobs("b", None, 10)] == ["j6", "j3", "j0"]
        assert await store.jobs("a", 0, 3) == await store.jobs("c", None, 3) == []


async def test_a_start_finds_the_jobs_that_have_not_ended_and_those_that_were_not_delivered(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_accounts(store, "a", "b")
        rows = [(await store.add_job(job("ab"[at % 2], f"j{at}")))[0] for at in range(7)]
        await store.job_accepted(accepted(rows[1]))
        await store.end_job(ended(rows[2], "succeeded", 54))
        await store.end_job(ended(rows[3], "succeeded", 54))
        await store.job_delivered("j3")
        for at, status in ((4, "failed"), (5, "refunded"), (6, "expired")):
            await store.end_job(ended(rows[at], status))
    with opened(path, check_integrity=True) as store:
        found = store.unfinished_jobs(0)
        assert [(row.id, row.status) for row in found] == [("j0", "pending"), ("j1", "processing"), ("j2", "succeeded")]
        assert found[2].is_delivered is False
        assert found[1].provider_job == "its-name"


async def test_old_jobs_are_deleted_and_their_ledger_entries_are_kept(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await with_accounts(store, "a")
        old, _ = await store.add_job(job("a", "old", created=AT - 40 * DAY))
        await store.end_job(ended(old, "succeeded", 54))
        await store.add_job(job("a", "unfinished", created=AT - 40 * DAY))
        young, _ = await store.add_job(job("a", "young"))
        await store.end_job(ended(young, "failed"))
        before = balances(store), await lines(store)
        await store.forget_jobs(AT - 30 * DAY)
        assert [row.id for row in await store.jobs("a", None, 10)] == ["young", "unfinished"]
        assert (balances(store), await lines(store)) == before
        assert await store.job("a", "old") is None


# ---- errors


@pytest.mark.parametrize("price", [54, 0])
async def test_a_job_of_an_unknown_account_is_refused_and_leaves_nothing(tmp_path: Path, price: int) -> None:
    with opened(tmp_path / "db") as store:
        with pytest.raises(UnknownAccount if price else StoreError):
            await store.add_job(job("nobody", "j1", price=price))
        assert store.unfinished_jobs(0) == []


@pytest.mark.parametrize("wrong", [job("a", "x", n=0), job("a", "x", n=5), job("a", "x", price=-1), job("a", "taken")])
async def test_a_job_that_is_refused_holds_nothing(tmp_path: Path, wrong: JobRow) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        await store.add_job(job("a", "taken"))
        with pytest.raises(StoreError):
            await store.add_job(wrong)
        assert (balances(store), len(store.unfinished_jobs(0))) == ({"a": 1_000 - 54}, 1)
    with opened(tmp_path / "db", check_integrity=True):
        pass


@pytest.mark.parametrize("charged", [-1, 109])
async def test_a_job_is_never_charged_more_than_it_held_nor_less_than_nothing(tmp_path: Path, charged: int) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        row, _ = await store.add_job(job("a", "j1", n=2))
        with pytest.raises(RowRefused):
            await store.end_job(ended(row, "succeeded", charged))
        assert balances(store) == {"a": 1_000 - 108}
        assert [one.status for one in store.unfinished_jobs(0)] == ["pending"]


async def test_changes_of_a_job_that_does_not_exist_do_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_accounts(store, "a")
        await store.end_job(ended(job("a", "j9"), "succeeded", 54))
        await store.job_accepted(accepted(job("a", "j9")))
        await store.job_delivered("j9")
        await store.forget_jobs(10**12)
        assert (balances(store), await lines(store)) == ({"a": 1_000}, [])


def test_upgrading_a_database_of_the_first_version_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, shipped()[:1])
        connection.execute("INSERT INTO accounts VALUES ('a', 'a@example.com', 'a@example.com', 1, 0, 90, 100, 2)")
        connection.execute("INSERT INTO keys VALUES ('k', 'a', ?, 'ky-abc', 'default', 1, NULL, 0)", (b"x" * 32,))
        connection.execute("INSERT INTO entries VALUES (1, 'a', NULL, 1, 'purchase', 100, 'p', NULL, NULL, NULL, NULL)")
        connection.execute("INSERT INTO entries VALUES (2, 'a', 1, 2, 'usage', -10, 'r', 'q', 'm', 'k', NULL)")
        connection.execute("INSERT INTO usage VALUES (0, 'a', 'm', 'k', 1, 5, 5, 0, 10)")
    tables = ("accounts", "keys", "entries", "usage")
    before = {table: on_disk(path, f"SELECT * FROM {table}") for table in tables}
    assert on_disk(path, "PRAGMA user_version") == [(1,)]

    async def used() -> None:
        with opened(path, check_integrity=True) as store:
            assert {table: on_disk(path, f"SELECT * FROM {table}") for table in tables} == before
            assert store.unfinished_jobs(0) == []
            await store.add_job(job("a", "j1"))
            assert balances(store) == {"a": 90 - 54}

    asyncio.run(used())
    assert on_disk(path, "PRAGMA user_version") == [(len(shipped()),)]
    with opened(path, check_integrity=True):
        pass


def test_no_column_of_a_job_could_hold_its_prompt_or_pictures(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path):
        pass
    columns = {name for _, name, *_ in on_disk(path, "PRAGMA table_info(jobs)")}
    assert columns == {
        "number", "id", "account", "key", "request_id", "idempotency_key", "digest", "model", "n", "price", "created", "status",
        "completed", "charged", "error", "delivered", "provider", "provider_model", "provider_job", "answer_model", "layer",
    }  # fmt: skip


def test_listing_jobs_and_finding_unfinished_ones_use_an_index(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        values = {"account": "a", "before": 5, "limit": 5}
        newest = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {NEWEST}", values)]
        unfinished = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {UNFINISHED}", {"since": 0})]
    assert newest == ["SEARCH jobs USING INDEX jobs_of (account=? AND number<?)"]
    assert unfinished == ["SCAN jobs USING INDEX jobs_unfinished"]


# ---- any history


class Expected(NamedTuple):
    """The expected state of a job."""

    row: JobRow
    status: str = "pending"
    charged: int = 0
    delivered: bool = False

    @property
    def costs(self) -> int:
        """The amount that it takes from its account at this moment."""
        return self.row.price * self.row.n if self.status in ("pending", "processing") else self.charged


async def _change(store: SqliteStore, chance: random.Random, expected: dict[str, Expected], number: int) -> None:
    """Make one change to the store, and the same to the expected state."""
    what = chance.choice(["add", "add", "accept", "end", "end", "end", "lose", "deliver", "charge"])
    if what == "add" or not expected:
        wanted = job(chance.choice("ab"), f"j{number}", n=chance.randint(1, 4), price=chance.choice([0, 54, 10**9]))
        wanted = wanted._replace(idempotency_key=chance.choice([None, "k1", "k2", "k3"]), created=AT + number)
        row, is_new = await store.add_job(wanted)
        same = [
            one for one in expected.values()
            if wanted.idempotency_key and (one.row.account, one.row.idempotency_key) == (wanted.account, wanted.idempotency_key)
        ]  # fmt: skip
        assert is_new is not bool(same)
        if is_new:
            expected[row.id] = Expected(row)
        return
    name = chance.choice(list(expected))
    one = expected[name]
    is_open = one.status in ("pending", "processing")
    if what == "accept":
        await store.job_accepted(accepted(one.row))
        if is_open:
            expected[name] = one._replace(status="processing")
    elif what == "end":
        status = chance.choice(["succeeded", "failed", "refunded", "expired"])
        charged = chance.randint(1, one.row.n) * one.row.price if status == "succeeded" else 0
        await store.end_job(ended(one.row, status, charged))
        if is_open:
            expected[name] = one._replace(status=status, charged=charged)
    elif what == "lose":
        is_lost = await store.lose_job(ended(one.row, "refunded"))
        assert is_lost is (one.status == "succeeded" and not one.delivered)
        if is_lost:
            expected[name] = one._replace(status="refunded", charged=0)
    elif what == "deliver" and one.status == "succeeded":
        await store.job_delivered(name)
        expected[name] = one._replace(delivered=True)


@pytest.mark.parametrize("seed", range(6))
async def test_the_balance_is_the_sum_of_the_ledger_after_any_history_of_jobs(tmp_path: Path, seed: int) -> None:
    path, chance = tmp_path / "db", random.Random(seed)
    expected: dict[str, Expected] = {}
    store = SqliteStore.open(path, timing=FAST)
    try:
        await with_accounts(store, "a", "b")
        for number in range(120):
            if chance.random() < 0.02:
                store.close()
                store = SqliteStore.open(path, check_integrity=True, timing=FAST)
            await _change(store, chance, expected, number)
        assert balances(store) == {
            name: 1_000 - sum(one.costs for one in expected.values() if one.row.account == name) for name in "ab"
        }
        for name in "ab":
            rows = await store.jobs(name, None, 1_000)
            assert {row.id: (row.status, row.charged, row.is_delivered) for row in rows} == {
                one.row.id: one[1:] for one in expected.values() if one.row.account == name
            }
            assert [row.number for row in rows] == sorted((row.number for row in rows), reverse=True)
    finally:
        store.close()
    assert on_disk(path, "SELECT sum(balance) FROM accounts") == on_disk(path, "SELECT sum(amount) FROM entries")
    with opened(path, check_integrity=True) as store:
        assert {row.id for row in store.unfinished_jobs(0)} == {
            name for name, one in expected.items()
            if one.status in ("pending", "processing") or (one.status == "succeeded" and not one.delivered)
        }  # fmt: skip
