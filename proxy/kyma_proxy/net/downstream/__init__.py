"""Connections from callers."""
