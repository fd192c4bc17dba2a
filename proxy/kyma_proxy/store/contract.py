"""Defines what a store keeps and what it promises, whichever database it uses. (Contract §7, §8.)

Money is integer nano-dollars. A moment is whole Unix seconds; a day is whole days since 1970-01-01 in UTC, as `day_of` gives
it. Ids are text and are made by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from kyma_proxy.store.activity import ActivityFilter, ActivityPage

EntryKind = Literal["signup_bonus", "purchase", "grant", "usage", "refund", "adjustment"]
"""The reason of an entry."""

DAY_S: Final = 86_400


def day_of(at: int) -> int:
    """The day of a moment."""
    return at // DAY_S


class AccountRow(NamedTuple):
    """An account. `balance` is the sum of its ledger's entries, `purchased` that of its purchases."""

    id: str
    email: str
    created: int
    is_blocked: bool = False
    balance: int = 0
    purchased: int = 0


class KeyRow(NamedTuple):
    """A key: never the key itself, but its SHA-256 and the prefix by which people and logs refer to it."""

    id: str
    account: str
    digest: bytes
    prefix: str
    name: str
    created: int
    last_used_day: int | None = None
    is_revoked: bool = False


class Entry(NamedTuple):
    """A line of the append-only ledger; the amount of a usage is negative. No two of a kind have the same `reference`.

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
    """The entry that the ledger holds; `is_new` is False if it had been added before."""

    entry: Entry
    is_new: bool


class Charge(msgspec.Struct, frozen=True, gc=False):
    """The cost of one request that has ended; `amount` is 0 or more.

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
    """The use that an account made of one model with one key on one day."""

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


class SessionRow(NamedTuple):
    """A session of the dashboard: never its cookie, but the cookie's SHA-256. It was begun with `key`."""

    digest: bytes
    id: str
    account: str
    key: str
    created: int
    expires: int


class StoreStatistics(NamedTuple):
    """The store's counters since it was opened, and its present state.

    `lost` charges could not be written for a reason of their own, or were too many. `waiting_key_uses` are not on disk yet.
    `is_idle`: nothing waits, and the store waits to be woken. `is_committing`: a transaction is being written.
    """

    commits: int
    charges: int
    operations: int
    lost: int
    last_commit_s: float
    waiting_key_uses: int
    is_idle: bool
    is_committing: bool


class StoreError(Exception):
    """The store did not do what was asked of it."""


class EmailTaken(StoreError):
    """Another account has this e-mail; upper and lower case are the same."""


class UnknownAccount(StoreError):
    """There is no such account."""


class PaymentConflict(StoreError):
    """The reference is that of another entry: for another account, or of another amount."""


class RowRefused(StoreError):
    """A rule of the tables is broken, such as the sign of an amount: a mistake of the caller's."""


class StoreUnavailable(StoreError):
    """The disk could not be written or read in time. Nothing of it is done later, so it is safe to try again."""


class Store(Protocol):
    """Accounts, keys and the ledger. Call all methods from the event loop; none of them blocks it.

    What is awaited is on disk when it returns. To cancel a waiting caller does not undo what it asked for.
    Every coroutine raises StoreUnavailable if it has waited for the disk for some seconds.
    """

    @property
    def is_failing(self) -> bool:
        """True while charges can't be written; then no request that has to be paid for should be admitted."""

    @property
    def waiting(self) -> int:
        """The number of charges that are not on disk yet."""

    @property
    def last_error(self) -> str | None:
        """The error of the last commit that failed."""

    @property
    def lock_descriptor(self) -> int | None:
        """A descriptor by which another process can share the right to write; None if there is none to share."""

    @property
    def is_lock_shared(self) -> bool:
        """True if this store had the right to write by such a descriptor."""

    def release_lock(self) -> None:
        """Leave the right to write to the process that shares it. Charges and jobs are still written, as each is there once."""

    def statistics(self) -> StoreStatistics:
        """Counters and present state, for the metrics."""

    def load(self) -> tuple[list[AccountRow], list[KeyRow]]:
        """All accounts, and all keys, also revoked ones, the oldest first. Blocks: for the start only. Raises StartError."""

    def changed_accounts(self) -> list[AccountRow]:
        """The accounts to whose ledger somebody else has added since `load`. Blocks: for the start only. Raises StartError."""

    @property
    def was_upgraded(self) -> bool:
        """True if another program has upgraded the database since it was opened. Blocks. Raises StartError."""

    def charge(self, charge: Charge) -> None:
        """Have a charge written within 100 ms: balance, ledger (if it costs anything) and the day's usage, or none of them.

        Never blocks and never raises. A charge whose reference is in the ledger changes nothing.
        """

    def key_used(self, key: str, day: int) -> None:
        """Have the day of a key's use written; call it for the first use of a day. Never blocks and never raises."""

    async def flush(self) -> None:
        """Wait until all charges that were handed over are on disk."""

    async def create_account(self, row: AccountRow, key: KeyRow | None, entries: Sequence[Entry]) -> None:
        """Add an account with its first key and entries; the row's sums are ignored. Raises EmailTaken, PaymentConflict."""

    async def add_entry(self, entry: Entry) -> Added:
        """Add to the ledger, once: for the same reference, return what is there. Raises PaymentConflict, UnknownAccount."""

    async def create_key(self, row: KeyRow) -> None:
        """Add a key. Raises UnknownAccount."""

    async def revoke_key(self, account: str, key: str) -> bool:
        """Revoke a key, for good. Returns False if the account has no such key."""

    async def set_blocked(self, account: str, is_blocked: bool) -> bool:
        """Block or unblock an account. Returns False if there is no such account."""

    async def transactions(self, account: str, before: int | None, limit: int) -> list[Entry]:
        """The newest entries of an account, or the next older ones after the entry with the id `before`."""

    async def usage(self, account: str, from_day: int, to_day: int) -> list[UsageRow]:
        """The usage of an account from one day to another, both included, by day, model and key."""

    async def requests_on(self, account: str, day: int) -> int:
        """The number of requests of an account that ended on a day."""

    async def usage_sums(self, account: str, from_day: int, to_day: int, by: Literal["day", "model"]) -> list[UsageRow]:
        """The sums of an account's usage by day or by model; the other members are 0, "" and None.

        The days are in order. Of the models there are those on which most was spent, a hundred at most.
        """

    async def add_session(self, row: SessionRow, most: int) -> None:
        """Add a session; the account keeps its `most` newest ones. Raises UnknownAccount."""

    async def session(self, digest: bytes) -> SessionRow | None:
        """The session of a cookie, also one that has expired."""

    async def sessions(self, account: str) -> list[SessionRow]:
        """The sessions of an account, the newest first, also those that have expired."""

    async def end_session(self, account: str, ident: str) -> bool:
        """End a session, for good. Returns False if the account has no such session."""

    async def add_job(self, row: JobRow) -> tuple[JobRow, bool]:
        """Add a job and take what it holds from its account, both or neither; the store sets the number.

        If the account has a job with this idempotency key, return that one and False, and change nothing.
        """

    async def job_accepted(self, row: JobRow) -> bool:
        """Note the source that works on a job. Returns False if the job has ended."""

    async def end_job(self, row: JobRow) -> bool:
        """End a job, once: give back what it held, and charge what it cost. Returns False if it had ended before."""

    async def lose_job(self, row: JobRow) -> bool:
        """Give back the cost of a job that succeeded and whose pictures are lost. Returns False if they had been delivered."""

    async def job_delivered(self, ident: str) -> bool:
        """Note that the caller has received the pictures of a job. Returns False if there is no such job."""

    def unfinished_jobs(self, since: int) -> list[JobRow]:
        """The jobs that have not ended, and those that succeeded after `since` and whose pictures were not delivered.

        Blocks: for the start only. Raises StartError.
        """

    async def job(self, account: str, ident: str) -> JobRow | None:
        """An account's job."""

    async def job_of_key(self, account: str, idempotency_key: str) -> JobRow | None:
        """An account's job with this idempotency key."""

    async def jobs(self, account: str, before: int | None, limit: int) -> list[JobRow]:
        """The newest jobs of an account, or the next older ones after the job with the number `before`."""

    async def forget_jobs(self, before: int) -> bool:
        """Delete some of the jobs that have ended and are older than this moment; returns False if there were none.

        Their lines of the ledger stay.
        """

    async def add_activity(self, lines: bytes) -> None:
        """Keep the requests of accounts among these lines of the access log; others are left out. Raises RowRefused."""

    async def forget_activity(self, before: int, rows: int) -> bool:
        """Delete some of the oldest requests that ended before this moment or are beyond the newest `rows`.

        Returns False once there are no more of them.
        """

    async def activity(self, wanted: ActivityFilter, before: int | None, limit: int) -> ActivityPage:
        """The newest requests that fit, or the next older ones before the id `before`; it looks at so many rows at most."""

    def close(self) -> None:
        """Write what waits, if the disk lets it within some seconds, and close the database. Hand over nothing after it."""
