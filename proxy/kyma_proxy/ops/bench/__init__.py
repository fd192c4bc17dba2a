"""Compares a provider that is asked directly with the same one behind a gateway."""
