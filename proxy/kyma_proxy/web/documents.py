"""Builds the documents about accounts, keys and credits, for account holders, the admin API and the command line.

Amounts are in US dollars, times in Unix seconds, days as YYYY-MM-DD in UTC. (Contract §7, §8.)
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from kyma_proxy.config.snapshot import NANO, Tier
from kyma_proxy.core.accounts.accounts import Account, Key
from kyma_proxy.store.contract import Entry, UsageRow

Document = dict[str, object]
MAX_ID = 2**53 - 1
"""The largest id of a ledger's entry: up to here every JSON reader has whole numbers exactly. (RFC 8259 §6)"""
_EPOCH = datetime.date(1970, 1, 1)


def day_text(day: int | None) -> str | None:
    """A day, counted from 1970, as YYYY-MM-DD."""
    return None if day is None else (_EPOCH + datetime.timedelta(days=day)).isoformat()


def day_number(day: datetime.date) -> int:
    """A day as the number of days since 1970."""
    return (day - _EPOCH).days


def account_document(account: Account, tiers: tuple[Tier, ...]) -> Document:
    """An account, for the operator."""
    return {
        "id": account.id,
        "object": "account",
        "email": account.email,
        "created": account.created,
        "blocked": account.is_blocked,
        **balance(account, tiers),
    }


def balance(account: Account, tiers: tuple[Tier, ...]) -> Document:
    """An account's money and tier."""
    return {
        "balance": account.balance / NANO,
        "held": account.held / NANO,
        "available": account.available / NANO,
        "purchased": account.purchased / NANO,
        "currency": "USD",
        "tier": account.tier(tiers).tier,
    }


def key_document(key: Key) -> Document:
    """A key, without its secret, which is not stored."""
    return {
        "id": key.id,
        "object": "key",
        "prefix": key.prefix,
        "name": key.name,
        "created": key.created,
        "last_used": day_text(key.last_used_day),
    }


def keys_document(account: Account) -> Document:
    """An account's valid keys, oldest first."""
    return {"object": "list", "data": [key_document(key) for key in account.keys if not key.is_revoked]}


def entry_document(entry: Entry) -> Document:
    """An entry of the ledger."""
    return {
        "id": entry.id,
        "object": "credits.transaction",
        "created": entry.at,
        "kind": entry.kind,
        "amount": entry.amount / NANO,
        "payment_id": entry.reference if entry.kind == "purchase" else None,
        "request_id": entry.request_id,
        "model": entry.model,
        "key": entry.key,
        "note": entry.note,
    }


def transactions_document(entries: list[Entry], limit: int) -> Document:
    """A page of the ledger. `entries` has one more than `limit` if there is a next page."""
    shown = entries[:limit]
    return {
        "object": "list",
        "data": [entry_document(entry) for entry in shown],
        "has_more": len(entries) > limit,
        "next_before": shown[-1].id if len(entries) > limit else None,
    }


def usage_document(rows: Iterable[UsageRow], first: datetime.date, last: datetime.date) -> Document:
    """An account's usage by day, model and key, and the totals."""
    total = {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0}
    cost = 0
    data: list[Document] = []
    for row in rows:
        counts = {name: getattr(row, name) for name in total}
        for name, count in counts.items():
            total[name] += count
        cost += row.cost
        data.append({"day": day_text(row.day), "model": row.model, "key": row.key, **counts, "cost_usd": row.cost / NANO})
    return {
        "object": "usage",
        "from": first.isoformat(),
        "to": last.isoformat(),
        "data": data,
        "total": {**total, "cost_usd": cost / NANO},
    }
