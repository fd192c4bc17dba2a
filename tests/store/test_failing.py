"""While the disk can't be written, everything is kept and no caller is told a lie; afterwards nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kyma_proxy.store.contract import Added, StoreUnavailable
from kyma_proxy.store.sqlite import charges
from kyma_proxy.store.sqlite.inbox import Capacity
from kyma_proxy.store.sqlite.store import SqliteStore
from tests.processes import environment
from tests.store.factories import (
    FAST,
    TODAY,
    account,
    balances,
    charge,
    impatient,
    key,
    locked_by_another_process,
    on_disk,
    opened,
    opened_with_connection,
    purchase,
)
from tests.waiting import PATIENCE_S, until

Failure = Callable[[sqlite3.Connection, Path], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def full(connection: sqlite3.Connection, _: Path) -> Iterator[None]:
    """The database may not have one page more."""
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    yield
    connection.execute("PRAGMA max_page_count = 1000000").fetchall()


@contextlib.contextmanager
def read_only(connection: sqlite3.Connection, _: Path) -> Iterator[None]:
    """SQLite refuses to write, as on a file system that was remounted."""
    connection.execute("PRAGMA query_only = ON")
    yield
    connection.execute("PRAGMA query_only = OFF")


@contextlib.contextmanager
def locked(_: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Another program writes."""
    with locked_by_another_process(path):
        yield


EVERY_FAILURE = pytest.mark.parametrize(
    ("failure", "error"),
    [(full, "disk is full"), (read_only, "readonly database"), (locked, "locked")],
    ids=["full", "read_only", "locked"],
)


async def with_account(store: SqliteStore) -> None:
    await store.create_account(account("a"), key("key-a", "a"), [])


def many(count: int, first: int = 0) -> range:
    return range(first, first + count)


@EVERY_FAILURE
async def test_charges_and_operations_that_can_not_be_written_now_are_written_later_and_once(
    tmp_path: Path, failure: Failure, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "db"
    with opened_with_connection(path) as (store, connection), caplog.at_level(logging.INFO, "kyma-proxy"):
        await with_account(store)
        assert (store.is_failing, store.last_error) == (False, None)
        with failure(connection, path):
            for number in many(3_000):
                store.charge(charge("a", f"r{number}"))
            await until(lambda: store.is_failing)
            for number in many(50):
                store.charge(charge("a", f"late{number}"))
            store.key_used("key-a", TODAY)
            waiting = [asyncio.create_task(store.add_entry(purchase("a", f"p{number}"))) for number in many(10)]
            commits = store.statistics().commits
            await until(lambda: store.last_error and error in store.last_error)
            assert not any(task.done() for task in waiting)
            assert store.is_failing
            assert 50 <= store.waiting <= 3_050
            assert await store.requests_on("a", TODAY) + store.waiting == 3_050  # those that fitted in are there
            assert store.statistics().commits == commits
        assert all(added.is_new for added in await asyncio.gather(*waiting))
        assert (store.is_failing, store.waiting, store.statistics().lost) == (False, 0, 0)
        assert balances(store) == {"a": 100_000 - 3_050 * 7}
        assert await store.requests_on("a", TODAY) == 3_050
        references = [entry.reference for entry in await store.transactions("a", None, 9_999) if entry.kind == "usage"]
        assert references == [*(f"late{49 - n}" for n in many(50)), *(f"r{2999 - n}" for n in many(3_000))]
        assert [record.message.split("; ")[-1] for record in caplog.records] == [
            "what waits is kept and tried again", caplog.records[-1].message.split("; ")[-1],
        ]  # fmt: skip
        assert "can be written again" in caplog.records[-1].message
    with opened(path, check_integrity=True) as store:
        assert store.load()[1][0].last_used_day == TODAY


@EVERY_FAILURE
async def test_an_operation_that_is_reported_as_failed_is_not_done_later_and_may_be_repeated(
    tmp_path: Path, failure: Failure, error: str
) -> None:
    path = tmp_path / "db"
    with opened_with_connection(path) as (store, connection):
        await with_account(store)
        with failure(connection, path), impatient(store):
            for number in many(3_000):
                store.charge(charge("a", f"r{number}"))
            await until(lambda: store.is_failing)
            payments = [store.add_entry(purchase("a", f"p{number}")) for number in many(20)]
            new_account = store.create_account(account("b"), None, [])
            results = await asyncio.gather(*payments, new_account, return_exceptions=True)
            assert {type(result) for result in results} == {StoreUnavailable}
            assert all(error in str(result) for result in results)
        await until(lambda: not store.is_failing)
        await store.flush()
        assert balances(store) == {"a": -21_000}
        assert (await store.add_entry(purchase("a", "p3"))).is_new
        assert not (await store.add_entry(purchase("a", "p3"))).is_new
        assert balances(store) == {"a": -11_000}


@EVERY_FAILURE
async def test_operations_without_charges_wait_for_a_failing_disk_too(tmp_path: Path, failure: Failure, error: str) -> None:
    path = tmp_path / "db"
    with opened_with_connection(path) as (store, connection):
        await with_account(store)
        note = "a long story " * 1_000
        with failure(connection, path):
            waiting = [asyncio.create_task(store.add_entry(purchase("a", f"p{n}")._replace(note=note))) for n in many(9)]
            await until(lambda: store.last_error and error in store.last_error)
            assert not any(task.done() for task in waiting)
        assert all(added.is_new for added in await asyncio.gather(*waiting))
        assert balances(store) == {"a": 90_000}
    with opened(path, check_integrity=True):
        pass


async def test_an_operation_whose_deadline_has_passed_when_its_commit_fails_is_not_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path, FAST._replace(busy_timeout=0.4)) as store:
        await with_account(store)
        times_out = pytest.raises(StoreUnavailable, match="database is locked")
        with locked_by_another_process(path), impatient(store), times_out:
            await store.add_entry(purchase("a", "late"))
        await store.flush()
        assert balances(store) == {"a": 0}


async def test_an_operation_behind_a_stuck_commit_times_out_and_the_one_in_that_commit_reports_what_became_of_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "db"
    with opened(path, FAST._replace(busy_timeout=PATIENCE_S)) as store:
        await with_account(store)
        with locked_by_another_process(path), impatient(store):
            stuck = asyncio.create_task(store.add_entry(purchase("a", "stuck")))
            await until(lambda: store.statistics().is_committing)
            with pytest.raises(StoreUnavailable, match="nothing was changed"):
                await store.add_entry(purchase("a", "behind"))
            await until(lambda: store.is_failing)  # as the commit takes too long
            assert not stuck.done()
        assert (await stuck).is_new
        await until(lambda: not store.is_failing)
        await store.flush()
        assert balances(store) == {"a": 10_000}


async def test_cancelling_callers_while_the_disk_fails_cancels_no_other_operation(tmp_path: Path) -> None:
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


async def test_the_store_fails_when_too_many_charges_wait_and_loses_them_only_at_twice_that_number(
    tmp_path: Path,
) -> None:
    path = tmp_path / "db"
    with opened(path, FAST._replace(busy_timeout=PATIENCE_S), capacity=Capacity(waiting=10, held=20)) as store:
        await with_account(store)
        with locked_by_another_process(path):
            for number in many(30):
                assert store.is_failing is (number >= 10)
                store.charge(charge("a", f"r{number}"))
                store.key_used("key-a", TODAY)
            statistics = store.statistics()
            assert (store.waiting, statistics.lost, statistics.waiting_key_uses) == (20, 10, 10)
        await until(lambda: not store.is_failing)
        await store.flush()
        assert [entry.reference for entry in await store.transactions("a", None, 99)] == [f"r{19 - n}" for n in many(20)]


async def test_too_many_waiting_operations_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path, capacity=Capacity(operations=5)) as store:
        await with_account(store)
        with locked_by_another_process(path):
            tasks = [asyncio.create_task(store.add_entry(purchase("a", f"p{number}"))) for number in many(8)]
            await until(lambda: sum(task.done() for task in tasks) == 3)
            assert all(isinstance(task.exception(), StoreUnavailable) for task in tasks[5:])
        assert all(added.is_new for added in await asyncio.gather(*tasks[:5]))


async def test_closing_gives_up_on_a_failing_disk_and_logs_how_many_charges_are_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "db"
    with opened(path) as store, caplog.at_level(logging.ERROR, "kyma-proxy"):
        await with_account(store)
        with locked_by_another_process(path):
            for number in many(30):
                store.charge(charge("a", f"r{number}"))
            payment = asyncio.create_task(store.add_entry(purchase("a", "p")))
            await until(lambda: store.is_failing)
            with impatient(store, 0.2):
                await asyncio.to_thread(store.close)
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(payment, PATIENCE_S / 2)
        assert "closed with 30 charges that could not be written: database is locked" in caplog.text
    with opened(path, check_integrity=True) as store:
        assert balances(store) == {"a": 0}


async def test_a_bug_in_the_gateway_loses_no_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken(*_: object) -> None:
        raise NameError("a name that is not there")

    with opened(tmp_path / "db") as store, caplog.at_level(logging.ERROR, "kyma-proxy"):
        await with_account(store)
        with monkeypatch.context() as patch:
            patch.setattr(charges, "write_charges", mistaken)
            store.charge(charge("a", "r"))
            await until(lambda: store.is_failing)
        await until(lambda: not store.is_failing)
        await store.flush()
        assert balances(store) == {"a": -7}
        assert "NameError" in caplog.text


async def test_the_database_can_be_read_while_it_can_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as store:
        await with_account(store)
        await store.add_entry(purchase("a", "p"))
        with locked_by_another_process(path):
            store.charge(charge("a", "r"))
            await until(lambda: store.is_failing)
            assert [entry.reference for entry in await store.transactions("a", None, 9)] == ["p"]
            assert balances(store) == {"a": 10_000}


async def test_a_database_that_is_damaged_while_it_is_open_can_not_be_read_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path):
        pass
    ((root,),) = on_disk(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'usage'")
    with opened(path) as store:
        with path.open("r+b") as file:
            file.seek((root - 1) * 4096)
            file.write(b"\xff" * 4096)
        with pytest.raises(StoreUnavailable, match="the database can't be read: database disk image is malformed"):
            await store.requests_on("a", TODAY)


FILLS_THE_DISK = """
import asyncio, resource, sys
from pathlib import Path
from kyma_proxy.store.contract import StoreUnavailable
from tests.store.factories import FAST, account, balances, charge, opened, purchase
from tests.waiting import until

async def main():
    path = Path(sys.argv[1])
    with opened(path, FAST) as store:
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
        store.timing = FAST._replace(timeout=0.2)
        try:
            await store.add_entry(purchase("a", "p"))
            print("acknowledged")
        except StoreUnavailable as error:
            print(error)
        store.timing = FAST
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await until(lambda: not store.is_failing)
        await store.flush()
        assert store.statistics().lost == 0
        assert balances(store) == {"a": -7 * number}, (balances(store), number)
    with opened(path, check_integrity=True) as store:
        assert balances(store) == {"a": -7 * number}
    print("nothing is lost")

asyncio.run(main())
"""


def test_nothing_is_lost_when_a_full_disk_has_room_again(tmp_path: Path) -> None:
    line = [sys.executable, "-c", FILLS_THE_DISK, str(tmp_path / "db")]
    result = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    lines = result.stdout.splitlines()
    assert (result.returncode, lines[-1:]) == (0, ["nothing is lost"]), result.stderr
    assert lines[0].startswith("the database could not be written in time: "), lines
    assert on_disk(tmp_path / "db", "PRAGMA integrity_check") == [("ok",)]


async def test_a_thousand_payments_at_once_take_few_commits(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await with_account(store)
        before = store.statistics().commits
        added = await asyncio.gather(*(store.add_entry(purchase("a", f"p{number}")) for number in many(1_000)))
        assert all(isinstance(one, Added) and one.is_new for one in added)
        assert store.statistics().commits - before < 100
