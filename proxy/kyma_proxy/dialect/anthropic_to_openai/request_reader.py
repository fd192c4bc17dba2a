"""Reads the parts of a request, and collects what is dropped of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from kyma_proxy.errors import GatewayError, Kind

Json = dict[str, object]
T = TypeVar("T")

_INDEX: Final = re.compile(r"\[\d+\]")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_NAMES: Final = 64
_ALWAYS_READ: Final = frozenset({"type"})
_NULL: Final = b"null"
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode


class RequestReader:
    """Decodes the parts of a request, and collects the paths of members that are dropped.

    Each kind of member is reported once, with the path of its first occurrence; `cache_control` is one kind wherever it stands.
    The characters and the number of the paths are bounded, as callers choose what they send.
    """

    __slots__ = ("_dropped",)

    def __init__(self) -> None:
        self._dropped: dict[str, str] = {}

    @property
    def dropped(self) -> tuple[str, ...]:
        """The paths, in the order of the request."""
        return tuple(self._dropped.values())

    def drop(self, path: str) -> None:
        """Report a member as dropped."""
        if len(self._dropped) < _MAX_NAMES:
            self._dropped.setdefault(_INDEX.sub("[]", path), path)

    def members(self, raw: Raw | bytes, path: str) -> dict[str, Raw]:
        """Return the members of an object. Raises GatewayError if it is none."""
        return decode_or_refuse(_members, raw, path)

    def read(self, decoder: msgspec.json.Decoder[T], raw: Raw | bytes, path: str, members: Iterable[str] | None = None) -> T:
        """Decode an object and report its other members as dropped. Raises GatewayError if it is malformed.

        `members` are the names of its members, if they are known already.
        """
        decoded = decode_or_refuse(decoder.decode, raw, path)
        known = type(decoded).__struct_fields__  # type: ignore[attr-defined]
        for name in present_members(self.members(raw, path)) if members is None else members:
            if name not in known and name not in _ALWAYS_READ:
                loggable_name = loggable(name)
                self.drop(loggable_name if name == "cache_control" or not path else f"{path}.{loggable_name}")
        return decoded


def decode_or_refuse(decode: Callable[[Raw | bytes], T], raw: Raw | bytes, path: str) -> T:
    """Decode a part of the request. Raises GatewayError if it is malformed."""
    try:
        return decode(raw)
    except msgspec.MsgspecError as error:
        reason, _, place = str(error).partition(" - at `$")
        param = (path + place.rstrip("`")).lstrip(".") or "body"
        message = f"`{param}` is not valid: {reason[:1].lower()}{reason[1:]}."
        raise GatewayError(Kind.INVALID_REQUEST, message, param=param) from None


def loggable(name: str) -> str:
    """Return a name that a caller chose, for use in a path; "?" if it is no plain word."""
    return name if _NAME.fullmatch(name) else "?"


def present_members(members: dict[str, Raw]) -> dict[str, Raw]:
    """Return the members that are not null."""
    return {name: value for name, value in members.items() if bytes(value) != _NULL}


def unsupported(block_type: str, path: str, advice: str = "leave it out") -> GatewayError:
    """Return the error for a block that the source's dialect can't express."""
    message = f"`{path}` is of the type `{block_type[:64]}`, which the dialect of this model's source can't express; {advice}."
    return GatewayError(Kind.INVALID_REQUEST, message, param=path)
