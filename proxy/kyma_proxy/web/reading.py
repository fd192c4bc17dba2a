"""This file reads what callers of the control plane send: a small JSON body, and the words of a query."""

from __future__ import annotations

import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, TypeVar

import msgspec
from aiohttp import web

from kyma_proxy.config.snapshot import NANO
from kyma_proxy.errors import GatewayError, Kind

_MAX_BODY_BYTES: Final = 64 * 1024
_MAX_USD: Final = 1_000_000
_T = TypeVar("_T")


class Form(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The manners of every body: unknown members are refused."""


def check_printable(text: str, what: str) -> None:
    """Raises ValueError for what could not be shown as it is: other people read it in a terminal."""
    if not text.isprintable() or not text.strip():
        raise ValueError(f"`{what}` must be printable and not blank")


class NewKey(Form, frozen=True):
    """A further key for an account; `name` says what it is for."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "key"

    def __post_init__(self) -> None:
        check_printable(self.name, "name")


async def read_body(request: web.Request, most: int) -> bytes:
    """The body, of at most so many bytes. Raises GatewayError."""
    pieces: list[bytes] = []
    size = 0
    while size <= most and (piece := await request.content.readany()):
        pieces.append(piece)
        size += len(piece)
    if size > most:
        size_text = f"{most // 2**20} MiB" if most >= 2**20 else f"{most // 1024} KiB"
        raise GatewayError(Kind.BODY_TOO_LARGE, f"The body is larger than {size_text}, which is the most here.")
    return b"".join(pieces)


async def read_form(request: web.Request, form: type[_T]) -> _T:
    """The body as `form`; an empty one is an empty object. Raises GatewayError."""
    body = await read_body(request, _MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(body or b"{}", type=form, strict=True)
    except msgspec.ValidationError as error:
        raise GatewayError(Kind.INVALID_REQUEST, f"The body is not what is expected here: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise GatewayError(Kind.INVALID_JSON, "The body is not valid JSON.") from None


def nano_usd(written: object, param: str, *, least: Decimal = Decimal(0)) -> int:
    """An amount of US dollars, written as a number or a string, in nano-dollars; `least` at least. Raises GatewayError."""
    try:
        amount = Decimal(str(written)) if isinstance(written, int | float | str) and not isinstance(written, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or amount <= 0 or amount < least or amount > _MAX_USD:
        raise GatewayError(
            Kind.INVALID_REQUEST,
            f'`{param}` must be an amount of US dollars, such as 10 or "10.50", from {least or "above 0"} to {_MAX_USD}.',
            param=param,
        )
    nano = amount * NANO
    if nano != nano.to_integral_value():
        raise GatewayError(Kind.INVALID_REQUEST, f"`{param}` has more than nine digits after the point.", param=param)
    return int(nano)


def json_answer(document: object, status: int = 200) -> web.Response:
    """An answer that nobody keeps: it may hold a key."""
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"})


def number(request: web.Request, name: str, *, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises GatewayError."""
    written = request.query.get(name)
    if written is None:
        return default
    if not (written.isascii() and written.isdigit() and len(written) < 19 and least <= int(written) <= most):
        raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` must be a whole number from {least} to {most}.", param=name)
    return int(written)


def day(request: web.Request, name: str, default: datetime.date) -> datetime.date:
    """A day of the query, as YYYY-MM-DD. Raises GatewayError."""
    written = request.query.get(name)
    if written is None:
        return default
    try:
        return datetime.date.fromisoformat(written)
    except ValueError:
        raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` must be a day such as 2026-04-01.", param=name) from None
