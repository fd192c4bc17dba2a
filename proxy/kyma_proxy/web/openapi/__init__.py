"""The OpenAPI document of the gateway's own endpoints."""
