"""Defines what is kept of the requests that accounts have made: metadata of the access log, for a while. (Contract §11.)"""

from __future__ import annotations

from typing import NamedTuple


class ActivityRow(NamedTuple):
    """A request that has ended. `key` is the prefix of its key, `at` Unix seconds, `cost` nano-dollars; ids rise."""

    id: int
    account: str
    key: str | None
    at: int
    request_id: str
    endpoint: str
    model_requested: str | None
    model: str | None
    provider: str | None
    stream: bool
    status: int
    ending: str
    error_code: str | None
    fallback_layer: int
    ttft_ms: float | None
    duration_ms: float
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    usage_source: str
    cost: int | None


class ActivityFilter(NamedTuple):
    """The requests to show: each member that is not None must fit. `model` is the one that was asked for or that answered."""

    account: str | None = None
    key: str | None = None
    model: str | None = None
    ending: str | None = None


class ActivityPage(NamedTuple):
    """Some requests, the newest first. `next_before` is where the next page begins; None if this is the last one.

    A page may have fewer rows than were asked for, even none, and yet not be the last: only so many rows are looked at.
    """

    rows: list[ActivityRow]
    next_before: int | None
