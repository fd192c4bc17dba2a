"""The benchmark: what the gateway costs beside nginx and Envoy, measured in one run on one machine."""
