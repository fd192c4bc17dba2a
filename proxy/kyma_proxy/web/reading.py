"""Reads the requests of the control plane: small JSON bodies and query parameters."""

from __future__ import annotations

import datetime
import json
import re
from decimal import Decimal
from typing import Annotated, Final, TypeVar

import msgspec
from aiohttp import web

from kyma_proxy.config.snapshot import NANO
from kyma_proxy.core.http.endpoints import MAX_FORM_BYTES
from kyma_proxy.errors import GatewayError, Kind

_MAX_USD: Final = 1_000_000
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AMOUNT: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_T = TypeVar("_T")


class Form(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The base of every body: unknown members are refused."""


def check_printable(text: str, member: str) -> None:
    """Raises ValueError for text that can't be shown as it is: other people read it in a terminal."""
    if not text.isprintable() or not text.strip():
        raise ValueError(f"`{member}` must be printable and not blank")


class NewKey(Form, frozen=True):
    """The body that asks for another key; `name` says what the key is for."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "key"

    def __post_init__(self) -> None:
        check_printable(self.name, "name")


async def read_body(request: web.Request, max_bytes: int) -> bytes:
    """The body. Raises GatewayError if it can't be decoded, or is larger than `max_bytes`."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= max_bytes and (piece := await request.content.readany()):
            pieces.append(piece)
            size += len(piece)
    except web.RequestPayloadError:
        raise GatewayError(Kind.INVALID_REQUEST, "The body is not in its content-encoding; send it plain.") from None
    if size > max_bytes:
        limit = f"{max_bytes // 2**20} MiB" if max_bytes >= 2**20 else f"{max_bytes // 1024} KiB"
        raise GatewayError(Kind.BODY_TOO_LARGE, f"The body is larger than {limit}, which is the limit here.")
    return b"".join(pieces)


async def read_form(request: web.Request, form: type[_T]) -> _T:
    """The body as `form`; an empty one is an empty object. Raises GatewayError."""
    body = await read_body(request, MAX_FORM_BYTES)
    try:
        decoded = msgspec.json.decode(body or b"{}", type=form, strict=True)
        # msgspec takes the last of two members.
        json.loads(body.decode() or "{}", object_pairs_hook=_check_names, parse_int=str, parse_float=str)
        return decoded
    except _TwiceError:
        raise GatewayError(Kind.INVALID_JSON, "The body contains the same member twice; send it once.") from None
    except msgspec.ValidationError as error:
        raise GatewayError(Kind.INVALID_REQUEST, f"The body is not what is expected here: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise GatewayError(Kind.INVALID_JSON, "The body is not valid JSON.") from None


class _TwiceError(Exception):
    """A member is there twice."""


def _check_names(members: list[tuple[str, object]]) -> None:
    if len({name for name, _ in members}) < len(members):
        raise _TwiceError


def nano_usd(value: object, param: str, *, minimum: Decimal = Decimal(0)) -> int:
    """An amount of US dollars, sent as a number or a string, in nano-dollars. Raises GatewayError if it is below `minimum`.

    A string has plain digits and a point at most: people and programs differ about what `1_000`, `1e3` and `1,5` are.
    """
    amount = None
    if isinstance(value, str):
        amount = Decimal(value) if _AMOUNT.fullmatch(value) else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        amount = Decimal(str(value))
    if amount is None or not amount.is_finite() or amount <= 0 or amount < minimum or amount > _MAX_USD:
        raise GatewayError(
            Kind.INVALID_REQUEST,
            f'`{param}` must be an amount of US dollars, such as 10 or "10.50", from {minimum or "above 0"} to {_MAX_USD}.',
            param=param,
        )
    nano = amount * NANO
    if nano != nano.to_integral_value():
        raise GatewayError(Kind.INVALID_REQUEST, f"`{param}` has more than nine digits after the point.", param=param)
    return int(nano)


def query_number(request: web.Request, name: str, *, default: int, minimum: int, maximum: int) -> int:
    """A whole number of the query. Raises GatewayError."""
    text = _query_value(request, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and minimum <= int(text) <= maximum):
        raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` must be a whole number from {minimum} to {maximum}.", param=name)
    return int(text)


def _query_value(request: web.Request, name: str) -> str | None:
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` is there {len(values)} times; send it once.", param=name)
    return values[0] if values else None


def query_text(request: web.Request, name: str) -> str | None:
    """A text of the query; None if it is absent. Raises GatewayError if it is there and empty."""
    text = _query_value(request, name)
    if text == "":
        raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` is empty; leave it out.", param=name)
    return text


def query_day(request: web.Request, name: str) -> datetime.date | None:
    """A day of the query, as YYYY-MM-DD; None if it is absent. Raises GatewayError."""
    text = _query_value(request, name)
    if text is None:
        return None
    try:
        if not _DAY.fullmatch(text):  # ISO 8601 has other forms, which the API's description does not allow
            raise ValueError(text)
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` must be a day such as 2026-04-01.", param=name) from None
