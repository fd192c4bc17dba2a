"""Serves the pages behind the sign-in: an account's overview, keys, limits, billing and settings."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.accounting.service import MAX_KEYS, AccountService
from kyma_proxy.accounting.sessions import Session, Sessions
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.store.contract import UsageRow
from kyma_proxy.web import documents
from kyma_proxy.web.control_plane_bridge import CALLER
from kyma_proxy.web.dashboard.charts import bars
from kyma_proxy.web.dashboard.protection import SessionCookie, read_own_form
from kyma_proxy.web.dashboard.responding import SESSION, Responding, redirect
from kyma_proxy.web.reading import NewKey, query_number
from kyma_proxy.web.responses import Handler

HOME: Final = "/dashboard"
_SIGN_IN: Final = "/dashboard/sign-in"
_PAGE_ENTRIES: Final = 50
_CHART_DAYS: Final = 30
_MAX_MODELS: Final = 10


class AccountHolderPages:
    """The pages. `clock` is monotonic, `wall` is Unix time."""

    def __init__(
        self,
        current: Callable[[], Snapshot],
        account_service: AccountService,
        sessions: Sessions,
        meter: Meter,
        *,
        responding: Responding,
        cookie: SessionCookie,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._current = current
        self._account_service = account_service
        self._sessions = sessions
        self._meter = meter
        self._responding = responding
        self._cookie = cookie
        self._clock = clock
        self._wall = wall

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        signed_in, open_to_all = self.signed_in, self._responding.handler
        app.router.add_get(_SIGN_IN, open_to_all(self._ask_to_sign_in))
        app.router.add_post(_SIGN_IN, open_to_all(self._sign_in))
        app.router.add_post("/dashboard/sign-out", open_to_all(self._sign_out))
        app.router.add_get(HOME, signed_in(self._overview))
        app.router.add_get("/dashboard/keys", signed_in(self._keys))
        app.router.add_post("/dashboard/keys", signed_in(self._create_key))
        app.router.add_post("/dashboard/keys/revoke", signed_in(self._revoke_key))
        app.router.add_get("/dashboard/limits", signed_in(self._limits))
        app.router.add_get("/dashboard/billing", signed_in(self._billing))
        app.router.add_get("/dashboard/settings", signed_in(self._settings))
        app.router.add_post("/dashboard/sessions/end", signed_in(self._end_session))

    def signed_in(self, handler: Callable[[web.Request, Session], Awaitable[web.Response]]) -> Handler:
        """A handler that has a session; without one the browser is sent to the sign-in."""

        async def with_session(request: web.Request) -> web.StreamResponse:
            session = await self._session(request)
            return redirect(_SIGN_IN) if session is None else await handler(request, session)

        return self._responding.handler(with_session)

    async def _session(self, request: web.Request) -> Session | None:
        cookie = self._cookie.read(request)
        session = None if cookie is None else await self._sessions.find(cookie)
        if session is not None:
            request[SESSION], request[CALLER] = session, session.key
        return session

    # ---- in and out

    async def _ask_to_sign_in(self, request: web.Request) -> web.Response:
        if await self._session(request) is not None:
            return redirect(HOME)
        return await self._responding.page(request, "sign_in.html", {"problem": None})

    async def _sign_in(self, request: web.Request) -> web.Response:
        secret = (await read_own_form(request)).get("key", "").strip()
        try:
            key = self._meter.identify([(b"authorization", b"Bearer " + secret.encode())])
        except GatewayError as error:
            problem = "This is not a valid key." if error.kind is Kind.INVALID_API_KEY else error.message
            return await self._responding.page(request, "sign_in.html", {"problem": problem}, status=error.kind.status)
        former = await self._session(request)
        if former is not None:
            await self._sessions.end(former.key.account, former.id)
        request[CALLER] = key
        response = redirect(HOME)
        self._cookie.set(response, await self._sessions.begin(key))  # never the one that the browser came with
        return response

    async def _sign_out(self, request: web.Request) -> web.Response:
        await read_own_form(request)
        session = await self._session(request)
        if session is not None:
            await self._sessions.end(session.key.account, session.id)
        response = redirect(_SIGN_IN)
        self._cookie.clear(response)
        return response

    # ---- the pages

    async def _overview(self, request: web.Request, session: Session) -> web.Response:
        account, store = session.key.account, self._account_service.store
        today = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC).date()
        last = documents.day_number(today)
        month = documents.day_number(today.replace(day=1))
        first = last - _CHART_DAYS + 1
        days = await store.usage_sums(account.id, min(month, first), last, "day")
        models = await store.usage_sums(account.id, month, last, "model")
        cost_of = {row.day: row.cost for row in days}
        return await self._responding.page(request, "overview.html", {
            "tier": account.tier(self._current().tiers),
            "today": _total([row for row in days if row.day == last]),
            "month": _total([row for row in days if row.day >= month]),
            "bars": bars([(day, cost_of.get(day, 0)) for day in range(first, last + 1)]),
            "models": models[:_MAX_MODELS],
            "more_models": len(models) > _MAX_MODELS,
        })  # fmt: skip

    async def _keys(self, request: web.Request, session: Session) -> web.Response:
        return await self._keys_page(request, session)

    async def _keys_page(
        self,
        request: web.Request,
        session: Session,
        *,
        secret: str | None = None,
        problem: str | None = None,
        status: int = 200,
    ) -> web.Response:
        keys = [key for key in reversed(session.key.account.keys) if not key.is_revoked]
        values = {"keys": keys, "own": session.key, "secret": secret, "problem": problem, "most": MAX_KEYS}
        return await self._responding.page(request, "keys.html", values, status=status)

    async def _create_key(self, request: web.Request, session: Session) -> web.Response:
        fields = await read_own_form(request)
        try:
            form = msgspec.convert({"name": fields.get("name", "").strip()}, NewKey)
        except msgspec.ValidationError:
            problem = "A name has 1 to 100 characters that can be shown."
            return await self._keys_page(request, session, problem=problem, status=Kind.INVALID_REQUEST.status)
        try:
            _, secret = await self._account_service.create_key(session.key.account, form.name)
        except GatewayError as error:
            return await self._keys_page(request, session, problem=error.message, status=error.kind.status)
        return await self._keys_page(request, session, secret=secret)

    async def _revoke_key(self, request: web.Request, session: Session) -> web.Response:
        fields = await read_own_form(request)
        await self._account_service.revoke_key(session.key.account, fields.get("id", ""))
        return redirect("/dashboard/keys")

    async def _limits(self, request: web.Request, session: Session) -> web.Response:
        account, tiers = session.key.account, self._current().tiers
        tier = account.tier(tiers)
        used_requests, used_tokens = self._meter.used(account, self._clock())
        higher = next((one for one in tiers if one.min_purchased > tier.min_purchased), None)
        return await self._responding.page(request, "limits.html", {
            "tier": tier, "tiers": tiers, "next": higher, "used_requests": used_requests, "used_tokens": used_tokens,
        })  # fmt: skip

    async def _billing(self, request: web.Request, session: Session) -> web.Response:
        before = query_number(request, "before", default=0, minimum=1, maximum=documents.MAX_ID) or None
        entries = await self._account_service.store.transactions(session.key.account.id, before, _PAGE_ENTRIES + 1)
        shown = entries[:_PAGE_ENTRIES]
        return await self._responding.page(request, "billing.html", {
            "entries": shown, "older": shown[-1].id if len(entries) > _PAGE_ENTRIES else None, "is_first": before is None,
            "top_up": self._current().accounts.top_up,
        })  # fmt: skip

    async def _settings(self, request: web.Request, session: Session) -> web.Response:
        sessions = await self._sessions.all_of(session.key.account)
        return await self._responding.page(request, "settings.html", {"sessions": sessions, "own": session})

    async def _end_session(self, request: web.Request, session: Session) -> web.Response:
        fields = await read_own_form(request)
        await self._sessions.end(session.key.account, fields.get("id", ""))
        return redirect("/dashboard/settings")


def _total(rows: list[UsageRow]) -> UsageRow:
    return UsageRow(
        0, "", None, *(sum(row[at] for row in rows) for at in range(3, 8))  # type: ignore[misc]
    )  # fmt: skip
