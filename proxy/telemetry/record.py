"""This file says what is logged of a request: metadata, and no field that could hold content. (Contract §11.)"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.core.exchange import Exchange
from proxy.core.usage import cost_nano_usd


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


LOGGED_FIELDS: Final = Record.__struct_fields__
"""What `/v1/capabilities` says is logged."""

_MAX_MODEL_CHARACTERS: Final = 128


def record_of(exchange: Exchange, wall: float, now: float) -> Record:
    """The log line of a request that has ended; `wall` is Unix time, `now` the monotonic clock."""
    inbound = exchange.inbound
    usage = exchange.usage
    model = exchange.model
    source = exchange.answered_by
    cost = None if model is None else cost_nano_usd(usage, model.price)
    return Record(
        wall,
        inbound.request_id,
        None,
        None,
        exchange.endpoint.name,
        exchange.endpoint.dialect,
        None if exchange.head is None else exchange.head.model[:_MAX_MODEL_CHARACTERS],
        None if model is None else model.id,
        None if source is None else source.provider.name,
        exchange.head is not None and exchange.head.streams,
        exchange.status,
        exchange.state.value,
        exchange.layer,
        [f"{attempt.provider}:{attempt.result}" for attempt in exchange.attempts],
        round((exchange.first_byte - inbound.received) * 1e3, 3) if exchange.first_byte else None,
        round((now - inbound.received) * 1e3, 3),
        round(exchange.overhead_s * 1e6),
        exchange.provider_request_id,
        exchange.bytes_in,
        exchange.bytes_out,
        usage.prompt,
        usage.completion,
        usage.cached,
        usage.source,
        None if cost is None else cost / 1e9,
    )


def other_record(
    request_id: str, endpoint: str, status: int, wall: float, *, duration_s: float = 0.0, bytes_in: int = 0, bytes_out: int = 0
) -> Record:
    """The log line of a request that was not relayed: the control plane's, or one refused at the door (endpoint "-")."""
    ending = "completed" if status < 400 else "rejected"
    return Record(
        wall, request_id, None, None, endpoint, "-", None, None, None, False, status, ending, 0, [], None,
        round(duration_s * 1e3, 3), 0, None, bytes_in, bytes_out, None, None, None, "none", None,
    )  # fmt: skip
