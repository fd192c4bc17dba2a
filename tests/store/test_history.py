"""After any history of payments, charges and restarts, the balance is the ledger's sum, and each reference counts once."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from kyma_proxy.store.contract import Entry, PaymentConflict, UsageRow
from kyma_proxy.store.sqlite.store import SqliteStore
from tests.store.factories import AT, FAST, account, balances, charge, key, opened, purchase

NAMES = ("a", "b", "c")
MODELS = ("m", "n")


class Pays(NamedTuple):
    """An entry is added to the ledger."""

    kind: Literal["purchase", "grant", "refund", "adjustment", "signup_bonus"]
    holder: str
    reference: str
    amount: int


class Uses(NamedTuple):
    """A request has ended."""

    holder: str
    reference: str
    amount: int
    model: str
    day: int


class Flushes(NamedTuple):
    """Everything is waited for."""


class Reopens(NamedTuple):
    """The gateway is restarted."""


Step = Pays | Uses | Flushes | Reopens
_holders = st.sampled_from(NAMES)
_positive = st.builds(
    Pays,
    st.sampled_from(["purchase", "grant", "signup_bonus"]),
    _holders,
    st.sampled_from(["p1", "p2", "p3", "p4"]),
    st.sampled_from([1, 5_000, 10**12]),
)
_any = st.builds(
    Pays,
    st.sampled_from(["refund", "adjustment"]),
    _holders,
    st.sampled_from(["p1", "p2", "x"]),
    st.sampled_from([-(10**12), -1, 3]),
)
_uses = st.builds(
    Uses,
    _holders,
    st.text("rst", min_size=1, max_size=3),
    st.sampled_from([0, 1, 999, 10**9]),
    st.sampled_from(MODELS),
    st.integers(0, 2),
)
_steps = st.lists(st.one_of(_positive, _any, _uses, _uses, _uses, st.builds(Flushes), st.builds(Reopens)), max_size=40)


class Model:
    """The same history in its simplest form."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], tuple[str, int]] = {}
        self.usage: dict[tuple[str, int, str], list[int]] = defaultdict(lambda: [0, 0])

    def pays(self, step: Pays) -> bool | None:
        """True if it is new or repeated; None if it conflicts."""
        existing = self.entries.setdefault((step.kind, step.reference), (step.holder, step.amount))
        return None if existing != (step.holder, step.amount) else True

    def uses(self, step: Uses) -> None:
        if step.amount:
            if ("usage", step.reference) in self.entries:
                return
            self.entries["usage", step.reference] = (step.holder, -step.amount)
        sums = self.usage[step.holder, AT // 86_400 + step.day, step.model]
        sums[0] += 1
        sums[1] += step.amount

    def balance(self, name: str, *kinds: str) -> int:
        return sum(
            amount for (kind, _), (holder, amount) in self.entries.items() if holder == name and (not kinds or kind in kinds)
        )


async def pay(store: SqliteStore, step: Pays) -> bool | None:
    try:
        await store.add_entry(purchase(step.holder, step.reference, step.amount, step.kind))
    except PaymentConflict:
        return None
    return True


async def live(path: Path, steps: list[Step], *, one_by_one: bool) -> Model:
    """Do all steps, one after the other or in bursts between the steps that wait."""
    model, store = Model(), SqliteStore.open(path, timing=FAST)
    for name in NAMES:
        await store.create_account(account(name), key(f"key-{name}", name), [])
    pending: list[asyncio.Task[bool | None]] = []
    expected: list[bool | None] = []
    for step in steps:
        match step:
            case Pays():
                pending.append(asyncio.create_task(pay(store, step)))
                expected.append(model.pays(step))
                if one_by_one:
                    await pending[-1]
            case Uses():
                store.charge(charge(step.holder, step.reference, step.amount, at=AT + 86_400 * step.day, model=step.model))
                model.uses(step)
            case Flushes():
                await store.flush()
            case Reopens():
                await asyncio.gather(*pending)
                store.close()
                store = SqliteStore.open(path, timing=FAST)
    assert await asyncio.gather(*pending) == expected
    store.close()
    return model


async def compare(path: Path, model: Model) -> None:
    with opened(path, check_integrity=True) as store:
        assert balances(store) == {name: model.balance(name) for name in NAMES}
        assert {row.id: row.purchased for row in store.load()[0]} == {name: model.balance(name, "purchase") for name in NAMES}
        for name in NAMES:
            entries = await store.transactions(name, None, 1_000)
            assert [entry.id for entry in entries] == sorted((entry.id for entry in entries), reverse=True)
            assert sorted(map(_line, entries)) == sorted(
                (kind, reference, amount) for (kind, reference), (holder, amount) in model.entries.items() if holder == name
            )
            rows = await store.usage(name, 0, 10**6)
            assert {(name, row.day, row.model): [row.requests, row.cost] for row in rows} == {
                which: sums for which, sums in model.usage.items() if which[0] == name
            }
            assert all(_is_whole(row) for row in rows)


def _line(entry: Entry) -> tuple[str, str, int]:
    return entry.kind, entry.reference, entry.amount


def _is_whole(row: UsageRow) -> bool:
    return (row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (
        row.requests * 100,
        row.requests * 10,
        row.requests,
    )


@settings(max_examples=60)
@given(_steps, st.booleans())
def test_the_balance_is_the_sum_of_the_ledger_after_any_history_of_accounts(steps: list[Step], one_by_one: bool) -> None:
    async def history() -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "db"
            await compare(path, await live(path, steps, one_by_one=one_by_one))

    asyncio.run(history())
