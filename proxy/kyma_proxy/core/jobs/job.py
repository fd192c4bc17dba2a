"""One image job from its submission to its ending: the record, and the law of its life. (Contract §10.)

The law is a table: state × event → state; what is not in it can't happen, and raises. What a job holds goes back with every
ending, and a success is charged; a picture that is lost before its caller had it is given back too.
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
    """Where a job stands. The lower four are endings."""

    __hash__ = object.__hash__  # Enum's own is written in Python

    QUEUED = "queued"  # waits for its turn
    ASKING = "asking"  # a source is being asked
    ACCEPTED = "accepted"  # a source works on it, and has named it

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUNDED = "refunded"
    EXPIRED = "expired"


class JobEvent(enum.Enum):
    """What can happen to a job."""

    __hash__ = object.__hash__

    START = "start"  # its turn has come
    ACCEPT = "accept"  # a source has taken it and named it
    MOVE_ON = "move_on"  # this source will not deliver
    DELIVER = "deliver"  # a source has delivered
    FAIL = "fail"  # no source could, or none may be asked after this answer
    EXPIRE = "expire"  # its time is over
    CANCEL = "cancel"  # its caller does not want it any more
    LOSE = "lose"  # the gateway itself can't finish it, or has lost what was delivered
    RESUME = "resume"  # after a restart, what was delivered is fetched once more


_ENDED_BY: Final = MappingProxyType({
    JobEvent.FAIL: JobState.FAILED, JobEvent.EXPIRE: JobState.EXPIRED, JobEvent.CANCEL: JobState.REFUNDED,
    JobEvent.LOSE: JobState.REFUNDED,
})  # fmt: skip
_RUNNING: Final = (JobState.ASKING, JobState.ACCEPTED)

TABLE: Final = MappingProxyType(
    {(state, event): ending for state in (JobState.QUEUED, *_RUNNING) for event, ending in _ENDED_BY.items()}
    | {(state, JobEvent.DELIVER): JobState.SUCCEEDED for state in _RUNNING}
    | {(state, JobEvent.MOVE_ON): JobState.ASKING for state in _RUNNING}
    | {
        (JobState.QUEUED, JobEvent.START): JobState.ASKING,
        (JobState.ASKING, JobEvent.ACCEPT): JobState.ACCEPTED,
        (JobState.SUCCEEDED, JobEvent.RESUME): JobState.ACCEPTED,
        (JobState.SUCCEEDED, JobEvent.LOSE): JobState.REFUNDED,
    }
)

ENDINGS: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.REFUNDED, JobState.EXPIRED})
_STATUS: Final = MappingProxyType({JobState.QUEUED: "pending", JobState.ASKING: "processing", JobState.ACCEPTED: "processing"})

EXPIRES_AFTER_S: Final = 300
"""From a job's submission to its end. (Contract §10.)"""
STATUSES: Final = ("pending", "processing", "succeeded", "failed", "refunded", "expired")
"""The words that callers see."""


class Picture(msgspec.Struct, frozen=True, gc=False):
    """An image as it is passed on: its URL, or its bytes in base64, as the JSON text of a string."""

    url: str | None = None
    b64_json: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """About how many bytes it takes."""
        return len(self.url or "") + len(self.b64_json or b"")


class ImageRequest(msgspec.Struct, frozen=True, gc=False):
    """What a caller wants: `n` images of `model`; `extra` are further members, as JSON texts."""

    model: str
    prompt: str
    n: int
    size: str | None = None
    images: tuple[str, ...] = ()
    extra: tuple[tuple[str, bytes], ...] = ()
    response_format: str | None = None

    @property
    def size_bytes(self) -> int:
        """About how many bytes it takes."""
        return len(self.prompt) + sum(map(len, self.images)) + sum(len(value) for _, value in self.extra)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """By whom a job was taken: the provider, its id of the model and its name for the job ("" where it delivered at once).

    `model` is ours that answers, `layer` its layer, and `price` what it costs an image. `source` is where the provider can be
    asked about the job; None where that is not known any more.
    """

    provider: str
    provider_model: str
    provider_job: str
    model: str
    layer: int
    price: int
    source: Source | None = None


class Job:
    """Everything known of one job. Written on the loop alone.

    `price` is that of an image, in nano-dollars, as is `charged`, what it came to. `account` is None where nobody
    is asked for a key. `request` is let go of with the ending. Moments are Unix seconds.
    """

    __slots__ = (
        "__weakref__", "account", "alias", "attempts", "charged", "completed", "created", "digest", "failure", "id",
        "idempotency_key", "is_delivered", "is_settled", "key_id", "key_prefix", "model", "n", "number", "pictures", "price",
        "request", "request_id", "state", "taken",
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
        """Later jobs have higher ones."""
        self.request_id = ""
        self.request: ImageRequest | None = None
        self.idempotency_key: str | None = None
        self.digest = b""
        self.state = JobState.QUEUED
        self.taken: Taken | None = None
        self.attempts: list[str] = []
        self.completed: int | None = None
        self.pictures: tuple[Picture, ...] = ()
        self.failure: GatewayError | None = None
        self.charged = 0
        self.is_settled = False
        """Whether the ledger has what it came to, and has given back what it held."""
        self.is_delivered = False
        """Whether its caller has had the pictures."""

    @property
    def owner(self) -> str:
        """The id of its account, "" where it is nobody's."""
        return "" if self.account is None else self.account.id

    @property
    def held(self) -> int:
        """What it may cost, in nano-dollars."""
        return self.price * self.n

    def step(self, event: JobEvent) -> None:
        """Move to the next state. An event that the table does not allow is a programming error and raises."""
        self.state = self.after(event)

    def after(self, event: JobEvent) -> JobState:
        """The state to which an event leads. Raises RuntimeError where there is none."""
        following = TABLE.get((self.state, event))
        if following is None:
            raise RuntimeError(f"a job that is {self.state.value} can't {event.value}")
        return following

    @property
    def has_ended(self) -> bool:
        """Whether the job has reached one of its endings."""
        return self.state in ENDINGS

    @property
    def status(self) -> str:
        """The word that callers see."""
        return status_of(self.state)


def status_of(state: JobState) -> str:
    """The word that callers see for a state."""
    return _STATUS.get(state, state.value)
