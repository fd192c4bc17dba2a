"""This file decides what a source's failure means: whether another is tried, and what the caller is told in the end.

(Contract §5, §9.)
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

from kyma_proxy.errors import GatewayError, Kind


class FailureKind(enum.Enum):
    """Why a source did not answer, or broke an answer off."""

    CONNECT = "connect"  # refused, unreachable, TLS, DNS
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    STATUS = "status"
    BROKEN = "broken"  # the connection ended, or the answer was no HTTP, before its first byte
    ERROR_EVENT = "error_event"  # a 200 whose first event is an error
    OVERTAKEN = "overtaken"  # another source, asked later, began to answer before it


class AttemptFailure(NamedTuple):
    """A source's failure; `status` where it answered with one, `retry_after` in seconds where there is a hint.

    Of a source that rests `was_tried` is False, and the failure is the one for which it rests.
    """

    failure: FailureKind
    provider: str
    detail: str
    status: int = 0
    retry_after: int | None = None
    was_tried: bool = True

    @property
    def word(self) -> str:
        """The one word (or status) that the log has for it."""
        return str(self.status) if self.failure is FailureKind.STATUS else self.failure.value


_MOVE_ON: Final = frozenset({401, 402, 403, 404, 408, 409, 429})
_TIMEOUTS: Final = frozenset({FailureKind.CONNECT_TIMEOUT, FailureKind.FIRST_BYTE_TIMEOUT, FailureKind.TOTAL_TIMEOUT})


def moves_on(status: int, *, is_last: bool) -> bool:
    """Whether an answer with this status is the source's failure rather than the caller's to see.

    A 404 of the last source is relayed: nothing else can tell the caller more.
    """
    if status == 404:
        return not is_last
    return status in _MOVE_ON or status >= 500 or status < 200 or 300 <= status < 400


def exhausted(model: str, failures: Iterable[AttemptFailure]) -> GatewayError:
    """What the caller is told when every source has failed: the most useful of the failures. (Contract §5.)"""
    failed = list(failures)
    if not failed:
        return GatewayError(
            Kind.NO_SOURCE_AVAILABLE,
            f"No source of {model} is on: its providers have no key, as the gateway's start, `check` and /v1/status say.",
        )
    hints = [one.retry_after for one in failed if one.retry_after is not None]
    retry_after = min(hints) if hints else None
    told = "; ".join(f"{one.provider}: {one.detail}" for one in failed)
    if all(one.status == 429 for one in failed):
        message = f"Every source of {model} is rate limited ({told}); try again later."
        return GatewayError(Kind.PROVIDER_RATE_LIMITED, message, retry_after=retry_after)
    tried = [one for one in failed if one.was_tried]
    if not tried:
        message = f"No source of {model} is asked just now ({told}); try again later."
        return GatewayError(Kind.NO_SOURCE_AVAILABLE, message, retry_after=retry_after)
    if all(one.failure in _TIMEOUTS for one in tried):
        message = f"No source of {model} answered in time ({told})."
        return GatewayError(Kind.PROVIDER_TIMEOUT, message, retry_after=retry_after)
    return GatewayError(Kind.PROVIDER_ERROR, f"No source of {model} could answer ({told}); try again.", retry_after=retry_after)
