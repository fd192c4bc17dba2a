"""Builds the documents about the requests that accounts have made: JSON, and CSV for spreadsheets.

Amounts are in US dollars, times in Unix seconds in JSON and as UTC in CSV.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable
from typing import Final

from kyma_proxy.config.snapshot import NANO
from kyma_proxy.core.accounts.money import usd
from kyma_proxy.store.activity import ActivityPage, ActivityRow
from kyma_proxy.web.documents import Document

CSV_COLUMNS: Final = ("time", *ActivityRow._fields[4:-1], "cost_usd")
"""After the account and the key, which come first."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that begins so for a formula, and callers choose the names of models."""


def activity_row_document(row: ActivityRow) -> Document:
    """A request."""
    document: Document = row._asdict()
    del document["cost"]
    return {"object": "activity", **document, "cost_usd": None if row.cost is None else row.cost / NANO}


def activity_document(page: ActivityPage) -> Document:
    """A page of requests, the newest first."""
    return {
        "object": "list",
        "data": [activity_row_document(row) for row in page.rows],
        "has_more": page.next_before is not None,
        "next_before": page.next_before,
    }


def activity_csv(rows: Iterable[ActivityRow]) -> str:
    """Requests as CSV (RFC 4180) with a line of names. No value can be taken for a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("id", "account", "key", *CSV_COLUMNS))
    for row in rows:
        at = datetime.datetime.fromtimestamp(row.at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        cost = "" if row.cost is None else usd(row.cost).replace("$", "").replace(",", "")
        writer.writerow([*map(_plain, (row.id, row.account, row.key, at, *row[4:-1])), cost])
    return text.getvalue()


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
