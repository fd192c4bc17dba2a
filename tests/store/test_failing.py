"""While the disk can't be written everything is kept and nobody is told a lie; afterwards nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kyma_proxy.store.contract import Added, StoreUnavailable
from kyma_proxy.store.sqlite import ledger, writing
from kyma_proxy.store.sqlite.store import SqliteStore
from tests.processes import environment
from tests.store.material import (
    HASTY,
    TODAY,
    account,
    balances,
    charge,
    key,
    locked_by_another_process,
    on_disk,
    opened,
    purchase,
)
from tests.waiting import PATIENCE_S, until

Trouble = Callable[[SqliteStore, Path], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def full(store: SqliteStore, _: Path) -> Iterator[None]:
    """No page more for the database."""
    execute = store._writer._connection.execute
    ((pages,),) = execute("PRAGMA page_count").fetchall()
    execute(f"PRAGMA max_page_count = {pages}").fetchall()
    yield
    execute("PRAGMA max_page_count = 1000000").fetchall()


@contextlib.contextmanager
def read_only(store: SqliteStore, _: Path) -> Iterator[None]:
    """SQLite refuses to write, as on a file system that was remounted."""
    store._writer._connection.execute("PRAGMA query_only = ON")
    yield
    store._writer._connection.execute("PRAGMA query_only = OFF")


@contextlib.contextmanager
def locked(_: SqliteStore, path: Path) -> Iterator[None]:
    """Somebody else writes."""
    with locked_by_another_process(path):
        yield


TROUBLES = pytest.mark.parametrize(
    ("trouble", "says"),
    [(full, "disk is full"), (read_only, "readonly database"), (locked, "locked")],
    ids=["full", "read_only", "locked"],
)


@contextlib.contextmanager
def impatient(store: SqliteStore, patience: float = 0.15) -> Iterator[None]:
    """What is asked in this block is given up soon."""
    timing = store._writer._timing
    store._writer._timing = timing._replace(patience=patience)
    yield
    store._writer._timing = timing


async def with_account(store: SqliteStore) -> None:
    await store.create_account(account("a"), key("key-a", "a"), [])


def many(count: int, first: int = 0) -> range:
    return range(first, first + count)


@TROUBLES
async def test_what_can_not_be_written_now_is_written_later_and_once(
    tmp_path: Path, trouble: Trouble, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "db"
    with opened(path) as store, caplog.at_level(logging.INFO, "kyma-proxy"):
        await with_account(store)
        assert not store.is_failing
        with trouble(store, path):
            for number in many(3_000):
                store.charge(charge("a", f"r{number}"))
            await until(lambda: store.is_failing)
            for number in many(50):
                store.charge(charge("a", f"late{number}"))
            store.key_used("key-a", TODAY)
            waiting = [asyncio.create_task(store.add_entry(purchase("a", f"p{number}"))) for number in many(10)]
            tried = store._writer.commits
            await until(lambda: store.last_error and says in store.last_error)
            assert not any(task.done() for task in waiting)
            assert store.is_failing
            assert 50 <= store.waiting <= 3_050
            assert await store.requests_on("a", TODAY) + store.waiting == 3_050  # those that fitted in are there
            assert store._writer.commits == tried
        assert all(added.is_new for added in await asyncio.gather(*waiting))
        assert (store.is_failing, store.waiting, store.figures.lost) == (False, 0, 0)
        assert balances(store) == {"a": 100_000 - 3_050 * 7}
        assert await store.requests_on("a", TODAY) == 3_050
        references = [entry.reference for entry in await store.transactions("a", None, 9_999) if entry.kind == "usage"]
        assert references == [*(f"late{49 - n}" for n in many(50)), *(f"r{2999 - n}" for n in many(3_000))]
        assert [record.message.split("; ")[-1] for record in caplog.records] == [
            "what is to be written is kept and tried again", caplog.records[-1].message.split("; ")[-1],
        ]  # fmt: skip
        assert "can be written again" in caplog.records[-1].message
    with opened(path, check_integrity=True) as store:
        assert store.load()[1][0].last_used_day == TODAY


@TROUBLES
async def test_what_is_reported_as_failed_is_not_done_later_and_may_be_sent_again(
    tmp_path: Path, trouble: Trouble, says: str
) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_account(store)
        with trouble(store, path), impatient(store):
            for number in many(3_000):
                store.charge(charge("a", f"r{number}"))
            await until(lambda: store.is_failing)
            asked = [store.add_entry(purchase("a", f"p{number}")) for number in many(20)]
            asked.append(store.create_account(account("b"), None, []))  # type: ignore[arg-type]
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(result) for result in results} == {StoreUnavailable}
            assert all(says in str(result) for result in results)
        await until(lambda: not store.is_failing)
        await store.settled()
        assert balances(store) == {"a": -21_000}
        assert (await store.add_entry(purchase("a", "p3"))).is_new
        assert not (await store.add_entry(purchase("a", "p3"))).is_new
        assert balances(store) == {"a": -11_000}


@TROUBLES
async def test_an_operation_alone_waits_for_the_disk_as_well(tmp_path: Path, trouble: Trouble, says: str) -> None:
    path = tmp_path / "db"
    with opened(path, check_integrity=True) as store:
        await with_account(store)
        note = "a long story " * 1_000
        with trouble(store, path):
            waiting = [asyncio.create_task(store.add_entry(purchase("a", f"p{n}")._replace(note=note))) for n in many(9)]
            await until(lambda: store.last_error and says in store.last_error)
            assert not any(task.done() for task in waiting)
        assert all(added.is_new for added in await asyncio.gather(*waiting))
        assert balances(store) == {"a": 90_000}


async def test_an_operation_whose_time_is_over_when_its_commit_fails_is_not_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path, HASTY._replace(busy=0.4)) as store:
        await with_account(store)
        failure = pytest.raises(StoreUnavailable, match="database is locked")
        with locked_by_another_process(path), impatient(store), failure:
            await store.add_entry(purchase("a", "late"))
        await store.settled()
        assert balances(store) == {"a": 0}


async def test_an_operation_is_not_held_up_by_a_thread_that_is_stuck_and_the_one_it_is_stuck_at_is_told_the_truth(
    tmp_path: Path,
) -> None:
    path = tmp_path / "db"
    with opened(path, HASTY._replace(busy=PATIENCE_S)) as store:
        await with_account(store)
        with locked_by_another_process(path), impatient(store):
            stuck = asyncio.create_task(store.add_entry(purchase("a", "stuck")))
            await until(lambda: store._writer._began)
            with pytest.raises(StoreUnavailable, match="nothing was changed"):
                await store.add_entry(purchase("a", "behind"))
            await until(lambda: store.is_failing)  # as the commit takes too long
            assert not stuck.done()
        assert (await stuck).is_new
        await until(lambda: not store.is_failing)
        await store.settled()
        assert balances(store) == {"a": 10_000}


async def test_waiters_that_are_cancelled_while_the_disk_fails_take_nothing_with_them(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_account(store)
        with locked_by_another_process(path):
            tasks = [asyncio.create_task(store.add_entry(purchase("a", f"p{number}"))) for number in many(20)]
            await until(lambda: store.is_failing)
            for task in tasks[::2]:
                task.cancel()
            await until(lambda: all(task.cancelled() for task in tasks[::2]))
        assert all(added.is_new for added in await asyncio.gather(*tasks[1::2]))
        await asyncio.gather(*(store.add_entry(purchase("a", f"p{number}")) for number in many(20)))
        assert balances(store) == {"a": 200_000}
    with opened(path, check_integrity=True):
        pass


async def test_so_many_charges_may_wait_before_the_store_says_that_it_fails_and_so_many_before_they_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_WAITING", 10)
    monkeypatch.setattr(writing, "_MAX_HELD", 20)
    path = tmp_path / "db"
    with opened(path, HASTY._replace(busy=PATIENCE_S)) as store:
        await with_account(store)
        with locked_by_another_process(path):
            for number in many(30):
                assert store.is_failing is (number >= 10)
                store.charge(charge("a", f"r{number}"))
                store.key_used("key-a", TODAY)
            assert (store.waiting, store.figures.lost, len(store._writer._days)) == (20, 10, 10)
        await until(lambda: not store.is_failing)
        await store.settled()
        assert [entry.reference for entry in await store.transactions("a", None, 99)] == [f"r{19 - n}" for n in many(20)]


async def test_so_many_operations_may_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_MAX_OPERATIONS", 5)
    path = tmp_path / "db"
    with opened(path) as store:
        await with_account(store)
        with locked_by_another_process(path):
            tasks = [asyncio.create_task(store.add_entry(purchase("a", f"p{number}"))) for number in many(8)]
            await until(lambda: sum(task.done() for task in tasks) == 3)
            assert all(isinstance(task.exception(), StoreUnavailable) for task in tasks[5:])
        assert all(added.is_new for added in await asyncio.gather(*tasks[:5]))


async def test_closing_gives_up_a_disk_that_fails_and_says_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "db"
    with opened(path) as store, caplog.at_level(logging.ERROR, "kyma-proxy"):
        await with_account(store)
        with locked_by_another_process(path):
            for number in many(30):
                store.charge(charge("a", f"r{number}"))
            asked = asyncio.create_task(store.add_entry(purchase("a", "p")))
            await until(lambda: store.is_failing)
            with impatient(store, 0.2):
                await asyncio.to_thread(store.close)
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(asked, PATIENCE_S / 2)
        assert "closed with 30 charges that could not be written: database is locked" in caplog.text
    with opened(path, check_integrity=True) as store:
        assert balances(store) == {"a": 0}


async def test_a_mistake_of_the_gateways_loses_no_charge_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "db") as store, caplog.at_level(logging.ERROR, "kyma-proxy"):
        await with_account(store)
        with monkeypatch.context() as patch:
            patch.delattr(ledger, "_json")
            store.charge(charge("a", "r"))
            await until(lambda: store.is_failing)
        await until(lambda: not store.is_failing)
        await store.settled()
        assert balances(store) == {"a": -7}
        assert "NameError" in caplog.text


async def test_reading_goes_on_while_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_account(store)
        await store.add_entry(purchase("a", "p"))
        with locked_by_another_process(path):
            store.charge(charge("a", "r"))
            await until(lambda: store.is_failing)
            assert [entry.reference for entry in await store.transactions("a", None, 9)] == ["p"]
            assert balances(store) == {"a": 10_000}


async def test_a_database_that_can_not_be_read_says_so(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        store._reader._connection.set_progress_handler(lambda: 1, 1)
        with pytest.raises(StoreUnavailable, match="can't be read: interrupted"):
            await store.requests_on("a", TODAY)


FILLS_THE_DISK = """
import asyncio, resource, sys
from pathlib import Path
from kyma_proxy.store.contract import StoreUnavailable
from tests.store.material import HASTY, account, balances, charge, opened, purchase
from tests.waiting import until

async def main():
    path = Path(sys.argv[1])
    with opened(path, HASTY) as store:
        await store.create_account(account("a"), None, [])
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        number = 0
        while not store.is_failing:
            number += 1
            store.charge(charge("a", f"r{number}"))
            await asyncio.sleep(0)
        for _ in range(500):
            number += 1
            store.charge(charge("a", f"r{number}"))
        store._writer._timing = HASTY._replace(patience=0.2)
        try:
            await store.add_entry(purchase("a", "p"))
            print("acknowledged")
        except StoreUnavailable as error:
            print(error)
        store._writer._timing = HASTY
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await until(lambda: not store.is_failing)
        await store.settled()
        assert store.figures.lost == 0
        assert balances(store) == {"a": -7 * number}, (balances(store), number)
    with opened(path, check_integrity=True) as store:
        assert balances(store) == {"a": -7 * number}
    print("nothing is lost")

asyncio.run(main())
"""


def test_a_disk_that_refuses_to_take_more_costs_nothing_once_there_is_room(tmp_path: Path) -> None:
    line = [sys.executable, "-c", FILLS_THE_DISK, str(tmp_path / "db")]
    result = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    said = result.stdout.splitlines()
    assert (result.returncode, said[-1:]) == (0, ["nothing is lost"]), result.stderr
    assert said[0].startswith("the database could not be written in time: "), said
    assert on_disk(tmp_path / "db", "PRAGMA integrity_check") == [("ok",)]


async def test_a_thousand_payments_at_once_are_few_commits(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store)
        before = store.figures.commits
        added = await asyncio.gather(*(store.add_entry(purchase("a", f"p{number}")) for number in many(1_000)))
        assert all(isinstance(one, Added) and one.is_new for one in added)
        assert store.figures.commits - before < 100
