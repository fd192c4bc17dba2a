"""Serves an account's own data (limits, credits, keys, usage), and sign-up. (Contract §7, §8.)"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec
from aiohttp import web

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.accounting.signups import SignupLimiter
from kyma_proxy.config.snapshot import NANO, Snapshot
from kyma_proxy.core.accounts.accounts import Key
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable
from kyma_proxy.store.contract import StoreUnavailable, day_of
from kyma_proxy.web import documents
from kyma_proxy.web.control_plane_bridge import CALLER
from kyma_proxy.web.reading import Form, NewKey, query_day, query_number, read_form
from kyma_proxy.web.responses import Handler, json_response

_MAX_LIMIT: Final = 100
_DEFAULT_LIMIT: Final = 20
_DEFAULT_DAYS: Final = 30
_MAX_DAYS: Final = 366
PATHS: Final = (
    ("POST", "/v1/auth/register"), ("GET", "/v1/auth/limits"), ("GET", "/v1/credits/balance"),
    ("GET", "/v1/credits/transactions"), ("GET", "/v1/keys"), ("POST", "/v1/keys"), ("DELETE", "/v1/keys/{id}"),
    ("GET", "/v1/usage"),
)  # fmt: skip


class _Registration(Form, frozen=True):
    email: Annotated[str, msgspec.Meta(max_length=254)]


class AccountPages:
    """The endpoints of accounts. `clock` is monotonic, `wall` is Unix time."""

    def __init__(
        self,
        current: Callable[[], Snapshot],
        account_service: AccountService,
        meter: Meter,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._current = current
        self._account_service = account_service
        self._meter = meter
        self._clock = clock
        self._wall = wall
        self._signups = SignupLimiter()

    def add_to(self, app: web.Application) -> None:
        """Add the routes of `PATHS`."""
        handlers: tuple[Handler, ...] = (
            self._register, self._with_key(self._limits), self._with_key(self._balance), self._with_key(self._transactions),
            self._with_key(self._keys), self._with_key(self._create_key), self._with_key(self._revoke_key),
            self._with_key(self._usage),
        )  # fmt: skip
        for (method, path), handler in zip(PATHS, handlers, strict=True):
            app.router.add_route(method, path, handler)

    def _with_key(self, handler: Callable[[web.Request, Key], Awaitable[web.Response]]) -> Handler:
        """A handler that requires a valid key and passes it on. Raises GatewayError without one."""

        async def authenticated(request: web.Request) -> web.StreamResponse:
            key = request[CALLER] = self._meter.identify(list(request.raw_headers))
            try:
                return await handler(request, key)
            except StoreUnavailable:
                raise accounts_unavailable() from None

        return authenticated

    async def _register(self, request: web.Request) -> web.Response:
        accounts = self._current().accounts
        if not accounts.signup:
            raise GatewayError(Kind.FORBIDDEN, "Sign-up is not enabled here; ask the gateway's operator for a key.")
        form = await read_form(request, _Registration)
        self._signups.admit(request.remote, accounts.signups_per_hour, self._clock())
        account, _, secret = await self._account_service.create_account(
            form.email, amount=accounts.signup_credits, kind="signup_bonus"
        )
        document = {"id": account.id, "email": account.email, "api_key": secret, "balance": account.balance / NANO}
        return json_response(document, status=201)

    async def _limits(self, request: web.Request, key: Key) -> web.Response:
        account = key.account
        tier = account.tier(self._current().tiers)
        requests, tokens = self._meter.used(account, self._clock())
        today = await self._account_service.store.requests_on(account.id, day_of(int(self._wall())))
        return json_response({
            "tier": tier.tier,
            "rpm_limit": tier.rpm,
            "rpm_used": requests,
            "rpm_remaining": max(0, tier.rpm - requests),
            "tpm_limit": tier.tpm,
            "tpm_used": tokens,
            "used_today": today,
            "has_credits": account.available > 0,
        })  # fmt: skip

    async def _balance(self, request: web.Request, key: Key) -> web.Response:
        return json_response({"object": "credits.balance", **documents.balance(key.account, self._current().tiers)})

    async def _transactions(self, request: web.Request, key: Key) -> web.Response:
        limit = query_number(request, "limit", default=_DEFAULT_LIMIT, minimum=1, maximum=_MAX_LIMIT)
        before = query_number(request, "before", default=0, minimum=1, maximum=documents.MAX_ID) or None
        entries = await self._account_service.store.transactions(key.account.id, before, limit + 1)
        return json_response(documents.transactions_document(entries, limit))

    async def _keys(self, request: web.Request, key: Key) -> web.Response:
        return json_response(documents.keys_document(key.account))

    async def _create_key(self, request: web.Request, key: Key) -> web.Response:
        form = await read_form(request, NewKey)
        new, secret = await self._account_service.create_key(key.account, form.name)
        return json_response({**documents.key_document(new), "api_key": secret}, status=201)

    async def _revoke_key(self, request: web.Request, key: Key) -> web.Response:
        key_id = request.match_info["id"]
        await self._account_service.revoke_key(key.account, key_id)
        return json_response({"id": key_id, "object": "key", "deleted": True})

    async def _usage(self, request: web.Request, key: Key) -> web.Response:
        today = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC).date()
        first, last = _days(query_day(request, "from"), query_day(request, "to"), today)
        if not 0 <= (last - first).days < _MAX_DAYS:
            raise GatewayError(
                Kind.INVALID_REQUEST, f"`from` must not be after `to`, and at most {_MAX_DAYS} days are shown.", param="from"
            )
        rows = await self._account_service.store.usage(key.account.id, documents.day_number(first), documents.day_number(last))
        return json_response(documents.usage_document(rows, first, last))


def _days(first: datetime.date | None, last: datetime.date | None, today: datetime.date) -> tuple[datetime.date, datetime.date]:
    """The first and the last day to show. The default of one fits the other, so that each may be given alone."""
    if last is None:
        last = today if first is None else max(first, min(today, _later(first, _MAX_DAYS - 1)))
    return (_later(last, 1 - _DEFAULT_DAYS) if first is None else first), last


def _later(day: datetime.date, days: int) -> datetime.date:
    """The day that is so many days later, or earlier if `days` is negative, or the last one that the calendar has."""
    return datetime.date.fromordinal(min(max(day.toordinal() + days, 1), datetime.date.max.toordinal()))


def add_no_accounts_routes(app: web.Application) -> None:
    """Add the routes of `PATHS` for a gateway without accounts: each answers 404 and says why."""

    async def no_accounts(request: web.Request) -> web.StreamResponse:
        raise GatewayError(Kind.NOT_FOUND, "This gateway has no accounts; its operator can set accounts.required to true.")

    for method, path in PATHS:
        app.router.add_route(method, path, no_accounts)
