"""What the gateway tells of itself: the access log and the metrics. Metadata only."""
