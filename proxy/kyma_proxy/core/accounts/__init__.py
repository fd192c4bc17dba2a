"""Accounts, limits and money, as pure rules."""
