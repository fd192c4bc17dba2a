"""One request from its arrival to its ending: the record that is passed along the path, and the table of its states.

The table says which event leads from which state to which. What is not in it can't happen, and raises. There is one point
of no return, COMMIT: before it another source may still be tried, after it never. (Contract §4.3–4.6, §11.)
"""

from __future__ import annotations

import enum
from typing import Final

from kyma_proxy.config.snapshot import Model, Route, Snapshot, Source
from kyma_proxy.core.accounts.accounts import Key
from kyma_proxy.core.accounts.reservation import Reservation
from kyma_proxy.core.accounts.usage import NO_USAGE, Usage
from kyma_proxy.core.http.body import RoutingFields
from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.core.http.inbound import Inbound
from kyma_proxy.core.routing.plan import Step


class State(enum.Enum):
    """The state of a request. The lower seven are endings; their values are the words of the access log."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and the table is asked on every step

    OPEN = "open"  # no provider has the request
    SENT = "sent"  # a provider may have it
    COMMITTED = "committed"  # the caller has the head of a 2xx answer
    RELAYING_ERROR = "relaying_error"  # the caller has the head of a provider's error, relayed as it came

    COMPLETED = "completed"
    RELAYED_ERROR = "relayed_error"
    REJECTED = "rejected"
    FAILED = "failed"
    BROKEN = "broken"
    CLIENT_GONE = "client_gone"
    DRAINED = "drained"


class Event(enum.Enum):
    """An event in the life of a request."""

    __hash__ = object.__hash__

    SEND = "send"  # its bytes go to a provider
    MOVE_ON = "move_on"  # this source will not answer it
    COMMIT = "commit"  # the head of a 2xx answer goes to the caller
    RELAY_ERROR = "relay_error"  # the head of a provider's error goes to the caller
    END = "end"  # the answer's last byte has gone to the caller
    CUT = "cut"  # the provider stopped in the middle of its answer
    REJECT = "reject"  # the gateway itself will not serve it
    EXHAUST = "exhaust"  # every source has failed
    LEAVE = "leave"  # the caller left
    ANSWER = "answer"  # the gateway itself has answered
    DRAIN = "drain"  # the gateway is going down and can't wait any longer


_TABLE: Final[dict[State, dict[Event, State]]] = {
    State.OPEN: {
        Event.SEND: State.SENT,
        Event.MOVE_ON: State.OPEN,
        Event.REJECT: State.REJECTED,
        Event.EXHAUST: State.FAILED,
        Event.ANSWER: State.COMPLETED,
        Event.LEAVE: State.CLIENT_GONE,
        Event.DRAIN: State.DRAINED,
    },
    State.SENT: {
        Event.MOVE_ON: State.OPEN,
        Event.COMMIT: State.COMMITTED,
        Event.RELAY_ERROR: State.RELAYING_ERROR,
        Event.LEAVE: State.CLIENT_GONE,
        Event.DRAIN: State.DRAINED,
    },
    State.COMMITTED: {
        Event.END: State.COMPLETED,
        Event.CUT: State.BROKEN,
        Event.LEAVE: State.CLIENT_GONE,
        Event.DRAIN: State.DRAINED,
    },
    State.RELAYING_ERROR: {
        Event.END: State.RELAYED_ERROR,
        Event.CUT: State.BROKEN,
        Event.LEAVE: State.CLIENT_GONE,
        Event.DRAIN: State.DRAINED,
    },
}

ENDINGS: Final = frozenset(
    {State.COMPLETED, State.RELAYED_ERROR, State.REJECTED, State.FAILED, State.BROKEN, State.CLIENT_GONE, State.DRAINED}
)


ANSWERED: Final = "answered"
ABANDONED: Final = "abandoned"


class AttemptRecord:
    """The record of one attempt: the source that was asked (`step`), when, and how it went.

    `result` is ANSWERED, the word for a failure, or ABANDONED: the caller or the operator ended it, which says nothing against
    the source. Times are seconds of the monotonic clock, 0.0 until they happen: `started` when the attempt began, `sent` when
    its request went out, `first_byte` when the first byte of its answer had gone to the caller.
    """

    __slots__ = ("first_byte", "result", "sent", "started", "step")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.result = ABANDONED
        self.started = 0.0
        self.sent = 0.0
        self.first_byte = 0.0

    @property
    def provider(self) -> str:
        """The name of the provider that was asked."""
        return self.step.source.provider.name


class Exchange:
    """Everything that is known of one request. Written by the gateway and by its attempts, on one loop.

    `asked_at` is the name of the endpoint at which the request came, if its body is another's, and `lost` names what was lost
    of it when it was made one of this endpoint's. `route` is that of the model that was asked for, `model` the one that
    answers. `key` and `reservation` are there if requests are metered: who calls, and what the request has reserved; `cost` is
    then what it came to, in nano-dollars. `dropped` names the request's members that had no place in the dialect of the source
    that answered. `error_code` is that of the gateway's own error, or of one that a provider reported in its answer. Times are
    seconds of the monotonic clock, 0.0 until they happen; `dialled_s` is the time without a connection before the request was
    first sent, and `overhead_s` the gateway's own share of the time until the first byte.
    """

    __slots__ = (
        "alias", "answered_by", "asked_at", "attempts", "bytes_in", "bytes_out", "cost", "dialled_s", "dropped", "endpoint",
        "error_code", "first_byte", "inbound", "key", "layer", "lost", "model", "overhead_s", "provider_request_id",
        "reservation", "route", "routing", "sent", "snapshot", "state", "status", "usage",
    )  # fmt: skip

    def __init__(self, inbound: Inbound, endpoint: Endpoint, snapshot: Snapshot) -> None:
        self.inbound = inbound
        self.endpoint = endpoint
        self.asked_at: str | None = None
        self.lost: tuple[str, ...] = ()
        self.snapshot = snapshot
        self.state = State.OPEN
        self.routing: RoutingFields | None = None
        self.model: Model | None = None
        self.route: Route | None = None
        self.alias: str | None = None
        self.attempts: list[AttemptRecord] = []
        self.answered_by: Source | None = None
        self.layer = 0
        self.dropped: tuple[str, ...] = ()
        self.status = 0
        self.provider_request_id: str | None = None
        self.bytes_in = len(inbound.body)
        self.bytes_out = 0
        self.error_code: str | None = None
        self.usage: Usage = NO_USAGE
        self.cost: int | None = None
        self.key: Key | None = None
        self.reservation: Reservation | None = None
        self.sent = 0.0
        self.first_byte = 0.0
        self.dialled_s = 0.0
        self.overhead_s = 0.0

    def step(self, event: Event) -> None:
        """Move to the next state. Raises RuntimeError for an event that the table does not allow: a programming error."""
        events = _TABLE.get(self.state)
        following = None if events is None else events.get(event)
        if following is None:
            raise RuntimeError(f"a request that is {self.state.value} can't {event.value}")
        self.state = following

    @property
    def has_ended(self) -> bool:
        """True if the request has reached one of its endings."""
        return self.state in ENDINGS

    @property
    def is_sent(self) -> bool:
        """True if a provider may have the request, and the caller has nothing yet."""
        return self.state is State.SENT

    @property
    def is_answered(self) -> bool:
        """True if the caller got (the beginning of) an answer that is no error."""
        return self.first_byte > 0.0 and 200 <= self.status < 300

    @property
    def is_committed(self) -> bool:
        """True if the caller has the head of an answer."""
        return self.state is State.COMMITTED or self.state is State.RELAYING_ERROR
