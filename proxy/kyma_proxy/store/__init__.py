"""Accounts, keys and the ledger of credits, on disk; the event loop never waits for the disk."""
