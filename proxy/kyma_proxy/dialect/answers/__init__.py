"""Reads what an answer says: whether it is one, what it used, how it ends. Nothing here changes a byte of it."""
