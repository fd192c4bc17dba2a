"""This file decides which sources are tried for a request, in which order, and what an attempt's outcome means.

(Contract §9.) Chance is an argument.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from proxy.config.snapshot import Model, Source
from proxy.errors import GatewayError, Kind


class Step(NamedTuple):
    """A source to try and its layer: 0 is the pool's first choice, 1 another source of the pool."""

    source: Source
    layer: int


def plan(model: Model, dialect: str, random: Callable[[], float]) -> tuple[Step, ...]:
    """The sources of a model that are on and speak `dialect`, in the order in which they are to be tried.

    The order is drawn by weight; a source of weight 0 comes last. `random` gives numbers in [0, 1).
    """
    pool = model.pool
    if len(pool) == 1:
        source = pool[0]
        return (Step(source, 0),) if source.provider.off is None and source.provider.dialect == dialect else ()
    usable = [source for source in pool if source.provider.off is None and source.provider.dialect == dialect]
    steps: list[Step] = []
    while usable:
        chosen = _draw(usable, random) if len(usable) > 1 else 0
        steps.append(Step(usable.pop(chosen), 1 if steps else 0))
    return tuple(steps)


def _draw(sources: list[Source], random: Callable[[], float]) -> int:
    """The index of a source, drawn by weight."""
    weights = [source.weight for source in sources]
    point = random() * sum(weights)
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return weights.index(max(weights))  # every weight is 0, or rounding has left a crumb


class Failure(enum.Enum):
    """Why a source did not answer, before anything of an answer went to the caller."""

    CONNECT = "connect"  # refused, unreachable, TLS, DNS
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    STATUS = "status"
    BROKEN = "broken"  # the connection ended, or the answer was no HTTP, before its first byte
    ERROR_EVENT = "error_event"  # a 200 whose first event is an error


class Failed(NamedTuple):
    """A source's failure; `status` where it answered with one, `retry_after` in seconds where it gave a hint."""

    failure: Failure
    provider: str
    detail: str
    status: int = 0
    retry_after: int | None = None

    @property
    def word(self) -> str:
        """The one word (or status) that the log has for it."""
        return str(self.status) if self.failure is Failure.STATUS else self.failure.value


_MOVE_ON: Final = frozenset({401, 403, 404, 408, 409, 429})
_TIMEOUTS: Final = frozenset({Failure.CONNECT_TIMEOUT, Failure.FIRST_BYTE_TIMEOUT, Failure.TOTAL_TIMEOUT})


def moves_on(status: int, *, is_last: bool) -> bool:
    """Whether an answer with this status is the source's failure rather than the caller's to see.

    A 404 of the last source is relayed: nothing else can tell the caller more.
    """
    if status == 404:
        return not is_last
    return status in _MOVE_ON or status >= 500 or status < 200 or 300 <= status < 400


def exhausted(model: str, failures: Iterable[Failed]) -> GatewayError:
    """What the caller is told when every source has failed: the most useful of the failures. (Contract §5.)"""
    failed = list(failures)
    if not failed:
        return GatewayError(
            Kind.NO_SOURCE_AVAILABLE, f"No source of {model} is available; GET /v1/models lists what can be asked."
        )
    last = failed[-1]
    if all(one.status == 429 for one in failed):
        hints = [one.retry_after for one in failed if one.retry_after is not None]
        return GatewayError(
            Kind.PROVIDER_RATE_LIMITED,
            f"Every source of {model} is rate limited ({_told(failed)}); try again later.",
            retry_after=min(hints) if hints else None,
        )
    if all(one.failure in _TIMEOUTS for one in failed):
        return GatewayError(Kind.PROVIDER_TIMEOUT, f"No source of {model} answered in time ({_told(failed)}).")
    retry_after = last.retry_after if last.status in (429, 503) else None
    return GatewayError(
        Kind.PROVIDER_ERROR, f"No source of {model} could answer ({_told(failed)}); try again.", retry_after=retry_after
    )


def _told(failed: list[Failed]) -> str:
    return "; ".join(f"{one.provider}: {one.detail}" for one in failed)
