"""This file changes accounts, keys and balances: on disk first, then in memory. (Contract §8.)

What is acknowledged is on disk. A change runs to its end also where whoever asked for it has left, so that memory and disk
say the same.
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
"""An account has so many keys at once at most."""

MAX_KEYS_A_DAY: Final = 200
"""What is made is on disk for good, so an account can't make any number."""

_ID_BYTES: Final = 8
_T = TypeVar("_T")


class AccountService:
    """The accounts in memory and in the store. `wall` is Unix time, `random_bytes` the system's random source."""

    def __init__(self, store: Store, *, wall: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        """Load everything. Raises StartError."""
        self.store = store
        self._wall = wall
        self._random_bytes = random_bytes
        self.accounts = Accounts()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._in_the_making: dict[str, int] = {}
        self._made: dict[str, int] = {}
        self._made_on = 0
        accounts, keys = store.load()
        for row in accounts:
            self.accounts.add_account(_account(row))
        for one in keys:
            holder = self.accounts.account(one.account)
            if holder is not None and not one.is_revoked:
                self.accounts.add_key(_key(one, holder))

    async def create_account(
        self, email: str, *, amount: int = 0, kind: EntryKind = "grant", note: str | None = None
    ) -> tuple[Account, Key, str]:
        """A new account with its first key, whose secret comes third, and with some credits. Raises GatewayError."""
        email = email.strip()
        if not is_email(email):
            raise GatewayError(Kind.INVALID_REQUEST, "`email` is not an e-mail address.", param="email")
        return await self._to_the_end(self._create_account(email, amount, kind, note))

    async def create_key(self, account: Account, name: str) -> tuple[Key, str]:
        """A further key, and its secret. Raises GatewayError."""
        today = day_of(int(self._wall()))
        if self._made_on != today:
            self._made_on, self._made = today, {}
        made = self._made.get(account.id, 0)
        if len(account.keys) + self._in_the_making.get(account.id, 0) >= MAX_KEYS:
            raise GatewayError(Kind.CONFLICT, f"An account has {MAX_KEYS} keys at most; revoke one first.")
        if made >= MAX_KEYS_A_DAY:
            raise GatewayError(Kind.CONFLICT, f"An account makes {MAX_KEYS_A_DAY} keys a day at most; come back tomorrow.")
        self._made[account.id] = made + 1
        self._in_the_making[account.id] = self._in_the_making.get(account.id, 0) + 1
        return await self._to_the_end(self._create_key(account, name))

    async def revoke_key(self, account: Account, key_id: str) -> None:
        """Take a key out of use, from the next request on. Raises GatewayError where the account has no such key."""
        await self._to_the_end(self._revoke_key(account, key_id))

    async def set_blocked(self, account: Account, is_blocked: bool) -> None:
        """Block or unblock an account, from the next request on. Raises GatewayError."""
        await self._to_the_end(self._set_blocked(account, is_blocked))

    async def purchase(self, account: Account, amount: int, payment_id: str) -> Added:
        """Add what was paid for, once per payment. The tier follows at once. Raises GatewayError."""
        return await self._to_the_end(self._post(account, amount, "purchase", payment_id, None))

    async def grant(self, account: Account, amount: int, reason: str | None) -> Added:
        """Add credits that were not paid for. Raises GatewayError."""
        return await self._to_the_end(self._post(account, amount, "grant", self._fresh("grant"), reason))

    async def settled(self) -> None:
        """Wait for the changes that are under way."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    # ---- each change, from the disk to the memory

    async def _create_account(self, email: str, amount: int, kind: EntryKind, note: str | None) -> tuple[Account, Key, str]:
        at = int(self._wall())
        row = AccountRow(self._fresh("acct"), email, at)
        key, secret = self._new_key(row.id, "first", at)
        entries = [Entry(row.id, at, kind, amount, f"{kind}-{row.id}", note=note)] if amount else []
        await _told(self.store.create_account(row, key, entries))
        account = _account(row)
        account.balance = amount
        made = _key(key, account)
        self.accounts.add_account(account)
        self.accounts.add_key(made)
        return account, made, secret

    async def _create_key(self, account: Account, name: str) -> tuple[Key, str]:
        row, secret = self._new_key(account.id, name, int(self._wall()))
        try:
            await _told(self.store.create_key(row))
        finally:
            self._in_the_making[account.id] -= 1
            if not self._in_the_making[account.id]:
                del self._in_the_making[account.id]
        key = _key(row, account)
        self.accounts.add_key(key)
        return key, secret

    async def _revoke_key(self, account: Account, key_id: str) -> None:
        if not await _told(self.store.revoke_key(account.id, key_id)):
            raise GatewayError(Kind.NOT_FOUND, "The account has no such key.")
        key = self.accounts.key(key_id)
        if key is not None:
            self.accounts.revoke(key)

    async def _set_blocked(self, account: Account, is_blocked: bool) -> None:
        await _told(self.store.set_blocked(account.id, is_blocked))
        account.is_blocked = is_blocked

    async def _post(self, account: Account, amount: int, kind: EntryKind, reference: str, note: str | None) -> Added:
        added = await _told(self.store.add_entry(Entry(account.id, int(self._wall()), kind, amount, reference, note=note)))
        if added.is_new:
            account.post(amount, is_purchase=kind == "purchase")
        return added

    async def _to_the_end(self, change: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.get_running_loop().create_task(change)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    def _new_key(self, account: str, name: str, at: int) -> tuple[KeyRow, str]:
        secret, digest, prefix = new_key(self._random_bytes(KEY_RANDOM_BYTES))
        return KeyRow(self._fresh("key"), account, digest, prefix, name, at), secret

    def _fresh(self, what: str) -> str:
        return f"{what}_{self._random_bytes(_ID_BYTES).hex()}"


async def _told(asked: Coroutine[Any, Any, _T]) -> _T:
    """What the store says, its refusals in the gateway's words."""
    try:
        return await asked
    except EmailTaken:
        raise GatewayError(Kind.CONFLICT, "An account with this e-mail is there already.", param="email") from None
    except PaymentConflict:
        raise GatewayError(
            Kind.CONFLICT, "This payment is in the ledger already, for another account or amount.", param="payment_id"
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
