"""The states of a caller's connection, and the table of what leads from one to another.

What is not in the table can't happen, and raises. What a request goes through on it is in `core.exchange`. (RFC 9112 §9)
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final


class ConnectionState(enum.Enum):
    """The state of a caller's connection."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and the table is asked twice a request

    IDLE = "idle"  # nothing is being served; a request may be arriving
    SERVING = "serving"  # a request is being served; what arrives meanwhile waits
    LINGERING = "lingering"  # the last answer has been sent; open until the caller has read it, though it may send more
    CLOSING = "closing"  # closed from this side; what is left may still go out
    CLOSED = "closed"


class ConnectionEvent(enum.Enum):
    """An event in the life of a caller's connection."""

    __hash__ = object.__hash__

    SERVE = "serve"  # a complete request, or an error about one, is to be answered
    FINISH = "finish"  # the answer has gone out, and the connection stays open
    LINGER = "linger"  # no more is served; what the caller still sends is thrown away
    CLOSE = "close"  # no more is served
    LOSE = "lose"  # the connection is gone


_TABLE: Final = MappingProxyType({
    (ConnectionState.IDLE, ConnectionEvent.SERVE): ConnectionState.SERVING,
    (ConnectionState.IDLE, ConnectionEvent.LINGER): ConnectionState.LINGERING,
    (ConnectionState.IDLE, ConnectionEvent.CLOSE): ConnectionState.CLOSING,
    (ConnectionState.IDLE, ConnectionEvent.LOSE): ConnectionState.CLOSED,
    (ConnectionState.SERVING, ConnectionEvent.FINISH): ConnectionState.IDLE,
    (ConnectionState.SERVING, ConnectionEvent.LINGER): ConnectionState.LINGERING,
    (ConnectionState.SERVING, ConnectionEvent.CLOSE): ConnectionState.CLOSING,
    (ConnectionState.SERVING, ConnectionEvent.LOSE): ConnectionState.CLOSED,
    (ConnectionState.LINGERING, ConnectionEvent.CLOSE): ConnectionState.CLOSING,
    (ConnectionState.LINGERING, ConnectionEvent.LOSE): ConnectionState.CLOSED,
    (ConnectionState.CLOSING, ConnectionEvent.CLOSE): ConnectionState.CLOSING,
    (ConnectionState.CLOSING, ConnectionEvent.LOSE): ConnectionState.CLOSED,
})  # fmt: skip


_FOLLOWING: Final = {
    state: {event: following for (before, event), following in _TABLE.items() if before is state} for state in ConnectionState
}
"""The table by state and then by event: two look-ups by identity cost less than one by a pair."""


def after(state: ConnectionState, event: ConnectionEvent) -> ConnectionState:
    """The state that follows. Raises RuntimeError for an event that the table does not allow: a programming error."""
    following = _FOLLOWING[state].get(event)
    if following is None:
        raise RuntimeError(f"a connection that is {state.value} can't {event.value}")
    return following
