"""What keeps a database from being opened is one line that says what to do; and an upgrade is done whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kyma_proxy.errors import StartError
from kyma_proxy.store.sqlite import migrations, opening
from kyma_proxy.store.sqlite import store as sqlite
from kyma_proxy.store.sqlite.failures import is_the_disks, why_it_can_not_start
from kyma_proxy.store.sqlite.migrations import migrate, shipped
from kyma_proxy.store.sqlite.store import SqliteStore
from tests.processes import environment
from tests.store.material import (
    HASTY,
    account,
    balances,
    charge,
    key,
    locked_by_another_process,
    on_disk,
    opened,
    purchase,
)
from tests.waiting import PATIENCE_S

NOBODY = 65_534
OPENS = """
import os, sys
from pathlib import Path
from kyma_proxy.errors import StartError
from kyma_proxy.store.sqlite.store import SqliteStore
import asyncio, concurrent.futures.thread, encodings.idna
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
try:
    SqliteStore.open(Path(sys.argv[1])).close()
    print("opened")
except StartError as error:
    print(error)
"""


def refusal(path: Path, *, check_integrity: bool = False) -> str:
    """Why the database can't be opened: one line, which begins with its name."""
    with pytest.raises(StartError) as caught:
        SqliteStore.open(path, check_integrity=check_integrity, timing=HASTY).close()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}")
    return text


def sql(path: Path, script: str) -> None:
    """Another program changes the file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A database of two accounts, with money and use."""
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


def test_a_new_database_is_its_owners_only_and_needs_nothing_but_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "a name with ? # % in it.db"
    with opened(path) as store:
        assert store.load() == ([], [])
        modes = {file.name.removeprefix(path.name): file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        assert modes == {"": 0o600, ".lock": 0o600, "-wal": 0o600, "-shm": 0o600}
    assert sorted(file.name.removeprefix(path.name) for file in tmp_path.iterdir()) == ["", ".lock"]


def test_a_commit_waits_until_the_disk_has_it(tmp_path: Path) -> None:
    """No test can cut the power; with less than FULL a payment that was acknowledged could be lost with it."""
    with opened(tmp_path / "db") as store:
        ((synchronous,),) = store._writer._connection.execute("PRAGMA synchronous").fetchall()
        ((journal,),) = store._writer._connection.execute("PRAGMA journal_mode").fetchall()
    assert (synchronous, journal) == (2, "wal")


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "db").touch()
    with opened(tmp_path / "db", check_integrity=True) as store:
        assert store.load() == ([], [])


def test_what_was_written_is_there_again(filled: Path) -> None:
    with opened(filled, check_integrity=True) as store:
        assert balances(store) == {"a": 20 * 9_993, "b": 20 * 9_993}


def test_a_second_opener_is_told_who_was_first(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path):
        assert f"is in use by process {os.getpid()}; stop that one" in refusal(path)
        (tmp_path / "link").symlink_to(path)
        with pytest.raises(StartError, match="in use"):
            SqliteStore.open(tmp_path / "link")
    with opened(tmp_path / "link") as store:
        assert store.load() == ([], [])


def test_another_process_is_told_too_and_may_open_it_once_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    opens = [sys.executable, "-c", OPENS.format(nobody=os.getuid()), str(path)]

    def answer() -> str:
        return subprocess.run(
            opens, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=True
        ).stdout.strip()

    with opened(path):
        assert f"is in use by process {os.getpid()}" in answer()
    assert answer() == "opened"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert f"there is no directory {tmp_path / 'missing'}; make it" in refusal(tmp_path / "missing" / "db")
    (tmp_path / "file").touch()
    assert "there is no directory" in refusal(tmp_path / "file" / "db")


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    assert "is a directory; name a file" in refusal(tmp_path / "db")


@contextlib.contextmanager
def read_by_all() -> Iterator[Path]:
    """A directory that another user may enter and read; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("what", ["directory", "file", "lock"])
def test_without_the_right_to_write_it_says_which_right_is_missing(filled: Path, what: str) -> None:
    with read_by_all() as directory:
        path = directory / "db"
        shutil.copy(filled, path)
        path.with_name("db.lock").touch()
        os.chmod(path, 0o444 if what == "file" else 0o666)
        os.chmod(f"{path}.lock", 0o444 if what == "lock" else 0o666)
        os.chmod(directory, 0o555 if what == "directory" else 0o777)
        opens = [sys.executable, "-c", OPENS.format(nobody=NOBODY), str(path)]
        result = subprocess.run(opens, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        os.chmod(directory, 0o755)
    assert result.stderr == ""
    assert result.stdout.startswith(f"{path}: can't be written (")
    assert "give the user that runs kyma-proxy the right to write it and its directory" in result.stdout


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_text("listen: 127.0.0.1:8080\n")
    assert "is not a database; move it away" in refusal(path)
    assert path.read_text() == "listen: 127.0.0.1:8080\n"


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    for script in ("CREATE TABLE bookmarks (url)", "PRAGMA user_version = 7", "PRAGMA application_id = 12345"):
        sql(path, script)
        before = path.read_bytes()
        assert "is the database of another program" in refusal(path)
        assert path.read_bytes() == before


def test_a_newer_version_names_both(filled: Path) -> None:
    sql(filled, "PRAGMA user_version = 4711")
    assert f"is of version 4711, and this kyma-proxy knows versions up to {len(shipped())}" in refusal(filled)


def test_a_database_that_is_damaged_says_so_at_once_or_when_it_is_checked(filled: Path) -> None:
    whole = filled.read_bytes()
    filled.write_bytes(whole[:100] + b"\xff" * 200 + whole[300:])
    assert "is damaged (" in refusal(filled)
    assert "restore a backup" in refusal(filled)
    half = len(whole) // 2
    filled.write_bytes(whole[:half] + b"\xff" * 4096 + whole[half + 4096 :])
    assert "is damaged (" in refusal(filled, check_integrity=True)
    filled.write_bytes(whole[:5000])
    assert "is damaged (" in refusal(filled, check_integrity=True)


def test_damage_that_is_met_when_loading_is_said(filled: Path) -> None:
    ((root,),) = on_disk(filled, "SELECT rootpage FROM sqlite_schema WHERE name = 'accounts'")
    whole = filled.read_bytes()
    filled.write_bytes(whole[: (root - 1) * 4096] + b"\xff" * 4096 + whole[root * 4096 :])
    with opened(filled) as store, pytest.raises(StartError, match="is damaged"):
        store.load()


@pytest.mark.parametrize(("script", "says"), [
    ("UPDATE accounts SET balance = balance + 1 WHERE id = 'b'",
     "account b: the balance is 199861 nano-dollars, and its ledger's sum 199860"),
    ("UPDATE accounts SET purchased = 3 WHERE id = 'b'",
     "account b: its purchases are said to be 3 nano-dollars, and are 200000"),
    ("UPDATE accounts SET last_entry = 1 WHERE id = 'b'",
     "account b: its last entry is not the last of its ledger"),
    ("DROP TRIGGER entries_are_not_changed; UPDATE entries SET previous = NULL WHERE id = 79",
     "account b: entry 79 does not follow the one before it"),
    ("DELETE FROM accounts WHERE id = 'b'",
     "is of an account that is not there"),
], ids=range(5))  # fmt: skip
def test_books_that_do_not_add_up_are_found_when_they_are_checked(filled: Path, script: str, says: str) -> None:
    with opened(filled, check_integrity=True):
        pass
    sql(filled, script)
    assert says in refusal(filled, check_integrity=True)
    with opened(filled) as store:
        assert store.load()[0]


def test_another_programs_lock_is_said(filled: Path) -> None:
    with locked_by_another_process(filled):
        assert "is locked by another program; end that" in refusal(filled)
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
def test_every_kind_of_failure_has_its_line(code: int | None, says: str) -> None:
    error = sqlite3.OperationalError("words")
    if code is not None:
        error.sqlite_errorcode = code
    assert str(why_it_can_not_start(Path("the.db"), error)).startswith(f"the.db: {says}")
    assert is_the_disks(error) is (code is not None)


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(opening.fcntl, "flock", refuse)
    assert "db.lock: no locks available; without this lock the database is not safe" in refusal(tmp_path / "db")


def test_an_old_sqlite_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening.sqlite3, "sqlite_version_info", (3, 37, 2))
    assert "3.38 or newer is needed" in refusal(tmp_path / "db")


def test_nothing_stays_open_where_opening_fails(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "shipped", lambda: [*shipped(), "SELECT no_such_column;"])
        refusal(filled)
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


KNOWN = len(shipped())
"""The newest version."""


def version(path: Path) -> int:
    ((number,),) = on_disk(path, "PRAGMA user_version")
    return int(number)


def test_a_database_goes_through_the_versions_in_their_order_each_once(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [*shipped(), "CREATE TABLE more (n INTEGER); INSERT INTO more VALUES (1);", "UPDATE more SET n = n * 10 + 2;"]
    monkeypatch.setattr(sqlite, "shipped", lambda: more)
    for _ in range(2):
        with opened(filled, check_integrity=True) as store:
            assert len(store.load()[0]) == 2
        assert (version(filled), on_disk(filled, "SELECT n FROM more")) == (KNOWN + 2, [(12,)])
    monkeypatch.setattr(sqlite, "shipped", shipped)
    assert f"is of version {KNOWN + 2}, and this kyma-proxy knows versions up to {KNOWN}" in refusal(filled)


def test_a_version_that_fails_leaves_the_one_before(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "CREATE TABLE more (n INTEGER); DELETE FROM keys; SELECT no_such_column;"
    monkeypatch.setattr(sqlite, "shipped", lambda: [*shipped(), broken])
    assert f"can't be brought from version {KNOWN} to {KNOWN + 1}: no such column: no_such_column; it is as it was" in refusal(
        filled
    )
    monkeypatch.setattr(sqlite, "shipped", shipped)
    with opened(filled, check_integrity=True) as store:
        assert len(store.load()[1]) == 2
    assert version(filled) == KNOWN


@pytest.mark.parametrize("number", range(1, KNOWN + 2))
def test_dying_on_the_way_to_a_version_leaves_the_one_before(tmp_path: Path, number: int) -> None:
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
    assert version(path) == KNOWN


def test_the_migrations_are_numbered_without_a_gap() -> None:
    files = sorted(path.name for path in Path(migrations.__file__).parent.glob("*.sql"))
    assert [name[:5] for name in files] == [f"{number:04}_" for number in range(1, len(shipped()) + 1)]


def test_the_first_version_marks_the_database_as_ours() -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, Path(":memory:"), shipped()[:1])
        assert connection.execute("PRAGMA application_id").fetchone() == (migrations.APPLICATION_ID,)
