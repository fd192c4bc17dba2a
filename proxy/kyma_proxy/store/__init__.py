"""Accounts, keys and the ledger of credits on disk; the loop never waits for them."""
