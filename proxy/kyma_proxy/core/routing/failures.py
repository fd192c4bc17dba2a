"""Decides what a source's failure means: what is tried next, and what the caller is told in the end. (Contract §5, §9.)"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

from kyma_proxy.core.routing.retry_after import retry_after
from kyma_proxy.errors import GatewayError, Kind


class FailureKind(enum.Enum):
    """The kind of a failure, before or after the answer began. The values are words of the access log."""

    CONNECT = "connect"  # refused, unreachable, TLS, DNS
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    STATUS = "status"
    BROKEN = "broken"  # the connection ended before the answer did, or the answer was no HTTP
    ERROR_EVENT = "error_event"  # a 200 that is, or holds, an error
    NO_ANSWER = "no_answer"  # a 200 that says nothing, or is not of its dialect
    OVERTAKEN = "overtaken"  # another source, asked later, began to answer before it


class Retry(enum.Enum):
    """The next step after a failure before the answer began."""

    NEXT_SOURCE = "next_source"
    SAME_SOURCE_OTHER_REQUEST = "same_source_other_request"  # it refuses a member that a translation has put in (contract §3)
    SAME_SOURCE_FRESH_CONNECTION = "same_source_fresh_connection"  # a stale idle connection was chosen (contract §9)


class AttemptFailure(NamedTuple):
    """The failure of an attempt, and what may be tried next.

    `status` is there if the source answered with one, `retry_after` (seconds) if it gave a hint. `was_tried` is False if the
    source was skipped because its breaker is open; the failure is then the one that opened it. `nothing_came`: the connection
    ended before one byte of the answer. `written_status` is the status that the source wrote, if its body means another.
    """

    kind: FailureKind
    provider: str
    detail: str
    status: int = 0
    retry_after: int | None = None
    was_tried: bool = True
    retry: Retry = Retry.NEXT_SOURCE
    nothing_came: bool = False
    written_status: int = 0

    @property
    def is_missing(self) -> bool:
        """True if the source has said that it lacks the endpoint, or the model there."""
        return self.kind is FailureKind.STATUS and self.status in MISSING_STATUSES

    @property
    def is_of_key(self) -> bool:
        """True if the source might have answered with another key."""
        return self.kind is FailureKind.STATUS and self.status in _OF_THE_KEY

    def described(self, *, is_named: bool) -> str:
        """The reason, for a caller. Without the name it says nothing that only the operator knows: no host, no address."""
        if is_named:
            return f"{self.provider}: {self.detail}"
        if self.kind is FailureKind.CONNECT:
            return "could not be reached"
        return "can't be used" if self.kind is FailureKind.STATUS and self.status in _OPERATORS else self.detail

    @property
    def word(self) -> str:
        """The word (or status) that the log has for it."""
        return str(self.written_status or self.status) if self.kind is FailureKind.STATUS else self.kind.value


MISSING_STATUSES: Final = frozenset({404, 405, 501})
"""A source that answers so to a POST lacks the endpoint, or the model there (RFC 9110 §15.5.5, §15.5.6, §15.6.2)."""
_NEXT_SOURCE: Final = frozenset({401, 402, 403, 408, 409, 412, 424, 429, 498, 499})
"""Client errors with which another source may succeed. 412 is Fireworks' for a suspended account, 498 Groq's if it is full."""
_OPERATORS: Final = frozenset({401, 402, 403, 412, 424, 498, 499})
"""They speak of the operator's key, account or capacity, and never of the request."""
RATE_LIMITED: Final = 429
OVERLOADED: Final = 529
"""Anthropic's: everybody together asks too much of the provider. (https://docs.claude.com/en/api/errors)"""
_BUSY: Final = frozenset({RATE_LIMITED, 503, OVERLOADED})
_UNAVAILABLE: Final = "is not available just now; GET /v1/status shows which models are."
_OF_THE_KEY: Final = frozenset({401, 402, 403, 412, 429})
"""Another key of the same provider may be taken, funded or under its limit."""
_TIMEOUTS: Final = frozenset({FailureKind.CONNECT_TIMEOUT, FailureKind.FIRST_BYTE_TIMEOUT, FailureKind.TOTAL_TIMEOUT})


def moves_on(status: int, *, is_last: bool) -> bool:
    """True if an answer with this status is the source's failure, False if it is for the caller to see.

    That the endpoint is missing is relayed if the last candidate says so: nobody else could tell the caller more.
    """
    if status in MISSING_STATUSES:
        return not is_last
    return status in _NEXT_SOURCE or status >= 500 or status < 200 or 300 <= status < 400


def status_failure(
    provider: str, status: int, fields: dict[bytes, bytes], *, wall: float, detail: str | None = None
) -> AttemptFailure:
    """The failure of a source that answered at `wall` (Unix time) with a status that moves on; `fields` are its answer's.

    `detail` is for callers to read, if it can say more than the status.
    """
    return AttemptFailure(
        FailureKind.STATUS, provider, detail or f"answered {status}", status, retry_after(status, fields, wall)
    )


def no_time_left(provider: str) -> AttemptFailure:
    """The failure of a source that can't be asked any more within its `total` timeout."""
    return AttemptFailure(FailureKind.TOTAL_TIMEOUT, provider, "no time was left for it")


def overtaken(provider: str) -> AttemptFailure:
    """The failure of a source that another, which was asked later, has overtaken."""
    return AttemptFailure(FailureKind.OVERTAKEN, provider, "another was faster")


def broken_off(failure: AttemptFailure, *, is_named: bool) -> GatewayError:
    """The error for a caller whose answer has begun and will not be completed."""
    who = f"The provider {failure.provider}" if is_named else "The provider"
    return GatewayError(Kind.PROVIDER_ERROR, f"{who} stopped in the middle of its answer: {failure.detail}.")


def exhausted(model: str, failures: Iterable[AttemptFailure], *, are_named: bool = True) -> GatewayError:
    """The error for a caller when every source has failed: the most useful of the failures. (Contract §5.)

    Where accounts are required, providers are not named: who they are is the operator's business.
    """
    failed = list(failures)
    if not failed:
        why = "is on: its providers have no key, as the gateway's start, `check` and /v1/status say"
        message = f"No source of {model} {why}." if are_named else f"{model} {_UNAVAILABLE}"
        return GatewayError(Kind.NO_SOURCE_AVAILABLE, message)
    reasons = "; ".join(dict.fromkeys(one.described(is_named=are_named) for one in failed))
    failed = [one for one in failed if not one.is_missing]  # those that lack the endpoint are not why the others failed
    if not failed:
        message = f"No source of {model} has this endpoint, or the model there ({reasons}); ask at another endpoint."
        return GatewayError(Kind.NOT_FOUND, message)
    hints = [one.retry_after for one in failed if one.retry_after is not None]
    retry_after_s = min(hints) if hints else None
    if all(one.status == RATE_LIMITED for one in failed):
        message = f"Every source of {model} is rate limited ({reasons}); try again later."
        return GatewayError(Kind.PROVIDER_RATE_LIMITED, message, retry_after=retry_after_s)
    tried = [one for one in failed if one.was_tried]
    if not tried:
        message = f"Every source of {model} is skipped just now ({reasons}); try again later."
        return GatewayError(Kind.NO_SOURCE_AVAILABLE, message, retry_after=retry_after_s)
    if all(one.status in _OPERATORS or one.status == RATE_LIMITED for one in tried):
        message = f"No source of {model} is open to the gateway just now ({reasons}); its operator can see why at /v1/status."
        if not are_named:
            message = f"{model} {_UNAVAILABLE}"
        return GatewayError(Kind.NO_SOURCE_AVAILABLE, message, retry_after=retry_after_s)
    if all(one.kind in _TIMEOUTS for one in tried):
        message = f"No source of {model} answered in time ({reasons})."
        return GatewayError(Kind.PROVIDER_TIMEOUT, message, retry_after=retry_after_s)
    if any(one.status == OVERLOADED for one in tried) and all(one.status in _BUSY for one in tried):
        message = f"Every source of {model} is overloaded ({reasons}); try again later."
        return GatewayError(Kind.PROVIDER_OVERLOADED, message, retry_after=retry_after_s)
    message = f"No source of {model} could answer ({reasons}); try again."
    return GatewayError(Kind.PROVIDER_ERROR, message, retry_after=retry_after_s)
