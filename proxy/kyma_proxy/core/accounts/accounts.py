"""Holds the accounts and their keys in memory, finds the key of a caller, and keeps balances. (Contract §1, §7, §8.)

The account service fills these tables at the start and changes them after each change on disk. They hold no key's secret,
only its SHA-256. Money is in nano-dollars.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

from kyma_proxy.config.snapshot import Tier
from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.errors import GatewayError, Kind

KEY_START: Final = "ky-"
KEY_RANDOM_BYTES: Final = 32
_KEY_START: Final = b"ky-"
_PREFIX_CHARACTERS: Final = 11
_MAX_EMAIL_CHARACTERS: Final = 254
_MAX_LOCAL_CHARACTERS: Final = 64
_NO_TIERS: Final[tuple[Tier, ...]] = ()


class Account:
    """An account. `created` is Unix time; `purchased` is the sum of lifetime purchases, which decides the tier.

    `balance` is the sum of the ledger's entries. `held` is what the requests in flight are likely to cost at most, and `unheld`
    what they may cost beyond it. A request is admitted only if the balance covers both sums and the most that it may cost
    itself. So the balance falls below zero only by what requests cost beyond the most that they were thought to cost.
    """

    __slots__ = (
        "_purchased",
        "_tier",
        "_tiers",
        "balance",
        "created",
        "email",
        "held",
        "id",
        "is_blocked",
        "keys",
        "purchased",
        "unheld",
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
        self.unheld = 0
        self.keys: list[Key] = []
        """Oldest first; `Accounts` adds keys and removes revoked ones."""
        self._tiers = _NO_TIERS
        self._purchased = 0
        self._tier: Tier | None = None

    @property
    def available(self) -> int:
        """The amount that can still be spent or held, even if every request in flight costs the most that it may."""
        return self.balance - self.held - self.unheld

    def tier(self, tiers: tuple[Tier, ...]) -> Tier:
        """The highest tier whose `min_purchased` the lifetime purchases reach.

        The configuration guarantees that there is a tier, that the first one's `min_purchased` is 0, and that they rise.
        """
        tier = self._tier
        if tier is None or self._tiers is not tiers or self._purchased != self.purchased:
            tier = tiers[0]
            for one in tiers:
                if one.min_purchased <= self.purchased:
                    tier = one
            self._tiers, self._purchased, self._tier = tiers, self.purchased, tier
        return tier

    def can_afford(self, amount: int) -> bool:
        """True if a request that may cost this amount may begin. An amount of 0 always may, even by an account in debt.

        It must be there even if every request in flight costs the most that it may.

        Check it before the limits, so that a request without credits counts against none of them. No `await` may stand
        between this check and `hold`.
        """
        return amount <= 0 or self.balance - self.held - self.unheld >= amount

    def hold(self, amount: int) -> None:
        """Set aside what a request may cost, or is likely to."""
        self.held += amount

    def release(self, amount: int) -> None:
        """Give back what was held for a request. Call it once, however the request ended."""
        self.held -= amount

    def expose(self, amount: int) -> None:
        """Note what a request may cost beyond what is held for it; at its end, the same amount below zero."""
        self.unheld += amount

    def post(self, amount: int, *, is_purchase: bool = False) -> None:
        """Apply an entry of the ledger, with its sign: purchases and grants are positive, usage is negative."""
        self.balance += amount
        if is_purchase:
            self.purchased += amount


class Key:
    """A key of an account. `prefix` is public. `last_used_day` counts days since 1970; it is None before the first use."""

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
    """All accounts and keys, indexed by id, by e-mail and by the digest of a key's secret."""

    __slots__ = ("_accounts", "_emails", "_keys", "_keys_by_digest")

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._emails: dict[str, Account] = {}
        self._keys: dict[str, Key] = {}
        self._keys_by_digest: dict[bytes, Key] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def add_account(self, account: Account) -> None:
        """Add an account. Raises ValueError if its id or its e-mail is taken."""
        email = account.email.lower()
        if account.id in self._accounts or email in self._emails:
            raise ValueError(f"account {account.id} or its e-mail is there already")
        self._accounts[account.id] = account
        self._emails[email] = account

    def add_key(self, key: Key) -> None:
        """Add a key; a revoked one is listed but identifies nobody. Raises ValueError if its id or its digest is taken."""
        if key.id in self._keys or key.digest in self._keys_by_digest:
            raise ValueError(f"key {key.id} is there already")
        self._keys[key.id] = key
        key.account.keys.append(key)
        if not key.is_revoked:
            self._keys_by_digest[key.digest] = key

    def revoke(self, key: Key) -> None:
        """Remove a key: from now on it identifies nobody. A second call does nothing."""
        key.is_revoked = True
        self._keys_by_digest.pop(key.digest, None)
        self._keys.pop(key.id, None)
        if key in key.account.keys:
            key.account.keys.remove(key)

    def identify(self, secret: bytes) -> Key | None:
        """The key with this secret, or None if there is none or it was revoked. Its account may be blocked: callers check.

        A wrong secret, a revoked one and b"" all cost one digest and one look-up, so the time reveals nothing. (Contract §5.)
        """
        return self._keys_by_digest.get(hashlib.sha256(secret).digest())

    def account(self, ident: str) -> Account | None:
        """The account with this id."""
        return self._accounts.get(ident)

    def account_of_email(self, email: str) -> Account | None:
        """The account with this e-mail, in any case."""
        return self._emails.get(email.lower())

    def key(self, ident: str) -> Key | None:
        """The key with this id."""
        return self._keys.get(ident)


def credential(headers: Headers) -> bytes:
    """The first value of `Authorization: Bearer ky-…` or `x-api-key: ky-…` that is a key of ours, or b"". (Contract §1.)

    Raises GatewayError if either is there twice: who reads the request elsewhere might take the other one.
    """
    found = b""
    authorizations = keys = 0
    for name, value in headers:
        length = len(name)
        if length == 13 and name.lower() == b"authorization":
            authorizations += 1
            if value[:7].lower() != b"bearer ":
                continue
            value = value[7:].strip()  # noqa: PLW2901  the rest of it
        elif length != 9 or name.lower() != b"x-api-key":
            continue
        else:
            keys += 1
        if not found and value.startswith(_KEY_START):
            found = value.strip()
    if authorizations > 1 or keys > 1:
        which = "Authorization" if authorizations > 1 else "x-api-key"
        raise GatewayError(Kind.BAD_HTTP, f"The request has more than one `{which}` header; send one.")
    return found


def new_key(random_bytes: bytes) -> tuple[str, bytes, str]:
    """A new key's secret, its digest and its public prefix, from 32 bytes of the system's random source.

    The secret is `ky-` and 43 characters. The prefix has `ky-` and the first 8 of them, which leaves 208 bits to be guessed.
    Raises ValueError if there are fewer bytes.
    """
    if len(random_bytes) < KEY_RANDOM_BYTES:
        raise ValueError(f"a key needs {KEY_RANDOM_BYTES} random bytes")
    secret = _KEY_START + base64.urlsafe_b64encode(random_bytes).rstrip(b"=")
    text = secret.decode()
    return text, hashlib.sha256(secret).digest(), text[:_PREFIX_CHARACTERS]


def is_email(text: str) -> bool:
    """True if this looks like an e-mail address. It catches typing errors; only a message can show that the address exists."""
    local, _, domain = text.partition("@")
    return (
        len(text) <= _MAX_EMAIL_CHARACTERS
        and 0 < len(local) <= _MAX_LOCAL_CHARACTERS
        and text.isprintable()
        and " " not in text
        and "." in domain
        and all(label.replace("-", "").isalnum() for label in domain.split("."))
    )
