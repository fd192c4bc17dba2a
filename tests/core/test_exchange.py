"""The states of a request follow one table: there is one point of no return, and final states are final."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.exchange import ENDINGS, Event, State
from tests.factories import exchange

# Rows are states, columns events; a dash can't happen. The endings have no rows: nothing can happen to them.
LAW = """
               send move_on commit    relay_error    end           cut    reject   exhaust answer    leave       drain
open           sent open    -         -              -             -      rejected failed  completed client_gone drained
sent           -    open    committed relaying_error -             -      -        -       -         client_gone drained
committed      -    -       -         -              completed     broken -        -       -         client_gone drained
relaying_error -    -       -         -              relayed_error broken -        -       -         client_gone drained
"""
COLUMNS, *ROWS = [line.split() for line in LAW.strip().splitlines()]
EXPECTED = {
    (State(row[0]), Event(column)): State(cell)
    for row in ROWS
    for column, cell in zip(COLUMNS, row[1:], strict=True)
    if cell != "-"
}


@pytest.mark.parametrize(("state", "event"), [*itertools.product(State, Event)])
def test_every_pair_of_state_and_event_follows_the_table(state: State, event: Event) -> None:
    request = exchange()
    request.state = state
    if (state, event) in EXPECTED:
        request.step(event)
        assert request.state is EXPECTED[state, event]
        return
    with pytest.raises(RuntimeError, match=f"a request that is {state.value} can't {event.value}"):
        request.step(event)
    assert request.state is state


def test_the_final_states_are_the_endings_of_the_access_log() -> None:
    endings = {"completed", "relayed_error", "rejected", "failed", "broken", "client_gone", "drained"}
    assert {state.value for state in ENDINGS} == endings
    assert not any(state in ENDINGS for state, _ in EXPECTED)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_any_sequence_of_events_ends_a_request_at_most_once_and_never_undoes_the_commit(events: list[Event]) -> None:
    request = exchange()
    was_committed = False
    for event in events:
        if request.has_ended:
            with pytest.raises(RuntimeError):
                request.step(event)
        elif (request.state, event) in EXPECTED:
            request.step(event)
        was_committed = was_committed or request.is_committed
        assert not (was_committed and request.state in (State.OPEN, State.SENT, State.FAILED, State.REJECTED))


@pytest.mark.parametrize("state", State)
def test_the_predicates_follow_the_state(state: State) -> None:
    request = exchange()
    request.state = state
    assert request.is_sent is (state is State.SENT)
    assert request.is_committed is (state in (State.COMMITTED, State.RELAYING_ERROR))
    assert request.has_ended is (state in ENDINGS)


def test_a_new_request_is_open_and_empty() -> None:
    request = exchange()
    assert (request.state, request.attempts, request.status, request.layer) == (State.OPEN, [], 0, 0)
    assert (request.routing, request.model, request.alias, request.answered_by) == (None,) * 4
    assert (request.sent, request.first_byte, request.dialled_s, request.overhead_s) == (0.0,) * 4
    assert request.usage.source == "none"
