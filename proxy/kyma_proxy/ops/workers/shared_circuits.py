"""Tells other processes which circuits have opened or closed here, and opens and closes them here as others tell.

A circuit of a single account is no other worker's business. Each worker has a trial of its own when a circuit is half-open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from kyma_proxy.core.routing.breaker import CircuitBreaker
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.circuit import Circuit
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, Retry
from kyma_proxy.ops.workers.messages import Circuits, CircuitState

_MAX_A_MESSAGE: Final = 200


class SharedCircuits:
    """The circuits of this process, as the others know them."""

    def __init__(self, breakers: BreakerTable, tell: Callable[[Circuits], object], *, is_last: bool) -> None:
        """`is_last`: nobody else looks at which sources have changed."""
        self._breakers = breakers
        self._tell = tell
        self._is_last = is_last
        self._known: dict[tuple[str, str], float] = {}  # until when those are open that are not closed

    def sweep(self) -> None:
        """Tell of what has changed. It is called at each tick, and costs nothing while nothing fails."""
        keys = self._breakers.changed
        if not keys:
            return
        changed = [
            _state(key, endpoint, circuit)
            for key in keys
            for endpoint, circuit in self._breakers.circuits_of(key)
            if self._is_news(key, endpoint, circuit.open_until)
        ]
        if self._is_last:
            keys.clear()
        self._send(changed)

    def _is_news(self, key: str, endpoint: str, open_until: float) -> bool:
        """Returns True if the others do not know yet; then they will."""
        if self._known.get((key, endpoint), 0.0) == open_until:
            return False
        if open_until:
            self._known[key, endpoint] = open_until
        else:
            del self._known[key, endpoint]
        return True

    def _send(self, states: list[CircuitState]) -> None:
        for at in range(0, len(states), _MAX_A_MESSAGE):
            self._tell(Circuits(tuple(states[at : at + _MAX_A_MESSAGE])))

    def open_now(self) -> list[CircuitState]:
        """Those that are not closed, for a process that has just begun."""
        named = [(key, *one) for key in {key for key, _ in self._known} for one in self._breakers.circuits_of(key)]
        return [_state(key, endpoint, circuit) for key, endpoint, circuit in named if circuit.open_until]

    def adopt(self, states: Iterable[CircuitState]) -> None:
        """Open and close what has opened and closed elsewhere."""
        for state in states:
            failure = None if state.failure is None else _failure(state.failure)
            self._breakers.adopt(
                state.key, state.endpoint, state.open_until, state.openings, failure,
                is_hinted=state.is_hinted, is_main=state.is_main,
            )  # fmt: skip
            for endpoint, circuit in self._breakers.circuits_of(state.key):
                if endpoint == state.endpoint:
                    self._is_news(state.key, endpoint, circuit.open_until)


def _state(key: str, endpoint: str, circuit: Circuit) -> CircuitState:
    is_main = isinstance(circuit, CircuitBreaker) and circuit.missing_at > 1
    last = circuit.last if circuit.open_until else None
    failure = None if last is None else (
        last.kind.value, last.provider, last.detail, last.status, last.retry_after, last.retry.value, last.nothing_came,
        last.written_status,
    )  # fmt: skip
    return CircuitState(key, endpoint, is_main, circuit.open_until, circuit.openings, circuit.is_hinted, failure)


def _failure(members: tuple[str, str, str, int, int | None, str, bool, int]) -> AttemptFailure:
    kind, provider, detail, status, retry_after, retry, nothing_came, written_status = members
    return AttemptFailure(
        FailureKind(kind), provider, detail, status, retry_after, retry=Retry(retry), nothing_came=nothing_came,
        written_status=written_status,
    )  # fmt: skip
