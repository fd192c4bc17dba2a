"""A database that can't be opened is reported in one line that says what to do; an upgrade is done whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kyma_proxy.errors import StartError
from kyma_proxy.store.sqlite import migrations
from kyma_proxy.store.sqlite.failures import is_disk_failure, start_error
from kyma_proxy.store.sqlite.migrations import migrate, shipped
from kyma_proxy.store.sqlite.opening import connect
from kyma_proxy.store.sqlite.store import Connect, SqliteStore
from tests.processes import environment
from tests.store.factories import (
    FAST,
    account,
    balances,
    charge,
    key,
    locked_by_another_process,
    on_disk,
    opened,
    opened_with_connection,
    purchase,
)
from tests.waiting import PATIENCE_S

NOBODY = 65_534
OPENS = """
import os, sys
from functools import partial
from pathlib import Path
from kyma_proxy.errors import StartError
from kyma_proxy.store.sqlite.migrations import shipped
from kyma_proxy.store.sqlite.opening import connect
from kyma_proxy.store.sqlite.store import Connect, SqliteStore

def report(path):
    try:
        SqliteStore.open(Path(path), connect=connect_here).close()
        print("opened")
    except StartError as error:
        print(error)

path, rehearsal, user = sys.argv[1:]
connect_here = partial(connect, migrations=shipped())
for place in ("db", "missing/db"):
    report(f"{rehearsal}/{place}")
if user:
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
report(path)
"""


def opened_by_another_process(path: Path, rehearsal: Path, *, user: int | None = None) -> str:
    """What a process that opens the database reports; it runs as `user` if one is given.

    Before it becomes that user, it opens a database in the empty directory `rehearsal`, and fails to open another one: then
    nothing has to be read from the package or from Python's library by a user who may have no access to them.
    """
    line = [sys.executable, "-c", OPENS, str(path), str(rehearsal), "" if user is None else str(user)]
    result = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    first, second, report = result.stdout.splitlines()
    assert (first, "there is no directory" in second) == ("opened", True)
    return report


def refusal(path: Path, *, check_integrity: bool = False, connect: Connect = connect) -> str:
    """The error with which the database can't be opened: one line, which begins with its name."""
    with pytest.raises(StartError) as caught:
        SqliteStore.open(path, check_integrity=check_integrity, timing=FAST, connect=connect).close()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}")
    return text


def sql(path: Path, script: str) -> None:
    """Run a script in the database, as another program would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A database of two accounts, with credits and usage."""
    import asyncio

    async def fill() -> None:
        with opened(path) as store:
            for name in "ab":
                await store.create_account(account(name), key(f"key-{name}", name), [])
                for number in range(20):
                    await store.add_entry(purchase(name, f"{name}{number}"))
                    store.charge(charge(name, f"{name}{number}"))

    path = tmp_path / "db"
    asyncio.run(fill())
    return path


def test_a_new_database_can_be_read_by_its_owner_only_and_needs_nothing_but_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "a name with ? # % in it.db"
    with opened(path) as store:
        assert store.load() == ([], [])
        modes = {file.name.removeprefix(path.name): file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        assert modes == {"": 0o600, ".lock": 0o600, "-wal": 0o600, "-shm": 0o600}
    assert sorted(file.name.removeprefix(path.name) for file in tmp_path.iterdir()) == ["", ".lock"]


def test_a_commit_waits_until_the_disk_has_it(tmp_path: Path) -> None:
    """No test can cut the power; with less than FULL a payment that was acknowledged could be lost with it."""
    with opened_with_connection(tmp_path / "db") as (_, connection):
        ((synchronous,),) = connection.execute("PRAGMA synchronous").fetchall()
        ((journal,),) = connection.execute("PRAGMA journal_mode").fetchall()
    assert (synchronous, journal) == (2, "wal")


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "db").touch()
    with opened(tmp_path / "db", check_integrity=True) as store:
        assert store.load() == ([], [])


def test_what_was_written_is_there_after_reopening(filled: Path) -> None:
    with opened(filled, check_integrity=True) as store:
        assert balances(store) == {"a": 20 * 9_993, "b": 20 * 9_993}


def test_a_database_that_is_open_can_not_be_opened_again_and_the_error_names_the_process(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path):
        assert f"is in use by process {os.getpid()}; stop that process" in refusal(path)
        (tmp_path / "link").symlink_to(path)
        with pytest.raises(StartError, match="in use"):
            SqliteStore.open(tmp_path / "link")
    with opened(tmp_path / "link") as store:
        assert store.load() == ([], [])


def test_another_process_may_open_the_database_only_after_the_first_has_closed_it(tmp_path: Path) -> None:
    path, rehearsals = tmp_path / "db", [tmp_path / "first", tmp_path / "second"]
    for rehearsal in rehearsals:
        rehearsal.mkdir()
    with opened(path):
        assert f"is in use by process {os.getpid()}" in opened_by_another_process(path, rehearsals[0])
    assert opened_by_another_process(path, rehearsals[1]) == "opened"


def test_a_missing_directory_is_named_in_the_error(tmp_path: Path) -> None:
    assert f"there is no directory {tmp_path / 'missing'}; make it" in refusal(tmp_path / "missing" / "db")
    (tmp_path / "file").touch()
    assert "there is no directory" in refusal(tmp_path / "file" / "db")


def test_a_directory_is_refused_as_a_database(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    assert "is a directory; name a file" in refusal(tmp_path / "db")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own are closed to them. Skips the test if there can't be one."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        closed = [str(parent) for parent in directory.parents if not parent.stat().st_mode & stat.S_IXOTH]
        if closed and os.getuid() == 0:
            pytest.skip(f"a test that becomes another user needs a directory which others may enter; {closed[0]} is closed")
        yield directory
        directory.chmod(0o755)


@pytest.mark.parametrize("read_only", ["directory", "file", "lock"])
def test_without_permission_to_write_the_error_says_which_permission_is_missing(
    filled: Path, tmp_path: Path, open_directory: Path, read_only: str
) -> None:
    """As root the test becomes another user, since no permission is missing for root."""
    path, rehearsal = open_directory / "db", tmp_path / "rehearsal"
    rehearsal.mkdir()
    shutil.copy(filled, path)
    path.with_name("db.lock").touch()
    path.chmod(0o444 if read_only == "file" else 0o666)
    path.with_name("db.lock").chmod(0o444 if read_only == "lock" else 0o666)
    open_directory.chmod(0o555 if read_only == "directory" else 0o777)
    report = opened_by_another_process(path, rehearsal, user=NOBODY if os.getuid() == 0 else None)
    assert report.startswith(f"{path}: can't be written (")
    assert "give the user that runs kyma-proxy the right to write it and its directory" in report


def test_a_file_that_is_no_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_text("listen: 127.0.0.1:8080\n")
    assert "is not a database; move it away" in refusal(path)
    assert path.read_text() == "listen: 127.0.0.1:8080\n"


def test_a_database_of_another_program_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "db"
    for script in ("CREATE TABLE bookmarks (url)", "PRAGMA user_version = 7", "PRAGMA application_id = 12345"):
        sql(path, script)
        before = path.read_bytes()
        assert "belongs to another program" in refusal(path)
        assert path.read_bytes() == before


def test_a_newer_database_is_refused_and_both_versions_are_named(filled: Path) -> None:
    sql(filled, "PRAGMA user_version = 4711")
    assert f"has version 4711, and this kyma-proxy knows versions up to {len(shipped())}" in refusal(filled)


def test_damage_is_reported_when_the_database_is_opened_or_checked(filled: Path) -> None:
    whole = filled.read_bytes()
    filled.write_bytes(whole[:100] + b"\xff" * 200 + whole[300:])
    assert "is damaged (" in refusal(filled)
    assert "restore a backup" in refusal(filled)
    half = len(whole) // 2
    filled.write_bytes(whole[:half] + b"\xff" * 4096 + whole[half + 4096 :])
    assert "is damaged (" in refusal(filled, check_integrity=True)
    filled.write_bytes(whole[:5000])
    assert "is damaged (" in refusal(filled, check_integrity=True)


def test_damage_is_reported_when_accounts_are_loaded(filled: Path) -> None:
    ((root,),) = on_disk(filled, "SELECT rootpage FROM sqlite_schema WHERE name = 'accounts'")
    whole = filled.read_bytes()
    filled.write_bytes(whole[: (root - 1) * 4096] + b"\xff" * 4096 + whole[root * 4096 :])
    with opened(filled) as store, pytest.raises(StartError, match="is damaged"):
        store.load()


@pytest.mark.parametrize(("script", "says"), [
    ("UPDATE accounts SET balance = balance + 1 WHERE id = 'b'",
     "account b: the balance is 199861 nano-dollars, but the sum of its ledger is 199860"),
    ("UPDATE accounts SET purchased = 3 WHERE id = 'b'",
     "account b: the purchases are said to be 3 nano-dollars, but are 200000"),
    ("UPDATE accounts SET last_entry = 1 WHERE id = 'b'",
     "account b: the last entry is not the last one of its ledger"),
    ("DROP TRIGGER entries_are_not_changed; UPDATE entries SET previous = NULL WHERE id = 79",
     "account b: entry 79 does not follow the one before it"),
    ("DELETE FROM accounts WHERE id = 'b'",
     "belongs to an account that does not exist"),
], ids=range(5))  # fmt: skip
def test_a_ledger_that_does_not_add_up_is_found_by_the_integrity_check(filled: Path, script: str, says: str) -> None:
    with opened(filled, check_integrity=True):
        pass
    sql(filled, script)
    assert says in refusal(filled, check_integrity=True)
    with opened(filled) as store:
        assert store.load()[0]


def test_a_lock_of_another_program_is_reported(filled: Path) -> None:
    with locked_by_another_process(filled):
        assert "is locked by another program; end that program" in refusal(filled)
    with opened(filled) as store:
        assert len(store.load()[0]) == 2


@pytest.mark.parametrize(("code", "says"), [
    (sqlite3.SQLITE_FULL, "can't be written: the disk is full; make room"),
    (sqlite3.SQLITE_BUSY_SNAPSHOT, "is locked by another program"),
    (sqlite3.SQLITE_READONLY_DIRECTORY, "can't be written (words); give the user"),
    (sqlite3.SQLITE_CORRUPT_INDEX, "is damaged (words); restore a backup"),
    (sqlite3.SQLITE_NOTADB, "is not a database; move it away"),
    (sqlite3.SQLITE_IOERR_READ, "can't be used: words"),
    (None, "can't be used: words"),
])  # fmt: skip
def test_every_kind_of_database_failure_has_its_own_message(code: int | None, says: str) -> None:
    error = sqlite3.OperationalError("words")
    if code is not None:
        error.sqlite_errorcode = code
    assert str(start_error(Path("the.db"), error)).startswith(f"the.db: {says}")
    assert is_disk_failure(error) is (code is not None)


def test_a_file_system_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert "db.lock: no locks available; without this lock the database is not safe" in refusal(tmp_path / "db")


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    assert "3.38 or newer is needed" in refusal(tmp_path / "db")


def test_nothing_stays_open_after_opening_has_failed(filled: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    refusal(filled, connect=partial(connect, migrations=[*shipped(), "SELECT no_such_column;"]))
    sql(filled, "UPDATE accounts SET balance = 1")
    refusal(filled, check_integrity=True)
    filled.write_text("no database")
    refusal(filled)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_closed_store_keeps_nothing_open(filled: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with opened(filled) as store:
        store.load()
    store.close()
    assert set(os.listdir("/proc/self/fd")) == before


NEWEST = len(shipped())
"""The newest version."""


def version(path: Path) -> int:
    ((number,),) = on_disk(path, "PRAGMA user_version")
    return int(number)


def test_migrations_are_run_in_their_order_and_once_each(filled: Path) -> None:
    more = [*shipped(), "CREATE TABLE more (n INTEGER); INSERT INTO more VALUES (1);", "UPDATE more SET n = n * 10 + 2;"]
    for _ in range(2):
        with opened(filled, check_integrity=True, connect=partial(connect, migrations=more)) as store:
            assert len(store.load()[0]) == 2
        assert (version(filled), on_disk(filled, "SELECT n FROM more")) == (NEWEST + 2, [(12,)])
    assert f"has version {NEWEST + 2}, and this kyma-proxy knows versions up to {NEWEST}" in refusal(filled)


def test_an_upgrade_that_fails_leaves_the_version_from_before(filled: Path) -> None:
    broken = "CREATE TABLE more (n INTEGER); DELETE FROM keys; SELECT no_such_column;"
    error = refusal(filled, connect=partial(connect, migrations=[*shipped(), broken]))
    assert (
        f"can't be upgraded from version {NEWEST} to {NEWEST + 1}: no such column: no_such_column; nothing was changed" in error
    )
    with opened(filled, check_integrity=True) as store:
        assert len(store.load()[1]) == 2
    assert version(filled) == NEWEST


@pytest.mark.parametrize("number", range(1, NEWEST + 2))
def test_a_process_that_dies_during_an_upgrade_leaves_the_version_from_before(tmp_path: Path, number: int) -> None:
    path = tmp_path / "db"
    path.touch()
    steps = [*shipped(), "CREATE TABLE more (n INTEGER);"]
    steps[number - 1] += "\nSELECT die();\nCREATE TABLE never (n);"
    script = (
        "import os, signal, sqlite3, sys; from pathlib import Path; from kyma_proxy.store.sqlite.migrations import migrate\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA cache_spill = 1'); connection.execute('PRAGMA cache_size = 1')\n"
        "connection.create_function('die', 0, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        "migrate(connection, Path(sys.argv[1]), sys.argv[2:])\n"
    )
    line = [sys.executable, "-c", script, str(path), *steps]
    died = subprocess.run(line, env=environment(), capture_output=True, timeout=PATIENCE_S, check=False)
    assert died.returncode == -signal.SIGKILL
    assert version(path) == number - 1
    with opened(path, check_integrity=True) as store:
        assert store.load() == ([], [])
    assert version(path) == NEWEST


def test_the_migrations_are_numbered_without_a_gap() -> None:
    files = sorted(path.name for path in Path(migrations.__file__).parent.glob("*.sql"))
    assert [name[:5] for name in files] == [f"{number:04}_" for number in range(1, len(shipped()) + 1)]


def test_the_first_version_marks_the_database_as_ours() -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, Path(":memory:"), shipped()[:1])
        assert connection.execute("PRAGMA application_id").fetchone() == (migrations.APPLICATION_ID,)
