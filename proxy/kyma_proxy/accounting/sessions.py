"""Begins, finds and ends the sessions of account holders who look at the dashboard.

A session is a random cookie, of which the store has the SHA-256 only. It is bound to the key with which its holder signed in:
to revoke that key ends it, so that a key that has leaked leaves nothing behind.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.core.accounts.accounts import Account, Key
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable
from kyma_proxy.store.contract import DAY_S, SessionRow, StoreUnavailable

SESSION_S: Final = 30 * DAY_S
MAX_SESSIONS: Final = 20
"""The sessions that an account can have at once; one more ends the oldest."""

_COOKIE_BYTES: Final = 32
_ID_BYTES: Final = 8
_T = TypeVar("_T")


class Session(NamedTuple):
    """A session that is valid. `id` is public, times are Unix time."""

    id: str
    key: Key
    created: int
    expires: int


class Sessions:
    """The sessions in the store. `wall` is Unix time, `random_bytes` the system's random source."""

    def __init__(
        self, account_service: AccountService, *, wall: Callable[[], float], random_bytes: Callable[[int], bytes]
    ) -> None:
        self._account_service = account_service
        self._wall = wall
        self._random_bytes = random_bytes

    async def begin(self, key: Key) -> str:
        """Begin a session of the holder of this key. Returns its cookie, which is shown to nobody else. Raises GatewayError."""
        cookie = base64.urlsafe_b64encode(self._random_bytes(_COOKIE_BYTES)).rstrip(b"=").decode()
        now = int(self._wall())
        ident = f"ses_{self._random_bytes(_ID_BYTES).hex()}"
        row = SessionRow(_digest(cookie), ident, key.account.id, key.id, now, now + SESSION_S)
        await self._write(self._account_service.store.add_session(row, MAX_SESSIONS))
        return cookie

    async def find(self, cookie: str) -> Session | None:
        """The session of a cookie; None if there is none, or if it is over. Raises GatewayError."""
        return self._valid(await _read(self._account_service.store.session(_digest(cookie))))

    async def all_of(self, account: Account) -> list[Session]:
        """The sessions of an account, the newest first. Raises GatewayError."""
        rows = await _read(self._account_service.store.sessions(account.id))
        return [session for row in rows if (session := self._valid(row)) is not None]

    async def end(self, account: Account, ident: str) -> None:
        """End a session of an account. Raises GatewayError if there is no such session."""
        if not await self._write(self._account_service.store.end_session(account.id, ident)):
            raise GatewayError(Kind.NOT_FOUND, "The account has no such session.")

    def _valid(self, row: SessionRow | None) -> Session | None:
        if row is None or row.expires <= self._wall():
            return None
        key = self._account_service.accounts.key(row.key)
        if key is None or key.is_revoked or key.account.is_blocked or key.account.id != row.account:
            return None
        return Session(row.id, key, row.created, row.expires)

    async def _write(self, operation: Coroutine[Any, Any, _T]) -> _T:
        """The result of a change; none is made while another process takes the accounts over."""
        if self._account_service.is_paused:
            operation.close()
            raise accounts_unavailable()
        return await _read(operation)


async def _read(operation: Coroutine[Any, Any, _T]) -> _T:
    try:
        return await operation
    except StoreUnavailable:
        raise accounts_unavailable() from None


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).digest()
