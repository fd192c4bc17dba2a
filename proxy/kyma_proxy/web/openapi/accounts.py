"""Describes the endpoints of accounts for the OpenAPI document. (Contract §2, §7, §8.)"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from kyma_proxy.web.documents import MAX_ID
from kyma_proxy.web.openapi.schemas import (
    BOOLEAN,
    COUNT,
    STRING,
    STRING_OR_NULL,
    USD,
    Json,
    Operation,
    exactly,
    list_of,
    one_of,
    query,
    ref,
)

_MONEY: Final[Json] = {"type": "number", "description": "US dollars"}
_DAY: Final[Json] = {**STRING, "format": "date"}


_EMAIL: Final[Json] = {**STRING, "format": "email", "maxLength": 254}
_KEY_NAME: Final[Json] = {**STRING, "minLength": 1, "maxLength": 100}
_KEY_ID: Final[Json] = {"name": "id", "in": "path", "required": True, "schema": STRING}
_KEY_MEMBERS: Final[dict[str, Json]] = {
    "id": STRING, "object": {"const": "key"}, "prefix": STRING, "name": STRING, "created": COUNT,
    "last_used": {**_DAY, "type": ["string", "null"]},
}  # fmt: skip
_COUNTS: Final[dict[str, Json]] = {
    "requests": COUNT, "prompt_tokens": COUNT, "completion_tokens": COUNT, "cached_tokens": COUNT, "cost_usd": USD,
}  # fmt: skip

ACCOUNT_SCHEMAS: Final = MappingProxyType[str, Json]({
    "Registered": exactly(id=STRING, email=STRING, api_key=STRING, balance=USD),
    "Limits": exactly(
        tier=COUNT, rpm_limit=COUNT, rpm_used=COUNT, rpm_remaining=COUNT, tpm_limit=COUNT, tpm_used=COUNT, used_today=COUNT,
        has_credits=BOOLEAN,
    ),
    "Balance": exactly(
        object={"const": "credits.balance"}, balance=_MONEY, held=_MONEY, available=_MONEY, purchased=USD,
        currency={"const": "USD"}, tier=COUNT,
    ),
    "Transaction": exactly(
        id=COUNT, object={"const": "credits.transaction"}, created=COUNT,
        kind=one_of("signup_bonus", "purchase", "grant", "usage", "refund", "adjustment"), amount=_MONEY,
        payment_id=STRING_OR_NULL, request_id=STRING_OR_NULL, model=STRING_OR_NULL, key=STRING_OR_NULL, note=STRING_OR_NULL,
    ),
    "Transactions": exactly(
        object={"const": "list"}, data=list_of(ref("Transaction")), has_more=BOOLEAN,
        next_before={"type": ["integer", "null"], "description": "What to send as `before` for the next page."},
    ),
    "Key": exactly(**_KEY_MEMBERS),
    "Keys": exactly(object={"const": "list"}, data=list_of(ref("Key"))),
    "NewKey": exactly(**_KEY_MEMBERS, api_key={**STRING, "description": "The key itself, which is shown only once."}),
    "DeletedKey": exactly(id=STRING, object={"const": "key"}, deleted={"const": True}),
    "Usage": exactly(
        object={"const": "usage"}, **{"from": _DAY, "to": _DAY},
        data=list_of(exactly(day=_DAY, model=STRING, key=STRING_OR_NULL, **_COUNTS)), total=exactly(**_COUNTS),
    ),
})  # fmt: skip

ACCOUNT_OPERATIONS: Final = (
    Operation(
        "post", "/v1/auth/register", "register", "Sign up, if that is enabled; the key is shown only once.",
        ref("Registered"), 201, body=exactly(email=_EMAIL), errors=(403, 409, 429), is_public=True,
    ),
    Operation("get", "/v1/auth/limits", "limits", "The caller's own limits and usage.", ref("Limits")),
    Operation("get", "/v1/credits/balance", "balance", "The caller's credits.", ref("Balance")),
    Operation(
        "get", "/v1/credits/transactions", "transactions", "The caller's ledger, newest first.", ref("Transactions"),
        parameters=(
            query("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
            query("before", "Only those before this id.", {"type": "integer", "minimum": 1, "maximum": MAX_ID}),
        ),
    ),
    Operation("get", "/v1/keys", "keys", "The caller's keys.", ref("Keys")),
    Operation(
        "post", "/v1/keys", "create_key", "Create another key, which is shown only once.", ref("NewKey"), 201,
        body={"type": "object", "properties": {"name": _KEY_NAME}, "additionalProperties": False},
        errors=(409,), needs_body=False,
    ),
    Operation(
        "delete", "/v1/keys/{id}", "revoke_key", "Revoke a key, from the next request on.", ref("DeletedKey"),
        parameters=(_KEY_ID,),
    ),
    Operation(
        "get", "/v1/usage", "usage", "The caller's usage by day, model and key.", ref("Usage"),
        parameters=(
            query("from", "The first day; by default 29 days before the last. It must not be after the last.", _DAY),
            query(
                "to",
                "The last day, at most 365 days after the first; by default today in UTC, or the last that fits `from`.",
                _DAY,
            ),
        ),
    ),
)  # fmt: skip
