"""The requests of accounts are kept as the log has them, bounded by age and number, and read a bounded page at a time."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kyma_proxy.store.activity import ActivityFilter, ActivityRow
from kyma_proxy.store.contract import RowRefused
from kyma_proxy.store.sqlite import activity
from kyma_proxy.store.sqlite.store import SqliteStore
from kyma_proxy.telemetry.record import LOGGED_FIELDS, Record
from tests.store.factories import AT, on_disk, opened

EVERYTHING = ActivityFilter()


def record(request_id: str, account: str | None = "a", **members: Any) -> Record:
    usual = Record(
        AT + 0.75, request_id, account, "ky-abc", "chat/completions", "openai", "fast", "m", "p", True, 200, "completed", None,
        1, ["q:failed", "p:answered"], None, 12.5, 80.0, 150, "provider-id", 300, 900, 100, 10, 1, "reported", 0.000000007,
    )  # fmt: skip
    return msgspec.structs.replace(usual, **members)


def lines(*records: Record) -> bytes:
    return msgspec.json.Encoder().encode_lines(records)


async def kept(store: SqliteStore, wanted: ActivityFilter = EVERYTHING) -> list[str]:
    """The ids of the requests, the newest first."""
    return [row.request_id for row in (await store.activity(wanted, None, 1000)).rows]


async def test_a_line_of_the_log_is_kept_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path / "db", check_integrity=True) as store:
        await store.add_activity(lines(record("r1")))
        page = await store.activity(EVERYTHING, None, 10)
    assert page == (
        [
            ActivityRow(
                1, "a", "ky-abc", AT, "r1", "chat/completions", "fast", "m", "p", True, 200, "completed", None, 1, 12.5, 80.0,
                100, 10, 1, "reported", 7,
            )
        ],
        None,
    )  # fmt: skip


async def test_what_a_request_does_not_have_is_none(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        (
            "key",
            "model_requested",
            "model",
            "provider",
            "ttft_ms",
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "cost_usd",
        )
    )
    with opened(tmp_path / "db") as store:
        await store.add_activity(lines(record("r1", **nothing, stream=False, error_code="invalid_json")))
        (row,) = (await store.activity(EVERYTHING, None, 10)).rows
    names = {"cost" if name == "cost_usd" else name for name in nothing}
    assert {name for name, value in row._asdict().items() if value is None} == names
    assert (row.stream, row.error_code) == (False, "invalid_json")


async def test_requests_without_an_account_and_those_that_ask_no_model_are_left_out(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await store.add_activity(lines(record("nobody", None), record("r1"), record("a-page", dialect="-"), record("r2", "b")))
        assert await kept(store) == ["r2", "r1"]


@pytest.mark.parametrize("name", ["'; DROP TABLE activity; --", '"],["', "\\", "\n", "\u2028", "\u0000x", "<script>", "é" * 60])
async def test_no_name_that_a_caller_chooses_breaks_a_row(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / "db") as store:
        await store.add_activity(lines(record("r1", model_requested=name), record("r2")))
        # SQLite's JSON ends a text at a NUL.
        assert [row.model_requested for row in (await store.activity(EVERYTHING, None, 10)).rows] == [
            "fast",
            name.split("\0", maxsplit=1)[0],
        ]


async def test_lines_that_are_none_are_refused_and_the_next_ones_are_kept(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        with pytest.raises(RowRefused):
            await store.add_activity(b"no line\n")
        await store.add_activity(lines(record("r1")))
        assert await kept(store) == ["r1"]


async def test_each_filter_leaves_the_requests_that_fit(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await store.add_activity(
            lines(record("r1"), record("r2", "b"), record("r3", key="ky-other"), record("r4", model="n"),
                  record("r5", ending="failed", model=None, model_requested="gone"))
        )  # fmt: skip
        assert await kept(store, ActivityFilter(account="b")) == ["r2"]
        assert await kept(store, ActivityFilter(key="ky-other")) == ["r3"]
        assert await kept(store, ActivityFilter(model="n")) == ["r4"]
        assert await kept(store, ActivityFilter(model="fast")) == ["r4", "r3", "r2", "r1"]
        assert await kept(store, ActivityFilter(model="gone", ending="failed")) == ["r5"]
        assert await kept(store, ActivityFilter(account="b", ending="failed")) == []


@pytest.mark.parametrize("account", [None, "a"])
async def test_pages_have_every_request_once_the_newest_first(tmp_path: Path, account: str | None) -> None:
    with opened(tmp_path / "db") as store:
        await store.add_activity(lines(*(record(f"r{at}") for at in range(7))))
        seen, before = [], None
        for size in (3, 3, 1):
            page = await store.activity(ActivityFilter(account=account), before, 3)
            assert len(page.rows) == size
            seen += [row.request_id for row in page.rows]
            before = page.next_before
        assert before is None
        assert seen == [f"r{at}" for at in reversed(range(7))]


@pytest.mark.parametrize("account", [None, "a"])
async def test_a_filter_that_nothing_fits_looks_at_so_many_rows_and_says_where_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: str | None
) -> None:
    monkeypatch.setattr(activity, "MAX_SCANNED", 4)
    with opened(tmp_path / "db") as store:
        await store.add_activity(lines(record("rare", model="rare"), *(record(f"r{at}") for at in range(9))))
        wanted, before, pages = ActivityFilter(account=account, model="rare"), None, []
        while True:
            page = await store.activity(wanted, before, 10)
            pages.append([row.request_id for row in page.rows])
            before = page.next_before
            if before is None:
                break
        assert pages == [[], [], ["rare"]]


@pytest.mark.parametrize("account", [None, "a"])
def test_a_page_is_read_by_an_index_and_sorts_nothing(tmp_path: Path, account: str | None) -> None:
    with opened(tmp_path / "db"):
        pass
    wanted = ActivityFilter(account=account)
    values = activity.values_of(wanted, None, 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "db")) as connection:
        for sql in (activity.page_sql(wanted), activity.last_scanned_sql(wanted)):
            plan = "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))
            assert ("activity_of" if account else "INTEGER PRIMARY KEY") in plan
            assert "TEMP B-TREE" not in plan


async def test_requests_beyond_the_age_or_the_number_are_deleted_and_no_others(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await store.add_activity(lines(*(record(f"r{at}", ts=float(AT + at)) for at in range(10))))
        assert not await store.forget_activity(AT + 3, 100)
        assert await kept(store) == [f"r{at}" for at in reversed(range(3, 10))]
        assert not await store.forget_activity(0, 2)
        assert await kept(store) == ["r9", "r8"]
        assert not await store.forget_activity(0, 0)
        assert await kept(store) == []
        assert not await store.forget_activity(AT * 2, 0)
        await store.add_activity(lines(record("r10")))
        assert await kept(store) == ["r10"]


async def test_many_old_requests_are_deleted_in_portions(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as store:
        await store.add_activity(lines(*(record(f"r{at}") for at in range(2_500))))
        assert [await store.forget_activity(AT + 1, 10**6) for _ in range(3)] == [True, True, False]
        assert await kept(store) == []


def test_no_column_of_a_request_could_hold_content(tmp_path: Path) -> None:
    with opened(tmp_path / "db"):
        pass
    columns = {name for _, name, *_ in on_disk(tmp_path / "db", "PRAGMA table_info(activity)")}
    assert columns == set(ActivityRow._fields)
    assert columns - {"id", "at", "cost"} <= set(LOGGED_FIELDS)
