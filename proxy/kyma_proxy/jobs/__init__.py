"""Image jobs: answers that come later, paid for when they have come."""
