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
    asked_at: str | None
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


class Labels(msgspec.Struct, frozen=True, gc=False):
    """The fields of a record that have few values, from `endpoint` to `asked_at`."""

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
    asked_at: str | None


class LabelledRecord(msgspec.Struct, frozen=True, gc=False, rename={"labels": "endpoint"}):
    """A record of which the fields of `Labels` are written already: as JSON it is the same line as a `Record`.

    A `Raw` is written as it is: `labels` has the value of `endpoint`, and behind it the other fields to `asked_at`.
    """

    ts: float
    request_id: str
    account: str | None
    key: str | None
    labels: msgspec.Raw
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


_FIRST: Final = b'{"endpoint":'
_encode: Final = msgspec.json.Encoder().encode


def written(labels: Labels) -> msgspec.Raw:
    """These labels as a `LabelledRecord` has them."""
    return msgspec.Raw(_encode(labels)[len(_FIRST) : -1])


class Log(Protocol):
    """Takes records: the access log."""

    def write(self, record: Record | LabelledRecord) -> None:
        """Take a record, without waiting."""


LOGGED_FIELDS: Final = Record.__struct_fields__
"""The fields that `/v1/capabilities` lists as logged."""
