"""This file says what is logged of a request: metadata, and no field that could hold content. (Contract §11.)"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """One line of the access log. Times are Unix seconds, milliseconds and microseconds, as named."""

    ts: float
    request_id: str
    account: str | None
    key: str | None
    endpoint: str
    dialect: str
    model_requested: str | None
    model: str | None
    provider: str | None
    stream: bool
    status: int
    ending: str
    fallback_layer: int
    attempts: list[str]
    ttft_ms: float | None
    duration_ms: float
    overhead_us: int
    provider_request_id: str | None
    bytes_in: int
    bytes_out: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    usage_source: str
    cost_usd: float | None


class Log(Protocol):
    """Where records go."""

    def write(self, record: Record) -> None:
        """Take a record, at once."""


LOGGED_FIELDS: Final = Record.__struct_fields__
"""What `/v1/capabilities` says is logged."""
