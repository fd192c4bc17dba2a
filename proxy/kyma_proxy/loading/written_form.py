"""Turns a configuration into the form in which two are compared: as it is written, key by key.

What came from the environment stands there as the file has it, `${NAME}`, so no value of a variable is in the form. Keys that
have their default are left out. Entries of lists go by their names. A form is made of what JSON has, so that it can be sent.
"""

from __future__ import annotations

import functools
import hmac
import re
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from kyma_proxy.config.substitutions import Substitutions
from kyma_proxy.config.units import Secret
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.kinds import Kind, element_of
from kyma_proxy.loading.known_providers import one_line
from kyma_proxy.loading.reference.fields import default_of, fields_of, written

Form = dict[str, Any]
"""A section by its keys. A mapping's values and a list's entries with names are forms as well; all else is a text."""
_NAMES: Final[Mapping[type, tuple[str, ...]]] = MappingProxyType({
    doc.Provider: ("name",), doc.Model: ("id",), doc.Source: ("provider", "model"), doc.Tier: ("tier",),
})  # fmt: skip
"""The keys that tell the entries of a list apart."""
_NONE: Final = object()
"""Equal to no value."""
_VARIABLE: Final = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"
_OPEN: Final = re.compile(rf"{_VARIABLE}|\[{_VARIABLE}(?:, {_VARIABLE})*\]|null")


def is_open(text: str) -> bool:
    """True if this value of a secret is no more than the names of variables, or none at all."""
    return _OPEN.fullmatch(text) is not None


def has_names(kind: Kind) -> bool:
    """True if this is a list of entries with names."""
    element = element_of(kind)
    return element is not None and element.type in _NAMES


def has_secret(kind: Kind) -> bool:
    """True if values of this type, or in it, may be secret."""
    element = element_of(kind)
    return kind.type in (Secret, typing.Any) if element is None else has_secret(element)


def sealed_with(token: Secret) -> Callable[[str], str]:
    """Replaces a secret by what tells two apart, and nothing else to who lacks the token."""
    key = token.reveal().encode("utf-8", "surrogateescape")
    return lambda secret: hmac.new(key, secret.encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def written_form(document: doc.Document, substitutions: Substitutions, seal: Callable[[str], str]) -> Form:
    """The form of a document; `seal` replaces each secret that is written out."""
    return _section(document, "", _Writer(substitutions.written.get, seal))


class _Writer(NamedTuple):
    """Gives the text of the value at a path, if it names a variable, and seals secrets."""

    text_at: Callable[[str], str | None]
    seal: Callable[[str], str]


class _Type(NamedTuple):
    """The facts about a type, found once, as `typing` is slow."""

    kind: Kind
    element: _Type | None
    has_names: bool
    is_secret: bool


class _Member(NamedTuple):
    """A key of a section; `default` equals nothing if it is required."""

    name: str
    type: _Type
    default: Any
    is_private: bool


@functools.cache
def _members_of(struct: type[msgspec.Struct]) -> tuple[_Member, ...]:
    infos = msgspec.structs.fields(struct)
    return tuple(
        _Member(field.name, _type_of(field.kind), _NONE if info.required else default_of(info), field.key.private)
        for field, info in zip(fields_of(struct), infos, strict=True)
    )


def _type_of(kind: Kind) -> _Type:
    element = element_of(kind)
    return _Type(kind, None if element is None else _type_of(element), has_names(kind), has_secret(kind))


def _section(section: msgspec.Struct, at: str, writer: _Writer) -> Form:
    form: Form = {}
    for name, kind, default, is_private in _members_of(type(section)):
        value = getattr(section, name)
        if value == default:
            continue
        where = f"{at}.{name}" if at else name
        form[name] = _sealed(_text(value, kind, where, writer), writer) if is_private else _form(value, kind, where, writer)
    return form


def _form(value: Any, kind: _Type, at: str, writer: _Writer) -> Any:
    if isinstance(value, msgspec.Struct):
        return _section(value, at, writer)
    if isinstance(value, dict) and kind.element is not None:
        element = kind.element
        return {name: _form(one, element, f"{at}.{name}", writer) for name, one in value.items()}
    if kind.has_names and value is not None:
        return [_entry(one, f"{at}[{index}]", writer) for index, one in enumerate(value)]
    text = _text(value, kind, at, writer)
    return _sealed(text, writer) if kind.is_secret else text


def _entry(entry: msgspec.Struct, at: str, writer: _Writer) -> list[Any]:
    names = [writer.text_at(f"{at}.{name}") or str(getattr(entry, name)) for name in _NAMES[type(entry)]]
    return [" ".join(names), _section(entry, at, writer)]


def _sealed(text: str, writer: _Writer) -> str:
    return text if is_open(text) else writer.seal(text)


def _text(value: Any, kind: _Type, at: str, writer: _Writer) -> str:
    """A value as it is written, with the names of variables."""
    text = writer.text_at(at)
    if text is not None:
        return text
    if isinstance(value, Secret):
        return value.reveal()
    element = kind.element or kind
    if isinstance(value, tuple | list):
        return f"[{', '.join(_text(one, element, f'{at}[{index}]', writer) for index, one in enumerate(value))}]"
    if isinstance(value, dict):
        members = sorted((name, _text(one, element, f"{at}.{name}", writer)) for name, one in value.items())
        return f"{{{', '.join(f'{one_line(name)}: {member}' for name, member in members)}}}"
    if isinstance(value, msgspec.Struct):
        return f"{{{', '.join(f'{name}: {member}' for name, member in _section(value, at, writer).items())}}}"
    return written(value, kind.kind)
