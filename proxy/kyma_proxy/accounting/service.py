"""Changes accounts, keys and balances: on disk first, then in memory. (Contract §8.)

What is acknowledged is on disk. A change that has begun is completed even if its caller has left, so memory and disk agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from kyma_proxy.core.accounts.accounts import KEY_RANDOM_BYTES, Account, Accounts, Key, is_email, new_key
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable
from kyma_proxy.store.contract import (
    AccountRow,
    Added,
    EmailTaken,
    Entry,
    EntryKind,
    KeyRow,
    PaymentConflict,
    Store,
    StoreUnavailable,
    day_of,
)

MAX_KEYS: Final = 100
"""The number of keys that an account can have at once."""

MAX_NEW_KEYS_PER_DAY: Final = 200
"""A key stays on disk when it is revoked, so an account can't create any number of them."""

_ID_BYTES: Final = 8
_T = TypeVar("_T")


class AccountService:
    """The accounts, in memory and in the store. `wall` is Unix time, `random_bytes` the system's random source."""

    def __init__(self, store: Store, *, wall: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        """Load all accounts and keys. Raises StartError."""
        self.store = store
        self._wall = wall
        self._random_bytes = random_bytes
        self.accounts = Accounts()
        self._changes: set[asyncio.Task[Any]] = set()
        self._keys_being_created: dict[str, int] = {}
        self._new_keys: dict[str, int] = {}
        self._counted_day = 0
        self.is_paused = False
        """True while another process takes the accounts over, and from then on: nothing is changed here."""
        accounts, keys = store.load()
        for row in accounts:
            self.accounts.add_account(_account(row))
        for one in keys:
            account = self.accounts.account(one.account)
            if account is not None and not one.is_revoked:
                self.accounts.add_key(_key(one, account))

    def refresh(self) -> None:
        """Take in what another process has added to the ledger since the start; nobody may be served yet. Raises StartError."""
        for row in self.store.changed_accounts():
            account = self.accounts.account(row.id)
            if account is not None:
                account.balance, account.purchased = row.balance, row.purchased

    async def create_account(
        self, email: str, *, amount: int = 0, kind: EntryKind = "grant", note: str | None = None
    ) -> tuple[Account, Key, str]:
        """Create an account with a key and `amount` of credits. Returns it, the key and the secret. Raises GatewayError."""
        email = email.strip()
        if not is_email(email):
            raise GatewayError(Kind.INVALID_REQUEST, "`email` is not an e-mail address.", param="email")
        return await self._complete(self._create_account(email, amount, kind, note))

    async def create_key(self, account: Account, name: str) -> tuple[Key, str]:
        """Create a further key. Returns it and its secret. Raises GatewayError."""
        if self.is_paused:  # before it is counted
            raise accounts_unavailable()
        today = day_of(int(self._wall()))
        if self._counted_day != today:
            self._counted_day, self._new_keys = today, {}
        new_keys = self._new_keys.get(account.id, 0)
        if len(account.keys) + self._keys_being_created.get(account.id, 0) >= MAX_KEYS:
            raise GatewayError(Kind.CONFLICT, f"An account can have {MAX_KEYS} keys; revoke one first.")
        if new_keys >= MAX_NEW_KEYS_PER_DAY:
            raise GatewayError(Kind.CONFLICT, f"An account can create {MAX_NEW_KEYS_PER_DAY} keys a day; try again tomorrow.")
        self._new_keys[account.id] = new_keys + 1
        self._keys_being_created[account.id] = self._keys_being_created.get(account.id, 0) + 1
        return await self._complete(self._create_key(account, name))

    async def revoke_key(self, account: Account, key_id: str) -> None:
        """Revoke a key, from the next request on. Raises GatewayError if the account has no such key."""
        await self._complete(self._revoke_key(account, key_id))

    async def set_blocked(self, account: Account, is_blocked: bool) -> None:
        """Block or unblock an account, from the next request on. Raises GatewayError."""
        await self._complete(self._set_blocked(account, is_blocked))

    async def purchase(self, account: Account, amount: int, payment_id: str) -> Added:
        """Add credits that were paid for, once for each payment. The tier is updated at once. Raises GatewayError."""
        return await self._complete(self._post(account, amount, "purchase", payment_id, None))

    async def grant(self, account: Account, amount: int, reason: str | None) -> Added:
        """Add credits that were not paid for. Raises GatewayError."""
        return await self._complete(self._post(account, amount, "grant", self._new_id("grant"), reason))

    async def drain(self) -> None:
        """Wait until the changes that have begun are complete."""
        await asyncio.gather(*self._changes, return_exceptions=True)

    # ---- the changes, on disk and then in memory

    async def _create_account(self, email: str, amount: int, kind: EntryKind, note: str | None) -> tuple[Account, Key, str]:
        at = int(self._wall())
        row = AccountRow(self._new_id("acct"), email, at)
        key, secret = self._new_key(row.id, "first", at)
        entries = [Entry(row.id, at, kind, amount, f"{kind}-{row.id}", note=note)] if amount else []
        await _translated(self.store.create_account(row, key, entries))
        account = _account(row)
        account.balance = amount
        first = _key(key, account)
        self.accounts.add_account(account)
        self.accounts.add_key(first)
        return account, first, secret

    async def _create_key(self, account: Account, name: str) -> tuple[Key, str]:
        row, secret = self._new_key(account.id, name, int(self._wall()))
        try:
            await _translated(self.store.create_key(row))
        finally:
            self._keys_being_created[account.id] -= 1
            if not self._keys_being_created[account.id]:
                del self._keys_being_created[account.id]
        key = _key(row, account)
        self.accounts.add_key(key)
        return key, secret

    async def _revoke_key(self, account: Account, key_id: str) -> None:
        if not await _translated(self.store.revoke_key(account.id, key_id)):
            raise GatewayError(Kind.NOT_FOUND, "The account has no such key.")
        key = self.accounts.key(key_id)
        if key is not None:
            self.accounts.revoke(key)

    async def _set_blocked(self, account: Account, is_blocked: bool) -> None:
        await _translated(self.store.set_blocked(account.id, is_blocked))
        account.is_blocked = is_blocked

    async def _post(self, account: Account, amount: int, kind: EntryKind, reference: str, note: str | None) -> Added:
        added = await _translated(
            self.store.add_entry(Entry(account.id, int(self._wall()), kind, amount, reference, note=note))
        )
        if added.is_new:
            account.post(amount, is_purchase=kind == "purchase")
        return added

    async def _complete(self, change: Coroutine[Any, Any, _T]) -> _T:
        if self.is_paused:
            change.close()
            raise accounts_unavailable()
        task = asyncio.get_running_loop().create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    def _new_key(self, account: str, name: str, at: int) -> tuple[KeyRow, str]:
        secret, digest, prefix = new_key(self._random_bytes(KEY_RANDOM_BYTES))
        return KeyRow(self._new_id("key"), account, digest, prefix, name, at), secret

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._random_bytes(_ID_BYTES).hex()}"


async def _translated(operation: Coroutine[Any, Any, _T]) -> _T:
    """The result of an operation of the store; its errors become GatewayErrors."""
    try:
        return await operation
    except EmailTaken:
        raise GatewayError(Kind.CONFLICT, "There is already an account with this e-mail.", param="email") from None
    except PaymentConflict:
        raise GatewayError(
            Kind.CONFLICT, "This payment is already in the ledger, for another account or amount.", param="payment_id"
        ) from None
    except StoreUnavailable:
        raise accounts_unavailable() from None


def _account(row: AccountRow) -> Account:
    return Account(row.id, row.email, row.created, is_blocked=row.is_blocked, balance=row.balance, purchased=row.purchased)


def _key(row: KeyRow, account: Account) -> Key:
    return Key(
        row.id, account, row.digest, row.prefix, row.name, row.created,
        last_used_day=row.last_used_day, is_revoked=row.is_revoked,
    )  # fmt: skip
