"""Reads the types of the document's keys from the annotations of its structs."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, NamedTuple

import msgspec


class Kind(NamedTuple):
    """The type of a value: a Python type or what `typing` makes of one, its bounds, and if null stands for none."""

    type: Any
    meta: msgspec.Meta | None
    takes_null: bool

    @property
    def unit(self) -> str | None:
        """The name of the unit in which the value is written, if it has one."""
        return None if self.meta is None else (self.meta.extra or {}).get("unit")


def kind_of(annotation: Any) -> Kind:
    """The type in an annotation."""
    kind, meta = _without_meta(annotation)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        members = [one for one in typing.get_args(kind) if one is not msgspec.UnsetType]
        (inner,) = (one for one in members if one is not type(None))
        found = kind_of(inner)
        return found._replace(takes_null=type(None) in members)
    return Kind(kind, meta, takes_null=False)


def element_of(kind: Kind) -> Kind | None:
    """The type of a list's entries or of a mapping's values; None for other types."""
    if typing.get_origin(kind.type) is tuple:
        return kind_of(typing.get_args(kind.type)[0])
    if typing.get_origin(kind.type) is dict:
        return kind_of(typing.get_args(kind.type)[1])
    return None


def is_section(kind: Kind) -> bool:
    """True for a mapping with keys of its own."""
    return isinstance(kind.type, type) and issubclass(kind.type, msgspec.Struct)


def _without_meta(annotation: Any) -> tuple[Any, msgspec.Meta | None]:
    if typing.get_origin(annotation) is not Annotated:
        return annotation, None
    kind, *metas = typing.get_args(annotation)
    return kind, next((meta for meta in metas if isinstance(meta, msgspec.Meta)), None)
