"""Defines what is logged of a request: metadata, and no field that could hold content. (Contract §11.)"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """One line of the access log. `ts` is Unix seconds; `_ms` and `_us` are milliseconds and microseconds."""

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
    error_code: str | None
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
    """Takes records: the access log."""

    def write(self, record: Record) -> None:
        """Take a record, without waiting."""


LOGGED_FIELDS: Final = Record.__struct_fields__
"""The fields that `/v1/capabilities` lists as logged."""
