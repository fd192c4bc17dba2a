"""This file says what the store keeps and what it promises, whatever keeps it. (Contract §7, §8.)

Money is integer nano-dollars. A moment is whole Unix seconds; a day is whole days since 1970-01-01 in UTC, as `day_of` gives
it. Identities are text and are made by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

EntryKind = Literal["signup_bonus", "purchase", "grant", "usage", "refund", "adjustment"]
"""What moved the money of an entry."""

MAX_WAITING: Final = 200_000
"""So many charges not on disk, and the store says that it is failing."""

_DAY_S: Final = 86_400


def day_of(at: int) -> int:
    """The day of a moment."""
    return at // _DAY_S


class AccountRow(NamedTuple):
    """An account. `balance` is the sum of its ledger's entries, `purchased` that of its purchases."""

    id: str
    email: str
    created: int
    is_blocked: bool = False
    balance: int = 0
    purchased: int = 0


class KeyRow(NamedTuple):
    """A key: never the key itself, but its SHA-256 and the prefix under which people and logs know it."""

    id: str
    account: str
    digest: bytes
    prefix: str
    name: str
    created: int
    last_used_day: int | None = None
    is_revoked: bool = False


class Entry(NamedTuple):
    """A line of the append-only ledger; a usage is negative. No two of a kind have the same `reference`.

    The reference is a payment's id, or the gateway's own unique id of a request or job. `id` is 0 until the store has set it.
    """

    account: str
    at: int
    kind: EntryKind
    amount: int
    reference: str
    request_id: str | None = None
    model: str | None = None
    key: str | None = None
    note: str | None = None
    id: int = 0


class Added(NamedTuple):
    """What the ledger holds; not new, where the entry had been added before."""

    entry: Entry
    is_new: bool


class Charge(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one request costs that has ended; `amount` is 0 or more.

    `reference` is unique, and best begins with the time: then the newest lie together on disk and cost less to write.
    """

    account: str
    key: str | None
    reference: str
    request_id: str
    at: int
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    is_estimated: bool
    amount: int


class UsageRow(NamedTuple):
    """What an account used on one day of one model with one key."""

    day: int
    model: str
    key: str | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: int


class JobRow(NamedTuple):
    """An image job, without its content. `error` is the code of the error with which it ended.

    It was accepted by `provider` as `provider_job` of `provider_model`, for our model `answer_model`; None until then.
    """

    id: str
    account: str
    key: str
    request_id: str
    idempotency_key: str | None
    digest: bytes | None
    model: str
    n: int
    price: int
    created: int
    status: str = "pending"
    completed: int | None = None
    charged: int = 0
    error: str | None = None
    is_delivered: bool = False
    provider: str | None = None
    provider_model: str | None = None
    provider_job: str | None = None
    answer_model: str | None = None
    layer: int = 0
    number: int = 0


class Figures(NamedTuple):
    """What the store has done since it was opened. `lost` charges were unfit to be written, or too many."""

    commits: int
    charges: int
    operations: int
    lost: int
    last_commit_s: float


class StoreError(Exception):
    """The store did not do what it was asked to."""


class EmailTaken(StoreError):
    """Another account has this e-mail; upper and lower case are the same."""


class UnknownAccount(StoreError):
    """There is no such account."""


class PaymentConflict(StoreError):
    """The reference is that of another entry: for another account, or of another amount."""


class RowRefused(StoreError):
    """A rule of the tables is broken, such as the sign of an amount: a mistake of the caller's."""


class StoreUnavailable(StoreError):
    """The disk could not be written or read in time. What was asked will not be done later; asking again is safe."""


class Store(Protocol):
    """Accounts, keys and the ledger. All methods are the loop's; none of them keeps the loop waiting for the disk.

    What is awaited is on disk when it returns. A caller that is cancelled while it waits does not undo what it asked for.
    Each raises StoreUnavailable where the disk lets it wait for more than some seconds.
    """

    @property
    def is_failing(self) -> bool:
        """Whether charges can't be written just now, so that nobody should be let in who has to pay."""

    @property
    def waiting(self) -> int:
        """How many charges are not on disk yet."""

    @property
    def last_error(self) -> str | None:
        """What kept the last commit that failed from succeeding."""

    @property
    def figures(self) -> Figures:
        """What has been done so far, for the metrics."""

    def load(self) -> tuple[list[AccountRow], list[KeyRow]]:
        """All accounts, and all keys, also revoked ones, the oldest first. At the start only: it waits. Raises StartError."""

    def charge(self, charge: Charge) -> None:
        """Have a charge written within 100 ms: balance, ledger (where it costs anything) and the day's usage, or none of them.

        Never waits and never raises. A charge whose reference is in the ledger changes nothing.
        """

    def key_used(self, key: str, day: int) -> None:
        """Have it written that a key was used on a day; to be called with the first use of a day. Never waits, never raises."""

    async def settled(self) -> None:
        """Wait until all charges are on disk that have been handed over."""

    async def create_account(self, row: AccountRow, key: KeyRow | None, entries: Sequence[Entry]) -> None:
        """Add an account with its first key and entries; the row's sums are ignored. Raises EmailTaken, PaymentConflict."""

    async def add_entry(self, entry: Entry) -> Added:
        """Add to the ledger, once: the same reference again returns what is there. Raises PaymentConflict, UnknownAccount."""

    async def create_key(self, row: KeyRow) -> None:
        """Add a key. Raises UnknownAccount."""

    async def revoke_key(self, account: str, key: str) -> bool:
        """Revoke a key, for good; whether the account has such a key."""

    async def set_blocked(self, account: str, is_blocked: bool) -> bool:
        """Block or unblock an account; whether there is one."""

    async def transactions(self, account: str, before: int | None, limit: int) -> list[Entry]:
        """The newest entries of an account; or those next to `before`, the id of the last one that is known."""

    async def usage(self, account: str, from_day: int, to_day: int) -> list[UsageRow]:
        """What an account used from one day up to and with another, by day, model and key."""

    async def requests_on(self, account: str, day: int) -> int:
        """How many requests of an account ended on a day."""

    async def add_job(self, row: JobRow) -> tuple[JobRow, bool]:
        """Add a job and take what it holds from its account, at once or not at all; the number is the store's.

        Where the account has a job with this idempotency key, that is returned, with False, and nothing changes.
        """

    async def job_accepted(self, row: JobRow) -> bool:
        """Take note of who works on a job; whether it has not ended."""

    async def end_job(self, row: JobRow) -> bool:
        """End a job, once: give back what it held, and charge what it came to; whether it had not ended before."""

    async def lose_job(self, row: JobRow) -> bool:
        """Give back what a job came to that had succeeded, as its pictures are lost; whether it was still to be delivered."""

    async def job_delivered(self, ident: str) -> bool:
        """Take note that the caller has had the pictures of a job; whether there is such a job."""

    def unfinished_jobs(self, since: int) -> list[JobRow]:
        """The jobs that have not ended, and those that succeeded since a moment and whose pictures nobody has had.

        At the start only: it waits. Raises StartError.
        """

    async def job(self, account: str, ident: str) -> JobRow | None:
        """An account's job."""

    async def job_of_key(self, account: str, idempotency_key: str) -> JobRow | None:
        """An account's job with this idempotency key."""

    async def jobs(self, account: str, before: int | None, limit: int) -> list[JobRow]:
        """The newest jobs of an account; or those next to the one of the number `before`."""

    async def forget_jobs(self, before: int) -> bool:
        """Forget some of the jobs that ended and are older than this moment; whether there were any. The ledger stays."""

    def close(self) -> None:
        """Write what waits, if the disk lets it within some seconds, and let go of the database. Hand over nothing after it."""
