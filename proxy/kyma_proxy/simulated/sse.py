"""Encodes a server-sent event. Pure."""

from __future__ import annotations

import msgspec

from kyma_proxy.simulated.request_fields import Json


def encode_event(payload: Json, name: str | None = None) -> bytes:
    """Returns the event's bytes, without an `event` line if it has no name."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + msgspec.json.encode(payload) + b"\n\n"
