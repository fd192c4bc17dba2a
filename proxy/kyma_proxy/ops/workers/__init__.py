"""Several processes that serve one address: the supervisor that keeps them, and the worker that each of them is."""
