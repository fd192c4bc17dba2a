"""Serves the accounts of the admin API: create, list and block them, add purchases and grants, manage keys. (Contract §8.)"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from aiohttp import web

from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.accounts.accounts import Account
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.store.contract import Added
from kyma_proxy.web import documents
from kyma_proxy.web.admin_activity import AdminActivity
from kyma_proxy.web.reading import Form, NewKey, check_printable, nano_usd, query_number, read_form
from kyma_proxy.web.responses import json_response

MIN_PURCHASE: Final = Decimal(5)
_MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 100
_Amount = int | float | str


class _NewAccount(Form, frozen=True):
    email: Annotated[str, msgspec.Meta(max_length=254)]
    grant: _Amount | None = None


class _Purchase(Form, frozen=True):
    amount: _Amount
    payment_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]

    def __post_init__(self) -> None:
        check_printable(self.payment_id, "payment_id")


class _Grant(Form, frozen=True):
    amount: _Amount
    reason: Annotated[str, msgspec.Meta(max_length=500)] | None = None

    def __post_init__(self) -> None:
        if self.reason is not None:
            check_printable(self.reason, "reason")


class AdminAccounts:
    """The endpoints for accounts on the admin listener."""

    def __init__(self, current: Callable[[], Snapshot], account_service: AccountService) -> None:
        self._current = current
        self._account_service = account_service
        self._activity = AdminActivity(account_service)

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        one = "/admin/accounts/{id}"
        for method, path, handler in (
            ("POST", "/admin/accounts", self._create), ("GET", "/admin/accounts", self._list), ("GET", one, self._show),
            ("POST", f"{one}/purchases", self._purchase), ("POST", f"{one}/grants", self._grant),
            ("POST", f"{one}/block", self._block), ("POST", f"{one}/unblock", self._unblock),
            ("GET", f"{one}/keys", self._keys), ("POST", f"{one}/keys", self._create_key),
            ("DELETE", f"{one}/keys/{{key}}", self._revoke_key), ("GET", f"{one}/transactions", self._transactions),
        ):  # fmt: skip
            app.router.add_route(method, path, handler)
        self._activity.add_to(app)

    async def _create(self, request: web.Request) -> web.Response:
        form = await read_form(request, _NewAccount)
        amount = 0 if form.grant is None else nano_usd(form.grant, "grant")
        account, _, secret = await self._account_service.create_account(form.email, amount=amount, kind="grant")
        return json_response({**self._document(account), "api_key": secret}, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        limit = query_number(request, "limit", default=_DEFAULT_LIMIT, minimum=1, maximum=_MAX_LIMIT)
        offset = query_number(request, "offset", default=0, minimum=0, maximum=2**40)
        email = request.query.get("email")
        accounts = list(self._account_service.accounts)
        if email is not None:
            found = self._account_service.accounts.account_of_email(email)
            accounts = [] if found is None else [found]
        shown = accounts[offset : offset + limit]
        data = [self._document(account) for account in shown]
        return json_response(
            {"object": "list", "data": data, "total": len(accounts), "has_more": offset + limit < len(accounts)}
        )

    async def _show(self, request: web.Request) -> web.Response:
        account = self._account(request)
        return json_response({**self._document(account), "keys": documents.keys_document(account)["data"]})

    async def _purchase(self, request: web.Request) -> web.Response:
        account = self._account(request)
        form = await read_form(request, _Purchase)
        amount = nano_usd(form.amount, "amount", minimum=MIN_PURCHASE)
        return self._entry_response(account, await self._account_service.purchase(account, amount, form.payment_id))

    async def _grant(self, request: web.Request) -> web.Response:
        account = self._account(request)
        form = await read_form(request, _Grant)
        amount = nano_usd(form.amount, "amount")
        return self._entry_response(account, await self._account_service.grant(account, amount, form.reason))

    async def _block(self, request: web.Request) -> web.Response:
        return await self._set_blocked(request, is_blocked=True)

    async def _unblock(self, request: web.Request) -> web.Response:
        return await self._set_blocked(request, is_blocked=False)

    async def _set_blocked(self, request: web.Request, *, is_blocked: bool) -> web.Response:
        account = self._account(request)
        await self._account_service.set_blocked(account, is_blocked)
        return json_response(self._document(account))

    async def _keys(self, request: web.Request) -> web.Response:
        return json_response(documents.keys_document(self._account(request)))

    async def _create_key(self, request: web.Request) -> web.Response:
        account = self._account(request)
        form = await read_form(request, NewKey)
        key, secret = await self._account_service.create_key(account, form.name)
        return json_response({**documents.key_document(key), "api_key": secret}, status=201)

    async def _revoke_key(self, request: web.Request) -> web.Response:
        key_id = request.match_info["key"]
        await self._account_service.revoke_key(self._account(request), key_id)
        return json_response({"id": key_id, "object": "key", "deleted": True})

    async def _transactions(self, request: web.Request) -> web.Response:
        account = self._account(request)
        limit = query_number(request, "limit", default=_DEFAULT_LIMIT, minimum=1, maximum=_MAX_LIMIT)
        before = query_number(request, "before", default=0, minimum=1, maximum=documents.MAX_ID) or None
        return json_response(
            documents.transactions_document(
                await self._account_service.store.transactions(account.id, before, limit + 1), limit
            )
        )

    def _account(self, request: web.Request) -> Account:
        account = self._account_service.accounts.account(request.match_info["id"])
        if account is None:
            raise GatewayError(Kind.NOT_FOUND, "There is no such account; GET /admin/accounts lists them.")
        return account

    def _entry_response(self, account: Account, added: Added) -> web.Response:
        document = {**documents.entry_document(added.entry), "is_new": added.is_new, "account": self._document(account)}
        return json_response(document, status=201 if added.is_new else 200)

    def _document(self, account: Account) -> documents.Document:
        return documents.account_document(account, self._current().tiers)
