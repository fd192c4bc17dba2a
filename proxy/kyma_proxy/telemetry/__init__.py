"""The access log and the metrics. Metadata only."""
