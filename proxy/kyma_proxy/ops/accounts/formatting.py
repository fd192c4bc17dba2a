"""Formats the admin API's documents for people: a few aligned lines, amounts in dollars, moments in UTC."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Final

from kyma_proxy.core.accounts.money import to_nano, usd
from kyma_proxy.ops.admin_client import Document
from kyma_proxy.telemetry.visible_text import visible


def created(document: Document) -> str:
    """A new account and its key."""
    return f"{account(document)}\nkey        {document['api_key']}\n{_ONCE}"


def key_created(document: Document) -> str:
    """A new key."""
    return _pairs(("key", document["api_key"]), ("id", document["id"]), ("name", document["name"])) + f"\n{_ONCE}"


def account(document: Document) -> str:
    """An account's identity, state and balance."""
    held = f", of which {_usd(document['held'])} is held" if document["held"] else ""
    return _pairs(
        ("account", document["id"]),
        ("e-mail", document["email"]),
        ("created", moment(document["created"])),
        ("state", _state(document)),
        ("tier", document["tier"]),
        ("balance", _usd(document["balance"]) + held),
        ("purchased", _usd(document["purchased"])),
    )


def account_and_keys(document: Document) -> str:
    """An account and its valid keys."""
    return f"{account(document)}\n\n{keys({'data': document['keys']})}"


def accounts(document: Document) -> str:
    """Accounts, one on each line."""
    rows = [
        (one["id"], one["email"], _state(one), f"tier {one['tier']}", _usd(one["balance"]), moment(one["created"]))
        for one in document["data"]
    ]
    return _table(("ACCOUNT", "E-MAIL", "STATE", "TIER", "BALANCE", "CREATED"), rows, "no accounts")


def keys(document: Document) -> str:
    """Keys, one on each line."""
    rows = [
        (one["id"], f"{one['prefix']}…", one["name"], moment(one["created"]), one["last_used"] or "never")
        for one in document["data"]
    ]
    return _table(("KEY", "BEGINS WITH", "NAME", "CREATED", "LAST USED"), rows, "no keys")


def key_revoked(document: Document) -> str:
    """A key that was revoked."""
    return f"revoked {visible(document['id'])}; the next request with it is refused"


def credits_added(document: Document) -> str:
    """The entry that was added, now or before, and the account as it is now."""
    amount, kind, payment = _usd(document["amount"]), document["kind"], document["payment_id"]
    entry = f"{kind} of {amount}" + (f", payment {visible(payment)}" if payment else "")
    if document["is_new"]:
        return f"added: {entry}\n{account(document['account'])}"
    since = moment(document["created"])
    return f"nothing has changed: {entry}, is in the ledger since {since}\n{account(document['account'])}"


def ledger(document: Document) -> str:
    """Entries of the ledger, one on each line."""
    rows = [(str(one["id"]), moment(one["created"]), one["kind"], _usd(one["amount"]), _about(one)) for one in document["data"]]
    text = _table(("ENTRY", "WHEN", "KIND", "AMOUNT", "ABOUT"), rows, "no entries")
    return f"{text}\nThere are older entries; --limit shows more." if document["has_more"] else text


def moment(seconds: int) -> str:
    """A moment in UTC, to the second."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


_ONCE: Final = "The key is shown only now and is stored nowhere; if it is lost, create another: kyma-proxy keys create ACCOUNT"


def _usd(amount: float) -> str:
    return usd(to_nano(amount))


def _state(document: Document) -> str:
    return "blocked" if document["blocked"] else "active"


def _about(entry: Document) -> str:
    parts = (entry["payment_id"] and f"payment {entry['payment_id']}", entry["model"], entry["request_id"], entry["note"])
    return ", ".join(str(part) for part in parts if part)


def _pairs(*pairs: tuple[str, object]) -> str:
    return "\n".join(f"{name:<11}{visible(str(value))}" for name, value in pairs)


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], empty: str) -> str:
    """Columns as wide as their widest cell; amounts are aligned to the right."""
    lines = [headings, *(tuple(visible(cell) for cell in row) for row in rows)]
    if len(lines) == 1:
        return empty
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_money = [heading in ("BALANCE", "AMOUNT") for heading in headings]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, is_money, strict=True)
        ).rstrip()
        for line in lines
    )
