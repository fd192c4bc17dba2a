"""The benchmark: measures what the gateway costs beside nginx and Envoy, in one run on one machine."""
