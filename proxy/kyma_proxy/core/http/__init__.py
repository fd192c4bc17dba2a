"""HTTP as it crosses the gateway: requests, heads, bodies, endpoints. Pure."""
