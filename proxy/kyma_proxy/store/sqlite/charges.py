"""Writes charges to the ledger, the balances and the days' usage, in groups. (Contract §8.)

A group is a few statements, whatever its size: Python then releases the interpreter's lock a few times a group and not once a
row, and the event loop is not held up. An account and a line of a day's usage change once a group, by the sum of its charges.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from kyma_proxy.store.contract import Charge, day_of

_MAX_COUNT: Final = 10**15
"""The largest amount, and number of tokens, of a charge."""
_SIZES: Final = (64, 32, 16, 8, 4, 2, 1)
"""The numbers of rows that a statement writes: few, so that all statements stay prepared, and not many, as to bind the values
takes the interpreter's lock.
"""


def _statements(start: str, row: str, end: str = "") -> dict[int, str]:
    return {size: f"{start} {', '.join([row] * size)}{end}" for size in _SIZES}


_ENTRIES: Final = _statements(
    "INSERT INTO entries (id, account, previous, at, kind, amount, reference, request_id, model, key, note) VALUES",
    "(?, ?, coalesce(?, (SELECT last_entry FROM accounts WHERE id = ?)), ?, 'usage', ?, ?, ?, ?, ?, ?)",
)
_ACCOUNTS: Final = _statements(
    "UPDATE accounts SET balance = balance - column2, last_entry = coalesce(column3, last_entry) FROM (VALUES",
    "(?, ?, ?)",
    ") WHERE id = column1",
) | {1: "UPDATE accounts SET balance = balance - ?2, last_entry = coalesce(?3, last_entry) WHERE id = ?1"}
_USAGE: Final = _statements(
    "INSERT INTO usage VALUES",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    """ ON CONFLICT DO UPDATE SET
        requests = requests + excluded.requests,
        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens,
        cost = cost + excluded.cost""",
)


def write_charges(connection: sqlite3.Connection, charges: Sequence[Charge]) -> None:
    """Write a group of charges: all of them or none. Raises one of `ROW_ERRORS` if one of them can't be written."""
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        (newest,) = cursor.execute("SELECT coalesce(max(id), 0) FROM entries").fetchone()
        group = _Group(newest)
        for charge in charges:
            group.add(charge)
        _execute(cursor, _ENTRIES, group.entries)
        _execute(cursor, _ACCOUNTS, [*group.accounts.values()])
        _execute(cursor, _USAGE, [*group.usage.values()])
        cursor.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


class _Group:
    """The rows of a group: its entries, the sum and the last entry of each account, and the sums of each line of usage."""

    __slots__ = ("_newest", "accounts", "entries", "usage")

    def __init__(self, newest: int) -> None:
        """`newest` is the id of the ledger's last entry."""
        self._newest = newest
        self.entries: list[tuple[Any, ...]] = []
        self.accounts: dict[str, list[Any]] = {}
        self.usage: dict[tuple[int, str, str, str], list[Any]] = {}

    def add(self, charge: Charge) -> None:
        """Add a charge. Raises TypeError, ValueError if one of its numbers is no whole number, negative or too large."""
        account, at, model, key, amount = charge.account, charge.at, charge.model, charge.key, charge.amount
        prompt, completion, cached = charge.prompt_tokens, charge.completion_tokens, charge.cached_tokens
        if (prompt | completion | cached | amount) < 0 or max(prompt, completion, cached, amount) > _MAX_COUNT:
            raise ValueError("its amount or one of its counts is negative or too large")
        sums = self.accounts.get(account)
        if sums is None:
            sums = self.accounts[account] = [account, 0, None]
        if amount:
            self._newest += 1
            note = "estimated" if charge.is_estimated else None
            self.entries.append(
                (self._newest, account, sums[2], account, at, -amount, charge.reference, charge.request_id, model, key, note)
            )
            sums[1] += amount
            sums[2] = self._newest
        line = day_of(at), account, model, key or ""
        used = self.usage.get(line)
        if used is None:
            self.usage[line] = [*line, 1, prompt, completion, cached, amount]
        else:
            used[4] += 1
            used[5] += prompt
            used[6] += completion
            used[7] += cached
            used[8] += amount


def _execute(cursor: sqlite3.Cursor, statements: dict[int, str], rows: Sequence[Sequence[Any]]) -> None:
    """Write rows, in order, by the statements for as many rows as they take."""
    start, end = 0, len(rows)
    for size in _SIZES:
        while end - start >= size:
            cursor.execute(statements[size], [*chain.from_iterable(rows[start : start + size])])
            start += size
