"""This file knows the accounts and their keys, who holds a key, and what an account may spend. (Contract §1, §7, §8.)

A table in memory: whatever keeps accounts on disk fills it at the start and changes it after each change there. A key's
secret is not in it, only the SHA-256 by which its holder is recognised. Money is in nano-dollars.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

from kyma_proxy.config.snapshot import Tier
from kyma_proxy.core.http.inbound import Headers

KEY_START: Final = "ky-"
KEY_RANDOM_BYTES: Final = 32
_KEY_START: Final = b"ky-"
_PREFIX_CHARACTERS: Final = 11
_MAX_EMAIL_CHARACTERS: Final = 254
_MAX_LOCAL_CHARACTERS: Final = 64
_NO_LADDER: Final[tuple[Tier, ...]] = ()


class Account:
    """Somebody who pays. `created` is Unix time; `purchased` is the sum of lifetime purchases, which makes the tier.

    `balance` is the sum of the ledger's entries, and may fall below zero where a request cost more than was held for it. `held`
    is what the requests that are being served may cost.
    """

    __slots__ = (
        "_ladder",
        "_purchased",
        "_tier",
        "balance",
        "created",
        "email",
        "held",
        "id",
        "is_blocked",
        "keys",
        "purchased",
    )

    def __init__(
        self, ident: str, email: str, created: int, *, is_blocked: bool = False, balance: int = 0, purchased: int = 0
    ) -> None:
        self.id = ident
        self.email = email
        self.created = created
        self.is_blocked = is_blocked
        self.balance = balance
        self.purchased = purchased
        self.held = 0
        self.keys: list[Key] = []
        """Every key that it ever had, the oldest first; `Accounts` adds to them."""
        self._ladder = _NO_LADDER
        self._purchased = 0
        self._tier: Tier | None = None

    @property
    def available(self) -> int:
        """What can still be spent or held."""
        return self.balance - self.held

    def tier(self, ladder: tuple[Tier, ...]) -> Tier:
        """The highest rung that the lifetime purchases reach. The ladder has one and rises from 0, as `check` sees to."""
        tier = self._tier
        if tier is None or self._ladder is not ladder or self._purchased != self.purchased:
            tier = ladder[0]
            for rung in ladder:
                if rung.min_purchased <= self.purchased:
                    tier = rung
            self._ladder, self._purchased, self._tier = ladder, self.purchased, tier
        return tier

    def can_afford(self, amount: int) -> bool:
        """Whether this may be held. What costs nothing always may, also of an account in debt.

        To be asked before the limits, so that a request without money counts nowhere; `hold` in the same turn of the loop.
        """
        return amount <= 0 or self.balance - self.held >= amount

    def hold(self, amount: int) -> None:
        """Set aside what a request may cost."""
        self.held += amount

    def release(self, amount: int) -> None:
        """Give back what was held for a request, once, whichever way it ended."""
        self.held -= amount

    def post(self, amount: int, *, is_purchase: bool = False) -> None:
        """Take in an entry of the ledger, with its sign: a purchase or grant is positive, use is negative."""
        self.balance += amount
        if is_purchase:
            self.purchased += amount


class Key:
    """A key of an account. `prefix` is public; `last_used_day` counts days since 1970, None before the first use."""

    __slots__ = ("account", "created", "digest", "id", "is_revoked", "last_used_day", "name", "prefix")

    def __init__(  # noqa: PLR0917  the columns of a row
        self,
        ident: str,
        account: Account,
        digest: bytes,
        prefix: str,
        name: str,
        created: int,
        *,
        last_used_day: int | None = None,
        is_revoked: bool = False,
    ) -> None:
        self.id = ident
        self.account = account
        self.digest = digest
        self.prefix = prefix
        self.name = name
        self.created = created
        self.last_used_day = last_used_day
        self.is_revoked = is_revoked


class Accounts:
    """Every account and every key, found by whatever they are asked for with."""

    __slots__ = ("_accounts", "_emails", "_holders", "_keys")

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._emails: dict[str, Account] = {}
        self._keys: dict[str, Key] = {}
        self._holders: dict[bytes, Key] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def add_account(self, account: Account) -> None:
        """Take in an account. Raises ValueError where its id or its e-mail is taken."""
        email = account.email.lower()
        if account.id in self._accounts or email in self._emails:
            raise ValueError(f"account {account.id} or its e-mail is there already")
        self._accounts[account.id] = account
        self._emails[email] = account

    def add_key(self, key: Key) -> None:
        """Take in a key; a revoked one is only listed. Raises ValueError where its id or its digest is taken."""
        if key.id in self._keys or key.digest in self._holders:
            raise ValueError(f"key {key.id} is there already")
        self._keys[key.id] = key
        key.account.keys.append(key)
        if not key.is_revoked:
            self._holders[key.digest] = key

    def revoke(self, key: Key) -> None:
        """From now on the key identifies nobody, and is forgotten. Twice is as good as once."""
        key.is_revoked = True
        self._holders.pop(key.digest, None)
        self._keys.pop(key.id, None)
        if key in key.account.keys:
            key.account.keys.remove(key)

    def identify(self, secret: bytes) -> Key | None:
        """The key with this secret; None where there is none, or no more. It may be a blocked account's, which the key says.

        A wrong secret, a revoked one and b"" all cost one digest and one look-up, so the time tells nothing. (Contract §5.)
        """
        return self._holders.get(hashlib.sha256(secret).digest())

    def account(self, ident: str) -> Account | None:
        """The account with this id."""
        return self._accounts.get(ident)

    def account_of_email(self, email: str) -> Account | None:
        """The account with this e-mail, however it is capitalised."""
        return self._emails.get(email.lower())

    def key(self, ident: str) -> Key | None:
        """The key with this id, revoked or not."""
        return self._keys.get(ident)


def credential(headers: Headers) -> bytes:
    """The caller's key, from `Authorization: Bearer ky-…` or `x-api-key: ky-…`: the first that begins so; else b"". (§1.)"""
    for name, value in headers:
        length = len(name)
        if length == 13 and name.lower() == b"authorization":
            if value[:7].lower() != b"bearer ":
                continue
            value = value[7:].strip()  # noqa: PLW2901  the rest of it
        elif length != 9 or name.lower() != b"x-api-key":
            continue
        if value.startswith(_KEY_START):
            return value.strip()
    return b""


def new_key(random_bytes: bytes) -> tuple[str, bytes, str]:
    """A new key's secret, its digest and its public prefix, from 32 bytes of the system's random source.

    The secret is `ky-` and 43 characters. The prefix is the first 8 of them, which leaves 208 bits to be guessed.
    Raises ValueError where there are fewer bytes.
    """
    if len(random_bytes) < KEY_RANDOM_BYTES:
        raise ValueError(f"a key needs {KEY_RANDOM_BYTES} random bytes")
    secret = _KEY_START + base64.urlsafe_b64encode(random_bytes).rstrip(b"=")
    text = secret.decode()
    return text, hashlib.sha256(secret).digest(), text[:_PREFIX_CHARACTERS]


def is_email(text: str) -> bool:
    """Whether this looks like an e-mail address: enough to catch a slip, as only a letter sent there can tell the rest."""
    local, _, domain = text.partition("@")
    return (
        len(text) <= _MAX_EMAIL_CHARACTERS
        and 0 < len(local) <= _MAX_LOCAL_CHARACTERS
        and text.isprintable()
        and " " not in text
        and "." in domain
        and all(label.replace("-", "").isalnum() for label in domain.split("."))
    )
