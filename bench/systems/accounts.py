"""Creates a database of accounts for the gateway. One of them calls, and its limits are never reached."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any, Final

from kyma_proxy.store.sqlite.store import SqliteStore

KEY: Final = f"ky-{'b' * 43}"
_BALANCE_NANO_USD: Final = 10**15
UNLIMITED_TIER: Final[dict[str, Any]] = {
    "tier": 0,
    "min_purchased": 0,
    **dict.fromkeys(("rpm", "per_model_rpm", "tpm", "max_request_tokens"), 10**12),
}
"""A tier whose limits are never reached."""


def accounts_section(home: Path, accounts: int) -> dict[str, Any]:
    """Create the database in `home`; returns the accounts section and the tiers of the configuration."""
    path = home / "bench.db"
    SqliteStore.open(path).close()
    with sqlite3.connect(path) as database:
        database.executemany(
            "INSERT INTO accounts (id, email, folded_email, created, is_blocked) VALUES (?, ?, ?, 0, 0)",
            ((f"acct_{at}", f"{at}@example.com", f"{at}@example.com") for at in range(accounts)),
        )
        database.executemany(
            "INSERT INTO keys (id, account, digest, prefix, name, created, is_revoked) VALUES (?, ?, ?, ?, 'first', 0, 0)",
            (
                (f"key_{at}", f"acct_{at}", hashlib.sha256(KEY.encode() if not at else b"%d" % at).digest(), f"ky-{at}")
                for at in range(accounts)
            ),
        )
        # The balance must equal the sum of the ledger, so the balance needs an entry.
        database.execute(
            "INSERT INTO entries (account, at, kind, amount, reference) VALUES ('acct_0', 0, 'grant', ?, 'bench')",
            (_BALANCE_NANO_USD,),
        )
        database.execute(
            "UPDATE accounts SET balance = ?, last_entry = last_insert_rowid() WHERE id = 'acct_0'", (_BALANCE_NANO_USD,)
        )
    database.close()
    return {
        "accounts": {"required": True, "database": f"sqlite:{path}"},
        "tiers": [UNLIMITED_TIER],
    }
