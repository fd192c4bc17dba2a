"""One request's attempts, and an answer on its way from a provider to a caller."""
