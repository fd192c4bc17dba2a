"""How image providers are spoken to."""
