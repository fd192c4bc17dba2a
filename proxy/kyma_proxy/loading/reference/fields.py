"""Finds every key of the configuration by its structs, with its type, its default and its place in the file.

The structs are what a file is read with, so a key can be neither missing here nor different.
"""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from kyma_proxy.config.units import AUTO, AUTO_WORKERS, Secret
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.kinds import Kind, element_of, is_section, kind_of
from kyma_proxy.loading.known_providers import one_line
from kyma_proxy.loading.reference.general import GENERAL
from kyma_proxy.loading.reference.key import Key
from kyma_proxy.loading.reference.models import MODELS
from kyma_proxy.loading.reference.providers import PROVIDERS

KEYS: Final[Mapping[type, Mapping[str, Key]]] = MappingProxyType({**GENERAL, **PROVIDERS, **MODELS})
"""The keys of every section, by the struct that it is read with."""
NOT_SHOWN: Final = "(not shown)"
"""Stands for a value that may be a secret."""
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_SECOND_UNITS: Final = ((3600, "h"), (60, "m"), (1, "s"))
_BYTE_UNITS: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class Field(NamedTuple):
    """A key in its section: its name, its type, the reference's words, and what stands for it if it is left out."""

    name: str
    kind: Kind
    key: Key
    is_required: bool
    default: str | None
    """As it is written in YAML; None if that can't be written."""


class Section(NamedTuple):
    """A section: the struct, the paths at which it stands in the file, and its keys."""

    struct: type[msgspec.Struct]
    paths: tuple[str, ...]
    fields: tuple[Field, ...]


@functools.cache
def fields_of(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The keys of a section, in the order of the file."""
    hints = typing.get_type_hints(struct, include_extras=True)
    return tuple(
        Field(
            name=field.name,
            kind=(kind := kind_of(hints[field.name])),
            key=(key := KEYS[struct][field.name]),
            is_required=field.required,
            default=None if field.required or key.default is not None else written(default_of(field), kind),
        )
        for field in msgspec.structs.fields(struct)
    )


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The value of a field that is left out."""
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


@functools.cache
def sections() -> tuple[Section, ...]:
    """Every section, in the order in which a reader meets them."""
    found: dict[type[msgspec.Struct], list[str]] = {}
    for struct, path in _walk(doc.Document, ""):
        found.setdefault(struct, []).append(path)
    return tuple(Section(struct, tuple(paths), fields_of(struct)) for struct, paths in found.items())


def key_at(path: str) -> Key:
    """The key at a path that goes through no list. Raises KeyError."""
    struct: Any = doc.Document
    *sections_above, last = path.split(".")
    for name in sections_above:
        struct = next(field.kind.type for field in fields_of(struct) if field.name == name)
    return KEYS[struct][last]


def _walk(struct: type[msgspec.Struct], path: str) -> Iterator[tuple[type[msgspec.Struct], str]]:
    yield struct, path
    for field in fields_of(struct):
        at = f"{path}.{field.name}" if path else field.name
        kind = field.kind
        while (element := element_of(kind)) is not None:
            at += "[]" if typing.get_origin(kind.type) is tuple else ".NAME"
            kind = element
        if is_section(kind):
            yield from _walk(kind.type, at)


def written(value: Any, kind: Kind) -> str:
    """A value as it is written in YAML; a list or a mapping on one line, without secrets."""
    if value is None or value is msgspec.UNSET:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind.unit in ("duration", "delay"):
        return _duration(value, is_delay=kind.unit == "delay")
    if kind.unit == "workers":
        return "auto" if value == AUTO_WORKERS else str(value)
    if kind.unit == "size":
        return next((f"{value // size}{unit}" for size, unit in _BYTE_UNITS if value and value % size == 0), str(value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Secret):
        return NOT_SHOWN
    element = element_of(kind) or kind
    if isinstance(value, tuple | list):
        return f"[{', '.join(written(one, element) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {written(one, element)}' for name, one in value.items())}}}"
    if isinstance(value, msgspec.Struct):
        return _section(value)
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """A text as YAML has it; most need no quotes, and YAML's writer is slow."""
    is_plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    return text if is_plain else one_line(text)


def _section(value: msgspec.Struct) -> str:
    given = [
        f"{one.name}: {NOT_SHOWN if known.key.private else written(getattr(value, one.name), known.kind)}"
        for one, known in zip(msgspec.structs.fields(value), fields_of(type(value)), strict=True)
        if one.required or getattr(value, one.name) != default_of(one)
    ]
    return f"{{{', '.join(given)}}}"


def _duration(seconds: float, *, is_delay: bool) -> str:
    if seconds == AUTO:
        return "auto" if is_delay else "0"
    for size, unit in _SECOND_UNITS:
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms"
