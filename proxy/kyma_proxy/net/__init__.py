"""Connections: callers in, providers out, and the pump between them."""
