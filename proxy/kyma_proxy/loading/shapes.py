"""Turns the annotations of the document's structs into shapes: how a node must look, and how to say so in English."""

from __future__ import annotations

import difflib
import functools
import math
import re
import typing
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Literal, NoReturn

import msgspec

from kyma_proxy.config import units
from kyma_proxy.dialect.registry import DIALECTS, IMAGE_DIALECTS
from kyma_proxy.loading.kinds import Kind, element_of, is_section, kind_of
from kyma_proxy.loading.suggestions import suggest

_PARSERS: Final[dict[str, Callable[[object], object]]] = {
    "delay": units.parse_delay, "duration": units.parse_duration, "size": units.parse_size, "usd": units.parse_usd,
    "workers": units.parse_workers,
}  # fmt: skip
_NAMES: Final = "a name that begins with a letter or a digit and has only letters, digits and ._:/-,"
_PATTERNS: Final = {
    r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$": _NAMES,
    r"^([A-Za-z0-9][A-Za-z0-9._:/-]*\*?|\*)$": f"{_NAMES} or the beginning of one and a *,",
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$": "a date such as 2026-04-01",
    r"^[A-Za-z0-9_:]+$": "a size such as 1024x1024 or 16:9",
    r"^[a-z][a-z0-9_]*$": "the name of a member, in small letters, digits and _,",
    r"^[a-z][A-Za-z0-9_:]*$": "the name of a member or a tool, in letters, digits, _ and :,",
}
_MAX_SHOWN: Final = 40


class Leaf(msgspec.Struct, frozen=True):
    """One value without parts."""

    kind: type
    """str, int, float, bool, Decimal, or Secret."""
    unit: str | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    least: float | None = None
    most: float | None = None
    min_length: int = 0
    max_length: int | None = None
    is_nullable: bool = False

    def convert(self, value: object) -> object:
        """The value for the document. Raises ValueError, which says what is expected."""
        if self.unit is not None and self.unit in _PARSERS:
            value = self._parse(self.unit, value)
            if self.kind is Decimal:
                return value
        if self.kind is float and type(value) is int:
            value = float(value) if abs(value) < 2**1000 else math.inf
        if type(value) is not self.kind or not self._fits(value):
            self._refuse(value)
        return value

    @staticmethod
    def _parse(unit: str, value: object) -> object:
        try:
            return _PARSERS[unit](value)
        except ValueError as error:
            better = suggest(unit, value)
            if better is None:
                raise
            raise ValueError(f"{error}; write {better}") from None

    def known(self) -> tuple[str, ...]:
        """The only texts that fit; none if others do. Dialects are registered, and so not known once and for all."""
        return (*DIALECTS, *IMAGE_DIALECTS) if self.unit == "dialect" else self.choices

    def _fits(self, value: Any) -> bool:
        if isinstance(value, str):
            return (
                (not self.known() or value in self.known())
                and (self.pattern is None or re.fullmatch(self.pattern, value) is not None)
                and len(value) >= self.min_length
                and (self.max_length is None or len(value) <= self.max_length)
            )
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def _refuse(self, value: object) -> NoReturn:
        if self.known() and isinstance(value, str):
            close = difflib.get_close_matches(value.lower(), self.known(), n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"{shown(value)} is not known here; {hint}use one of {', '.join(self.known())}")
        if self.most is not None and isinstance(value, int) and value > units.MAX_INTEGER:
            raise ValueError(f"a number of at most {units.MAX_INTEGER} is expected here, not {shown(value)}")
        raise ValueError(f"{self.described()} is expected here, not {shown(value)}{self._without_quotes(value)}")

    def _without_quotes(self, value: object) -> str:
        """The hint for a number or a boolean in quotes."""
        if not isinstance(value, str) or self.kind is str:
            return ""
        fits = value in ("true", "false") if self.kind is bool else re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", value)
        return f"; write {value} without quotes" if fits else ""

    def described(self) -> str:
        """The values that fit, in English."""
        if self.kind is bool:
            return "true or false"
        if self.kind is int or self.kind is float:
            return f"{'a whole number' if self.kind is int else 'a number'}{self._range()}"
        words = "text" if self.pattern is None else _PATTERNS.get(self.pattern, f"a text that fits {self.pattern}")
        if self.known():
            words = f"one of {', '.join(self.known())}"
        if self.max_length is not None:
            words += f" of at most {self.max_length} characters"
        return words

    def _range(self) -> str:
        if self.least is None or self.most is None:
            return ""
        if self.most >= units.MAX_INTEGER:
            return f" of {self.least:g} or more"
        return f" from {self.least:g} to {self.most:.10g}"


class Listed(msgspec.Struct, frozen=True):
    """A list of values of one shape."""

    item: Shape
    is_required: bool = False
    """True if it must not be empty."""
    is_nullable: bool = False


class Named(msgspec.Struct, frozen=True):
    """A mapping whose keys are the user's, with values of one shape."""

    value: Shape
    is_nullable: bool = False


class Members(msgspec.Struct, frozen=True):
    """A mapping with known keys. Those of `kind` are found in `members_of`."""

    kind: type[msgspec.Struct]
    is_nullable: bool = False


class Anything(msgspec.Struct, frozen=True):
    """Any value, for a member whose meaning only a provider knows."""

    is_nullable: bool = False


Shape = Leaf | Listed | Named | Members | Anything


class Fields(msgspec.Struct, frozen=True):
    """The members of a struct: the shape of each, and those that must be there."""

    shapes: dict[str, Shape]
    required: tuple[str, ...]


@functools.cache
def members_of(kind: type[msgspec.Struct]) -> Fields:
    """The members of a struct."""
    hints = typing.get_type_hints(kind, include_extras=True)
    required = tuple(field.name for field in msgspec.structs.fields(kind) if field.required)
    return Fields({name: _shape(kind_of(hint)) for name, hint in hints.items()}, required)


def shown(value: object) -> str:
    """A value of the file as a message may repeat it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {str(value)[:_MAX_SHOWN]}"
    text = str(value)
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")


def _shape(kind: Kind) -> Shape:
    if kind.type is Any:
        return Anything()
    if is_section(kind):
        return Members(kind.type, kind.takes_null)
    element = element_of(kind)
    if element is None:
        return _leaf(kind)
    if typing.get_origin(kind.type) is dict:
        return Named(_shape(element), kind.takes_null)
    return Listed(_shape(element), bool(kind.meta and kind.meta.min_length), kind.takes_null)


def _leaf(kind: Kind) -> Leaf:
    meta = kind.meta or msgspec.Meta()
    choices = tuple(map(str, typing.get_args(kind.type))) if typing.get_origin(kind.type) is Literal else ()
    return Leaf(
        str if choices else kind.type,
        unit=kind.unit,
        choices=choices,
        pattern=meta.pattern,
        least=meta.ge,
        most=meta.le,
        min_length=meta.min_length or 0,
        max_length=meta.max_length,
        is_nullable=kind.takes_null,
    )
