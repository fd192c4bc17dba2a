"""Compares two configurations as they are written, and says what differs, key by key. No secret is in what it says.

Entries of lists are found by their names, so an entry that has moved is not another one. What came from the environment is
shown as it is written: `${NAME}`.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from kyma_proxy.config.reload_result import Change
from kyma_proxy.config.substitutions import Substitutions
from kyma_proxy.config.units import Secret
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.reference.fields import NOT_SHOWN, Kind, element_of, fields_of, is_section, written
from kyma_proxy.loading.reference.key import AT_ONCE, Key

_MOVED: Final = "(in another order)"
_VARIABLES: Final = re.compile(r"(?:\$\{[^{}]*\})+")
_NAMES: Final[Mapping[type, Callable[[Any], str]]] = MappingProxyType({
    doc.Provider: lambda one: str(one.name),
    doc.Model: lambda one: str(one.id),
    doc.Source: lambda one: f"{one.provider} {one.model}",
    doc.Tier: lambda one: str(one.tier),
})  # fmt: skip
"""What tells the entries of a list apart."""


class Written(NamedTuple):
    """A configuration as it is written, and which of its values came from the environment."""

    document: doc.Document
    substitutions: Substitutions


class _Value(NamedTuple):
    """A value of one of the two configurations; `at` is its path there, with numbers for the entries of lists."""

    value: Any
    at: str
    substitutions: Substitutions


class _Place(NamedTuple):
    """The place of a value: its path with names, the type, the innermost key, and the name of the entry around it."""

    path: str
    kind: Kind
    key: Key
    name: str | None


def find_changes(before: Written, after: Written) -> list[Change]:
    """Everything that differs, in the order of the file."""
    return [
        change
        for field in fields_of(doc.Document)
        for change in _compare(
            _Value(getattr(before.document, field.name), field.name, before.substitutions),
            _Value(getattr(after.document, field.name), field.name, after.substitutions),
            _Place(field.name, field.kind, field.key, None),
        )
    ]


def _compare(before: _Value, after: _Value, place: _Place) -> Iterator[Change]:
    if _plain(before.value) == _plain(after.value):
        return
    element = element_of(place.kind)
    if isinstance(before.value, msgspec.Struct) and isinstance(after.value, msgspec.Struct):
        yield from _compare_sections(before, after, place)
    elif isinstance(before.value, dict) and isinstance(after.value, dict) and not place.key.private and element is not None:
        yield from _compare_entries(_members(before), _members(after), place, element)
    elif element is not None and element.type in _NAMES and None not in (before.value, after.value):
        yield from _compare_lists(before, after, place, element)
    else:
        yield Change(
            path=place.path, kind="changed", name=place.name, before=_shown(before, place), after=_shown(after, place),
            reload=place.key.reload,
        )  # fmt: skip


def _compare_sections(before: _Value, after: _Value, place: _Place) -> Iterator[Change]:
    for field in fields_of(place.kind.type):
        yield from _compare(
            _Value(getattr(before.value, field.name), f"{before.at}.{field.name}", before.substitutions),
            _Value(getattr(after.value, field.name), f"{after.at}.{field.name}", after.substitutions),
            _Place(f"{place.path}.{field.name}", field.kind, field.key, place.name),
        )


def _compare_lists(before: _Value, after: _Value, place: _Place, element: Kind) -> Iterator[Change]:
    was, will = _entries(before, element), _entries(after, element)
    if len(was) < len(before.value) or len(will) < len(after.value):  # two of the same name: which is which is not known
        yield Change(path=place.path, kind="changed", name=place.name, before=None, after=None, reload=place.key.reload)
        return
    yield from _compare_entries(was, will, place, element)
    common = [name for name in was if name in will]
    if common != [name for name in will if name in was]:
        yield Change(path=place.path, kind="changed", name=place.name, before=None, after=_MOVED, reload=AT_ONCE)


def _compare_entries(was: Mapping[str, _Value], will: Mapping[str, _Value], place: _Place, element: Kind) -> Iterator[Change]:
    for name in {**was, **will}:
        inner = _Place(f"{place.path}[{name}]", element, place.key, place.name or name)
        if name in was and name in will:
            yield from _compare(was[name], will[name], inner)
            continue
        is_new = name in will
        is_value = not is_section(element)
        yield Change(
            path=inner.path,
            kind="added" if is_new else "removed",
            name=inner.name,
            before=_shown(was[name], inner) if is_value and not is_new else None,
            after=_shown(will[name], inner) if is_value and is_new else None,
            reload=AT_ONCE,
        )


def _entries(some: _Value, element: Kind) -> dict[str, _Value]:
    name = _NAMES[element.type]
    return {name(one): _Value(one, f"{some.at}[{at}]", some.substitutions) for at, one in enumerate(some.value)}


def _members(some: _Value) -> dict[str, _Value]:
    return {name: _Value(one, f"{some.at}.{name}", some.substitutions) for name, one in some.value.items()}


def _shown(some: _Value, place: _Place) -> str | None:
    """The value as people may see it; None if there is none."""
    if some.value is msgspec.UNSET:
        return None
    text = some.substitutions.written.get(some.at)
    if place.key.private or _has_secret(place.kind):
        return text if text is not None and _VARIABLES.fullmatch(text) else ("null" if some.value is None else NOT_SHOWN)
    if text is not None:
        return text
    if any(path.startswith((f"{some.at}[", f"{some.at}.")) for path in some.substitutions.written):
        return NOT_SHOWN
    return some.substitutions.shown(written(some.value, place.kind))


def _has_secret(kind: Kind) -> bool:
    element = element_of(kind)
    return kind.type in (Secret, typing.Any) if element is None else _has_secret(element)


def _plain(value: Any) -> Any:
    """The value, so that two that are written alike are equal."""
    if isinstance(value, Secret):
        return (value.reveal(), value.missing)
    if isinstance(value, msgspec.Struct):
        return [_plain(getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, dict) else value
