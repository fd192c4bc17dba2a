"""Image jobs, as pure rules: their states, queues and requests."""
