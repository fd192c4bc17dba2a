"""Records one image job from its submission to its ending, and holds the table of its states. (Contract §10.)

The table maps state × event → state; a transition that it does not have is a programming error and raises. Every ending gives
back what the job held, and a success is charged. If a restart loses pictures that were not delivered, the charge is given back.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.accounts.accounts import Account
from kyma_proxy.errors import GatewayError


class JobState(enum.Enum):
    """The state of a job. The lower four are endings."""

    __hash__ = object.__hash__  # Enum's own is written in Python

    QUEUED = "queued"  # waits for a slot
    DISPATCHED = "dispatched"  # it is being sent to a source
    ACCEPTED = "accepted"  # a source works on it, and has given it an id

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUNDED = "refunded"
    EXPIRED = "expired"


class JobEvent(enum.Enum):
    """An event in the life of a job."""

    __hash__ = object.__hash__

    START = "start"  # it has got a slot
    ACCEPT = "accept"  # a source has accepted it and given it an id
    MOVE_ON = "move_on"  # this source will not deliver
    DELIVER = "deliver"  # a source has delivered
    FAIL = "fail"  # no source could make the pictures, or the answer forbids asking another
    EXPIRE = "expire"  # its time is over
    CANCEL = "cancel"  # its caller has cancelled it
    LOSE = "lose"  # the gateway itself can't finish it, or has lost what was delivered
    RESUME = "resume"  # after a restart, the pictures are fetched from the source again


_ENDED_BY: Final = MappingProxyType({
    JobEvent.FAIL: JobState.FAILED, JobEvent.EXPIRE: JobState.EXPIRED, JobEvent.CANCEL: JobState.REFUNDED,
    JobEvent.LOSE: JobState.REFUNDED,
})  # fmt: skip
_RUNNING: Final = (JobState.DISPATCHED, JobState.ACCEPTED)

TRANSITIONS: Final = MappingProxyType(
    {(state, event): ending for state in (JobState.QUEUED, *_RUNNING) for event, ending in _ENDED_BY.items()}
    | {(state, JobEvent.DELIVER): JobState.SUCCEEDED for state in _RUNNING}
    | {(state, JobEvent.MOVE_ON): JobState.DISPATCHED for state in _RUNNING}
    | {
        (JobState.QUEUED, JobEvent.START): JobState.DISPATCHED,
        (JobState.DISPATCHED, JobEvent.ACCEPT): JobState.ACCEPTED,
        (JobState.SUCCEEDED, JobEvent.RESUME): JobState.ACCEPTED,
        (JobState.SUCCEEDED, JobEvent.LOSE): JobState.REFUNDED,
    }
)

ENDINGS: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.REFUNDED, JobState.EXPIRED})
_STATUS: Final = MappingProxyType({
    JobState.QUEUED: "pending", JobState.DISPATCHED: "processing", JobState.ACCEPTED: "processing",
})  # fmt: skip

EXPIRES_AFTER_S: Final = 300
"""From a job's submission to its expiry; a source that can't be stopped by then gets as long again. (Contract §10.)"""
STATUSES: Final = ("pending", "processing", "succeeded", "failed", "refunded", "expired")
"""The values of `status` that callers see."""


class Picture(msgspec.Struct, frozen=True, gc=False):
    """An image: its URL, or its bytes in base64, as the JSON text of a string, which is passed on as it came."""

    url: str | None = None
    b64_json: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """Approximate size in memory."""
        return len(self.url or "") + len(self.b64_json or b"")


class ImageRequest(msgspec.Struct, frozen=True, gc=False):
    """A caller's request: `n` images by `model`. `extra` are the further members, as JSON texts."""

    model: str
    prompt: str
    n: int
    size: str | None = None
    images: tuple[str, ...] = ()
    extra: tuple[tuple[str, bytes], ...] = ()
    response_format: str | None = None

    @property
    def size_bytes(self) -> int:
        """Approximate size in memory."""
        return len(self.prompt) + sum(map(len, self.images)) + sum(len(value) for _, value in self.extra)


class AcceptedBy(msgspec.Struct, frozen=True, kw_only=True):
    """The source that has accepted a job: the provider, its model id, and its ids for the job ("" if it delivered at once).

    They are several, with commas between them, if the source makes fewer pictures in one request.

    `model` is the catalogue id of the model that answers, `layer` its fallback layer, and `price` its price of an image.
    `source` is the source to poll; None if it is no longer configured.
    """

    provider: str
    provider_model: str
    provider_job: str
    model: str
    layer: int
    price: int
    source: Source | None = None

    @property
    def provider_jobs(self) -> list[str]:
        """The source's ids for the parts of the job."""
        return self.provider_job.split(",") if self.provider_job else []


class Job:
    """Everything that is known of one job. Only code on the event loop writes it.

    `price` (of an image), `cost` (of its pictures) and `charged` are in nano-dollars. `account` is None if no key is required.
    `request` is dropped at the ending. Times are Unix seconds.
    """

    __slots__ = (
        "__weakref__", "accepted_by", "account", "alias", "attempts", "charged", "completed", "cost", "created", "digest",
        "failure", "id", "idempotency_key", "is_delivered", "is_ordered", "is_settled", "key_id", "key_prefix", "made_by",
        "model", "n", "number", "pictures", "price", "request", "request_id", "state", "stopped_by",
    )  # fmt: skip

    def __init__(self, ident: str, *, account: Account | None, model: str, n: int, price: int, created: float) -> None:
        self.id = ident
        self.account = account
        self.key_id = ""
        self.key_prefix: str | None = None
        self.model = model
        self.alias: str | None = None
        self.n = n
        self.price = price
        self.created = created
        self.number = 0
        """Later jobs have higher numbers."""
        self.request_id = ""
        self.request: ImageRequest | None = None
        self.idempotency_key: str | None = None
        self.digest = b""
        self.state = JobState.QUEUED
        self.is_ordered = False
        """True from the moment in which its request is sent to a source until that source fails: it may be drawing."""
        self.stopped_by: JobEvent | None = None
        """The reason why it is to end early, if nothing more comes of it."""
        self.accepted_by: AcceptedBy | None = None
        self.attempts: list[str] = []
        self.completed: int | None = None
        self.pictures: tuple[Picture, ...] = ()
        self.made_by: AcceptedBy | None = None
        """The source that has made pictures, the last of them if several have."""
        self.cost = 0
        self.failure: GatewayError | None = None
        self.charged = 0
        self.is_settled = False
        """True if the ledger has given back what the job held, and has charged it."""
        self.is_delivered = False
        """True if its caller has had the pictures, or has pushed them out of memory: then no restart refunds them."""

    @property
    def owner(self) -> str:
        """The id of its account; "" if it has none."""
        return "" if self.account is None else self.account.id

    @property
    def held(self) -> int:
        """The most that it may cost, in nano-dollars, which is held until it ends."""
        return self.price * self.n

    def take(self, pictures: tuple[Picture, ...], by: AcceptedBy) -> None:
        """Add what a source has made, at the price at submission or that of the model that made it, if it is lower."""
        wanted = pictures[: self.n - len(self.pictures)]
        self.pictures += wanted
        self.cost += len(wanted) * min(self.price, by.price)
        self.made_by = by

    def mark_ordered(self) -> None:
        """Record that a source gets the request now."""
        self.is_ordered = True

    def step(self, event: JobEvent) -> None:
        """Move to the next state. Raises RuntimeError if the table does not allow the event: a programming error."""
        self.state = self.next_state(event)

    def next_state(self, event: JobEvent) -> JobState:
        """The state that an event leads to. Raises RuntimeError if there is none."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise RuntimeError(f"a job that is {self.state.value} can't {event.value}")
        return state

    @property
    def has_ended(self) -> bool:
        """True if the job has reached one of its endings."""
        return self.state in ENDINGS

    @property
    def status(self) -> str:
        """The `status` that callers see."""
        return status_of(self.state)


def status_of(state: JobState) -> str:
    """The `status` that callers see for a state."""
    return _STATUS.get(state, state.value)
