"""The gateway's accounts for the bench: so many of them in a database, of which one calls, with limits that it never meets."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any, Final

from kyma_proxy.store.sqlite.store import SqliteStore

KEY: Final = f"ky-{'b' * 43}"
_MONEY: Final = 10**15
_NEVER_MET: Final = 10**12


def section(home: Path, accounts: int) -> dict[str, Any]:
    """What the gateway's configuration says of them; the database is made."""
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
        # Without an entry the ledger's law would not hold; what is paid for with it is counted like anybody's.
        database.execute(
            "INSERT INTO entries (account, at, kind, amount, reference) VALUES ('acct_0', 0, 'grant', ?, 'bench')", (_MONEY,)
        )
        database.execute("UPDATE accounts SET balance = ?, last_entry = last_insert_rowid() WHERE id = 'acct_0'", (_MONEY,))
    database.close()
    tier = {"tier": 0, "min_purchased": 0}
    limits = ("rpm", "per_model_rpm", "tpm", "max_request_tokens")
    return {
        "accounts": {"required": True, "database": f"sqlite:{path}"},
        "tiers": [tier | dict.fromkeys(limits, _NEVER_MET)],
    }
