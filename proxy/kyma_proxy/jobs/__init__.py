"""Image jobs: requests whose answer comes later, and is charged when it has come."""
