"""The states of a caller's connection: every pair of state and event obeys the table."""

from __future__ import annotations

import itertools

import pytest

from kyma_proxy.core.http.connection_state import ConnectionEvent, ConnectionState, after

# Rows are states, columns events; a dash can't happen.
TABLE = """
           serve    finish  linger     close    lose
idle       serving  -       lingering  closing  closed
serving    -        idle    lingering  closing  closed
lingering  -        -       -          closing  closed
closing    -        -       -          closing  closed
closed     -        -       -          -        -
"""
COLUMNS, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
EXPECTED = {
    (ConnectionState(row[0]), ConnectionEvent(column)): ConnectionState(cell)
    for row in ROWS
    for column, cell in zip(COLUMNS, row[1:], strict=True)
    if cell != "-"
}


@pytest.mark.parametrize(("state", "event"), [*itertools.product(ConnectionState, ConnectionEvent)])
def test_every_pair_of_state_and_event_obeys_the_table(state: ConnectionState, event: ConnectionEvent) -> None:
    if (state, event) in EXPECTED:
        assert after(state, event) is EXPECTED[state, event]
        return
    with pytest.raises(RuntimeError, match=f"a connection that is {state.value} can't {event.value}"):
        after(state, event)


def test_nothing_leads_back_to_serving_once_a_connection_closes() -> None:
    ending = {ConnectionState.LINGERING, ConnectionState.CLOSING, ConnectionState.CLOSED}
    assert all(following in ending for (state, _), following in EXPECTED.items() if state in ending)
