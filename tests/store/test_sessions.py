"""The store keeps the digests of sessions, as many as an account may have, and sums usage by day and by model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kyma_proxy.store.contract import SessionRow, UnknownAccount, UsageRow
from tests.store.factories import AT, TODAY, account, charge, opened


def session(name: str, holder: str = "a", *, created: int = AT) -> SessionRow:
    """A session of a day."""
    return SessionRow(hashlib.sha256(name.encode()).digest(), name, holder, f"key-{holder}", created, created + 86_400)


async def test_a_session_is_found_by_its_digest_until_it_is_ended(tmp_path: Path) -> None:
    with opened(tmp_path / "kyma.db") as store:
        await store.create_account(account("a"), None, [])
        one = session("one")
        await store.add_session(one, 5)
        assert await store.session(one.digest) == one
        assert await store.session(b"x" * 32) is None
        assert not await store.end_session("b", "one")
        assert await store.end_session("a", "one")
        assert not await store.end_session("a", "one")
        assert (await store.session(one.digest), await store.sessions("a")) == (None, [])


async def test_one_session_too_many_ends_the_oldest_of_its_account(tmp_path: Path) -> None:
    with opened(tmp_path / "kyma.db") as store:
        for holder in "ab":
            await store.create_account(account(holder), None, [])
        await store.add_session(session("other", "b"), 3)
        for number in range(5):
            await store.add_session(session(f"s{number}", created=AT + number), 3)
        assert [row.id for row in await store.sessions("a")] == ["s4", "s3", "s2"]
        assert [row.id for row in await store.sessions("b")] == ["other"]


async def test_a_session_that_has_expired_is_forgotten_with_the_next_one(tmp_path: Path) -> None:
    with opened(tmp_path / "kyma.db") as store:
        for holder in "ab":
            await store.create_account(account(holder), None, [])
        await store.add_session(session("old"), 3)
        await store.add_session(session("new", "b", created=AT + 86_400), 3)
        assert (await store.sessions("a"), len(await store.sessions("b"))) == ([], 1)


async def test_nobody_without_an_account_gets_a_session(tmp_path: Path) -> None:
    with opened(tmp_path / "kyma.db") as store, pytest.raises(UnknownAccount):
        await store.add_session(session("one", "nobody"), 3)


async def test_usage_is_summed_by_day_and_by_model_within_the_days_asked_for(tmp_path: Path) -> None:
    with opened(tmp_path / "kyma.db") as store:
        for holder in "ab":
            await store.create_account(account(holder), None, [])
        for number, (day, model, key) in enumerate(
            [(0, "m", "k"), (0, "m", "l"), (0, "n", "k"), (-1, "n", "k"), (-9, "m", "k")]
        ):
            store.charge(charge("a", f"r{number}", 7 + number, at=AT + day * 86_400, model=model, key=key))
        store.charge(charge("b", "other", 99))
        await store.flush()
        by_day = await store.usage_sums("a", TODAY - 1, TODAY, "day")
        assert by_day == [UsageRow(TODAY - 1, "", None, 1, 100, 10, 1, 10), UsageRow(TODAY, "", None, 3, 300, 30, 3, 24)]
        by_model = await store.usage_sums("a", TODAY - 1, TODAY, "model")
        assert by_model == [UsageRow(0, "n", None, 2, 200, 20, 2, 19), UsageRow(0, "m", None, 2, 200, 20, 2, 15)]
        assert await store.usage_sums("c", 0, TODAY, "day") == []
